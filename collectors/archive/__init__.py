"""Archives: a recording that somebody packed, read without trusting how it was packed."""

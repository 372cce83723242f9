"""What a reader must know about the capture before believing any verdict on it."""

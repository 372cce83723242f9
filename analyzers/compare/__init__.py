"""Two lists of recordings in, one answer out: faster or not, where, and how surely."""

"""Captures: what is run, how far it is, what became of it."""

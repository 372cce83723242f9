"""Simulated programs whose trouble is known, and recordings of them."""

"""Measurements of speed and memory; each prints its figures last."""

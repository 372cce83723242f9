"""Reads what the torch profiler recorded."""

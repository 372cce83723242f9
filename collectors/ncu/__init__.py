"""Reads what Nsight Compute recorded."""

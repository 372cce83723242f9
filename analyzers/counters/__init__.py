"""What counters say about the inside of kernels, and to which launches they belong."""

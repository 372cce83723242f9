"""What counters of Nsight Compute say about the inside of kernels, and to which launches they belong."""

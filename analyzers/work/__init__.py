"""The account of the busy time: what kernels do, how much work that is, what the device allows."""

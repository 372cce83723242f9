"""What is said about each kernel: its table, its card, the command that examines it."""

"""What a recording says, derived once: one row an operation, windows, steps, operators."""

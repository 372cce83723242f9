"""The child process in which recordings are read and analysed, under limits."""

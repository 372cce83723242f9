"""Samples GPUs and processes while a program runs, and reads the samples."""

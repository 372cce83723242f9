"""Runs a program under a profiler, and leaves no process behind."""

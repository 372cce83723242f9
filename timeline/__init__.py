"""The timeline: its index, its lanes, and what a view of it shows."""

"""The closed account of a window: every nanosecond of a device booked to one cause."""

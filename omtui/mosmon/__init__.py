"""The monitor: one bar per node."""

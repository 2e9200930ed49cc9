"""The processes: where each runs, and sending them elsewhere."""

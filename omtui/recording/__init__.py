"""What was: the cluster as it was recorded, in one SQLite file."""

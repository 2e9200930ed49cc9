"""The cluster: a row per node."""

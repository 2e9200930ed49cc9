"""openMosix again, in user space: running, unmodified Linux processes move between nodes."""

__version__ = "0.1.0"

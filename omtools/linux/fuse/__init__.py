"""File systems in user space without libfuse: the protocol of /dev/fuse, mounting, and the serving loop."""

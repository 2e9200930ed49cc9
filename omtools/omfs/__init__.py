"""oMFS, the cluster's file system: one node serves its files to another, with all of POSIX."""

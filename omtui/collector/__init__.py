"""openMosixcollector: records the cluster."""

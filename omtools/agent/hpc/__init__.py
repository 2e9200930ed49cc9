"""What was /proc/hpc and openMosix's part of /proc/PID: the cluster as files for cat and echo."""

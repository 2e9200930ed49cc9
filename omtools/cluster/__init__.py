"""What a node knows of the cluster and decides from it; the deciding parts do no I/O."""

"""omsh: a shell on the nodes of a cluster, and the workshop that is held in it."""

"""Process 1 of a lab, and of each node: holds the namespaces and lets nothing remain a zombie.

Run as a script by an isolated interpreter that imports nothing else (`python -I -S init.py NAME DIR`): NAME
and DIR are there for people who read `ps`. It lives until it is killed; the kernel then kills everything
else in its pid namespace, and with that the mounts, links and addresses of its other namespaces go too.
A third argument is a descriptor, the end of a pipe, whose other end keeps it alive.
"""

import os
import signal
import sys

# With SIGCHLD ignored the kernel itself reaps the orphans that a pid namespace hands to its process 1.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if len(sys.argv) > 3:
    os.read(int(sys.argv[3]), 1)
    sys.exit()
while True:
    signal.pause()

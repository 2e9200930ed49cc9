"""Into the network of a lab in which this machine is mCii: `reach PID ADDRESS PORT`, a proxy command of SSH.

It carries bytes between its standard files and a TCP port, as seen from the namespaces of process PID.
"""

from __future__ import annotations

import os
import select
import socket
import sys

from omtools.linux.namespaces import enter


def main() -> None:
    """Connect, and carry bytes until either side has no more."""
    pid, address, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    enter(pid, ("user", "net"))
    with socket.create_connection((address, port), timeout=30) as there:
        there.setblocking(True)
        while True:
            ready, _w, _x = select.select([there.fileno(), 0], [], [])
            if there.fileno() in ready:
                data = there.recv(65536)
                if not data:
                    return
                while data:
                    data = data[os.write(1, data) :]
            if 0 in ready:
                typed = os.read(0, 65536)
                if not typed:
                    return
                there.sendall(typed)

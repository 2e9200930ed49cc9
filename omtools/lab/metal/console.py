"""Attaching to a machine's serial console."""

from __future__ import annotations

import os
import select
import socket
import sys

from omtools.errors import LabNotUp
from omtools.lab.metal.lab import MetalLab, exchange
from omtools.lab.metal.way import raw_terminal

DETACH = b"\x1d"  # Ctrl-], as telnet has it


def attach(lab: MetalLab, word: str, *, watch: bool = False) -> int:
    """Show a machine's console, and type on it, until Ctrl-] or the end of the lab.

    Args:
        lab: the lab.
        word: the machine's name or number.
        watch: only show; what is typed here goes nowhere.
    """
    name = lab.node(word)["name"]
    with lab.connect() as connection:
        exchange(connection, {"do": "console", "node": name})
        with raw_terminal():
            return _relay(connection, watch)


def _relay(connection: socket.socket, watch: bool) -> int:
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    sources = [connection.fileno(), keyboard]
    while True:
        ready, _w, _x = select.select(sources, [], [])
        if connection.fileno() in ready:
            data = connection.recv(65536)
            if not data:
                raise LabNotUp
            while data:
                data = data[os.write(screen, data) :]
        if keyboard in ready:
            typed = os.read(keyboard, 4096)
            before, detach, _after = typed.partition(DETACH)
            if before and not watch:
                connection.sendall(before)
            if detach:
                return 0
            if not typed:
                sources.remove(keyboard)  # nobody types any more; the screen goes on

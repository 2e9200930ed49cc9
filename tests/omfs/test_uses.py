"""Who uses whose files by way of the mount."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from omtools.omfs.fuse_nodes import MountNode
from omtools.omfs.orders import Use
from omtools.omfs.uses import Uses, node_of


def test_sums_by_process_and_node() -> None:
    uses = Uses()

    def of_a_thread() -> None:
        uses.add(threading.get_native_id(), 3, 0, 7)

    uses.add(os.getpid(), 3, 100, 0)
    uses.add(os.getpid(), 2, 1, 0)
    thread = threading.Thread(target=of_a_thread)
    thread.start()
    thread.join()
    uses.add(os.getpid(), 3, 10, 0)
    assert sorted(uses.told(), key=lambda use: use.node) == [Use(os.getpid(), 2, 1, 0, 1), Use(os.getpid(), 3, 110, 7, 3)]


def test_who_has_ended_is_forgotten() -> None:
    uses = Uses()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        uses.add(other.pid, 3, 100, 0)
        assert uses.told() == [Use(other.pid, 3, 100, 0, 1)]
        other.communicate(b"\n")
    assert uses.told() == []


def test_whose_a_file_is() -> None:
    root = MountNode(1, None, b"", (0, 0, 0))
    three = MountNode(2, root, b"3", (0, 0, 0))
    file = MountNode(4, MountNode(3, three, b"home", (0, 0, 0)), b"77", (0, 0, 0))
    assert (node_of(file), node_of(three), node_of(root)) == (3, 3, 0)
    assert node_of(MountNode(5, MountNode(6, root, b"magic", (0, 0, 0)), b"2", (0, 0, 0))) == 0

"""Whose rights a request has."""

from __future__ import annotations

import os
import subprocess
import sys

from omtools.omfs.rights import Groups, Rights


def test_what_sets_rights_apart() -> None:
    assert Rights(1000).mark(1000, [4]) == ""
    assert Rights(1000, 1000, "4 24").mark(1000, [24, 4, 1000]) == ""
    assert Rights(1000, 1000, "4 24 1000").mark(1000, [24, 4]) == ""
    assert Rights(0, 0).mark(0, None) == ""
    marks = [
        Rights(1000, 1000, "4 24").mark(1000, [4]),
        Rights(1000, 1000, "").mark(1000, [4]),
        Rights(1000, 4, "24").mark(1000, [4, 24]),
        Rights(0, 5).mark(0, None),
    ]
    assert len(set(marks)) == 4
    assert all(marks)
    assert Rights(1, 1, "9 7 9").mark(1, []) == Rights(1, 1, "7 9").mark(1, [])
    assert Rights(1, 1, "9 7 9").numbers == (7, 9)


CHILD = """
import os, sys
if os.geteuid() == 0:
    os.setgroups([7, *range(100_000, 100_900)])
print(" ".join(str(group) for group in sorted(os.getgroups())), flush=True)
sys.stdin.readline()
if os.geteuid() == 0:
    os.setgroups([9])
print(" ".join(str(group) for group in sorted(os.getgroups())), flush=True)
sys.stdin.readline()
"""


def test_groups_of_a_process_at_any_time() -> None:
    groups = Groups()
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for _time in range(2):
            expected = child.stdout.readline().strip()
            assert groups.of(child.pid) == expected == groups.of(child.pid)
            child.stdin.write("\n")
            child.stdin.flush()
    assert groups.of(child.pid) is None
    mine = groups.of(os.getpid())
    assert mine is not None
    assert sorted(map(int, mine.split())) == sorted(os.getgroups())

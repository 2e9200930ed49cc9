"""Looked at from outside: a child process with files open in all ways."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omtools.image.model import OpenFile
from omtools.migration.openfiles import look, own_files, still_open

PROGRAM = """
import os, sys
os.chdir(sys.argv[1])
a = os.open("a", os.O_RDWR | os.O_CREAT); os.write(a, b"12345"); os.lseek(a, 2, 0)
b = os.dup(a)
c = os.open("a", os.O_RDONLY)
d = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND); os.write(d, b"xyz")
e = os.open("gone", os.O_RDWR | os.O_CREAT); os.unlink("gone")
f = os.open(".", os.O_RDONLY)
g = os.open("/proc/self/status", os.O_RDONLY)
h = os.open("a", os.O_PATH)
i = os.open("both", os.O_RDWR | os.O_CREAT)
ends = os.pipe()
child = os.fork()
if child == 0:
    for number in (a, b, c, d, ends[1]):
        os.close(number)
    os.read(ends[0], 1)
    os._exit(0)
print(a, b, c, d, e, f, g, h, i, flush=True)
sys.stdin.readline()
os.lseek(c, 4, 0); os.close(d)
print("next", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_which_files_are_its_own(opener: subprocess.Popen[str], tmp_path: Path) -> None:
    a, b, c, d, e, f, g, h, i = map(int, said(opener).split())
    inode = (tmp_path / "a").stat().st_ino
    files = own_files(opener.pid)
    assert [file.numbers for file in files] == [(a, b), (c,), (d,)]
    assert (files[0].path, files[0].inode) == (str(tmp_path / "a"), inode)
    assert files[2].flags & (os.O_ACCMODE | os.O_APPEND) == os.O_WRONLY | os.O_APPEND
    assert [file.position for file in still_open(opener.pid, files)] == [2, 0, 3]
    for number in (e, f, g, h, 99):
        assert look(opener.pid, number) is None
    assert isinstance(look(opener.pid, i), OpenFile)  # shared with its child: a question that `own_files` asks
    assert opener.stdin is not None
    opener.stdin.write("\n")
    opener.stdin.flush()
    assert said(opener) == "next"
    kept = still_open(opener.pid, files)
    assert [(file.numbers, file.position) for file in kept] == [((a, b), 2), ((c,), 4)]
    (tmp_path / "a").unlink()
    assert still_open(opener.pid, files) == []


def test_a_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert own_files(process.pid) == []

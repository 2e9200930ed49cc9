"""Locks: between owners, between clients, and with processes that know nothing of oMFS."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omfs.support import local, refused, service
from omtools.omfs.client import RemoteFiles
from omtools.omfs.operations import MAX_OFFSET, NOBODY, ROOT, Files, Interrupt, Lock

READ, WRITE, NONE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
CLIENTS = ["one session", "two sessions", "two servers"]


class Client:
    """One lock owner of one client."""

    def __init__(self, files: Files, owner: int, top: Path) -> None:
        self.files, self.owner = files, owner
        (top / "f").touch()
        self.node = files.lookup(NOBODY, ROOT, b"f").node
        self.file = files.open(NOBODY, self.node, os.O_RDWR)

    def set(self, lock: Lock, wait: bool = False, interrupt: Interrupt | None = None) -> None:
        self.files.setlk(self.file, self.owner, lock, wait, interrupt)

    def get(self, lock: Lock) -> Lock | None:
        return self.files.getlk(self.file, self.owner, lock)

    def flush(self) -> None:
        self.files.flush(self.file, self.owner)


@pytest.fixture(params=CLIENTS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Client, Client]]:
    with contextlib.ExitStack() as stack:
        first = second = stack.enter_context(service(tmp_path))
        if request.param == "two servers":
            second = stack.enter_context(service(tmp_path))
        one = two = RemoteFiles(first.connect, 60)
        stack.callback(one.close)
        if request.param != "one session":
            two = RemoteFiles(second.connect, 60)
            stack.callback(two.close)
        yield Client(one, 11, tmp_path), Client(two, 22, tmp_path)


def in_thread(call: Callable[[], None]) -> tuple[threading.Thread, list[object]]:
    """Run it; its outcome comes into the list."""
    outcome: list[object] = []

    def run() -> None:
        try:
            call()
            outcome.append("done")
        except OSError as error:
            outcome.append(error.errno)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_two_owners_conflict(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.set(Lock(WRITE, 0, 9))
    refused(errno.EAGAIN, two.set, Lock(READ, 9, 20))
    two.set(Lock(WRITE, 10, 20))
    one.set(Lock(READ, 0, 5))  # one's own never conflict
    assert two.get(Lock(WRITE)) == Lock(READ, 0, 5, -1)
    assert one.get(Lock(WRITE)) == Lock(WRITE, 10, 20, -1)
    assert two.get(Lock(READ, 0, 5)) is None
    two.set(Lock(READ, 0, 5))
    refused(errno.EAGAIN, two.set, Lock(WRITE, 0, 5))
    one.set(Lock(NONE))
    two.set(Lock(WRITE, 0, MAX_OFFSET))


def test_the_process_that_holds_it_is_named(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.set(Lock(WRITE, 5, 9, pid=4711))
    found = two.get(Lock(READ, 0, 7))
    assert found in {Lock(WRITE, 5, 9, 4711), Lock(WRITE, 5, 9, -1)}
    assert found is not None
    assert (found.pid == 4711) == (one.files is two.files)  # the other machine's mean nothing here


def test_a_deadlock_is_refused(pair: tuple[Client, Client], request: pytest.FixtureRequest) -> None:
    one, two = pair
    one.set(Lock(WRITE, 0, 0))
    two.set(Lock(WRITE, 1, 1))
    interrupt = Interrupt()
    thread, outcome = in_thread(lambda: one.set(Lock(WRITE, 1, 1), True, interrupt))
    while one.files is two.files or "sessions" in request.node.name:  # till it is known there that the first waits
        with pytest.raises(OSError, match=r"deadlock|Interrupted") as caught:
            two.set(Lock(READ, 0, 0), True, one_moment())
        if caught.value.errno == errno.EDEADLK or outcome:
            break
    two.flush()  # and so they end
    thread.join(60)
    # Whoever comes to wait while the other waits is told: the first one too, in a moment when the second does.
    assert outcome in (["done"], [errno.EDEADLK])


def one_moment() -> Interrupt:
    """Broken off before it begins to wait."""
    interrupt = Interrupt()
    interrupt.fire()
    return interrupt


def test_an_open_file_whose_mode_was_changed_can_be_locked(pair: tuple[Client, Client], tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root is not forbidden anything")
    one, two = pair
    (tmp_path / "f").chmod(0o400)
    one.set(Lock(WRITE, 0, 9))
    refused(errno.EAGAIN, two.set, Lock(WRITE, 5, 5))
    one.flush()
    two.set(Lock(WRITE, 5, 5))


def test_closing_any_descriptor_ends_the_owners_locks(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.set(Lock(WRITE))
    other = one.files.open(NOBODY, one.node, os.O_RDONLY)
    refused(errno.EAGAIN, two.set, Lock(WRITE))
    one.files.flush(other, one.owner)
    two.set(Lock(WRITE))
    two.files.release(two.file)  # the last one, without a flush
    one.set(Lock(WRITE))


def test_the_lock_must_fit_the_open_file(pair: tuple[Client, Client]) -> None:
    one, _two = pair
    reader = one.files.open(NOBODY, one.node, os.O_RDONLY)
    writer = one.files.open(NOBODY, one.node, os.O_WRONLY)
    refused(errno.EBADF, one.files.setlk, reader, 1, Lock(WRITE))
    refused(errno.EBADF, one.files.setlk, writer, 1, Lock(READ))
    one.files.setlk(reader, 1, Lock(READ))
    one.files.setlk(writer, 1, Lock(WRITE))  # the same owner: its read lock becomes a write lock
    refused(errno.EINVAL, one.files.setlk, reader, 1, Lock(READ, 5, 4))


def test_waiting_ends_when_the_lock_is_free(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.set(Lock(WRITE))
    thread, outcome = in_thread(lambda: two.set(Lock(WRITE, 5, 5), wait=True))
    assert two.files.getattr(NOBODY, two.node).size == 0  # nobody else waits with it
    assert outcome == []
    one.flush()
    thread.join(60)
    assert outcome == ["done"]
    refused(errno.EAGAIN, one.set, Lock(WRITE))


@pytest.mark.parametrize("early", [True, False])
def test_waiting_can_be_broken_off(pair: tuple[Client, Client], early: bool) -> None:
    one, two = pair
    one.set(Lock(WRITE))
    interrupt = Interrupt()
    if early:
        interrupt.fire()
    thread, outcome = in_thread(lambda: two.set(Lock(WRITE), True, interrupt))
    interrupt.fire()
    thread.join(60)
    assert outcome == [errno.EINTR]
    assert two.files.getattr(NOBODY, two.node).size == 0  # the connection is good still
    one.set(Lock(NONE))
    one.set(Lock(WRITE))  # nothing was left behind that would forbid it


def test_flock_is_the_open_files(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.files.flock(one.file, fcntl.LOCK_EX)
    refused(errno.EWOULDBLOCK, two.files.flock, two.file, fcntl.LOCK_SH)
    again = one.files.open(NOBODY, one.node, os.O_RDWR)
    refused(errno.EWOULDBLOCK, one.files.flock, again, fcntl.LOCK_EX)
    thread, outcome = in_thread(lambda: two.files.flock(two.file, fcntl.LOCK_EX, True))
    one.set(Lock(WRITE))  # the other kind of lock
    one.files.release(one.file)
    thread.join(60)
    assert outcome == ["done"]
    interrupt = Interrupt()
    thread, outcome = in_thread(lambda: one.files.flock(again, fcntl.LOCK_EX, True, interrupt))
    interrupt.fire()
    thread.join(60)
    assert outcome == [errno.EINTR]


def test_a_client_that_dies_leaves_no_lock(tmp_path: Path) -> None:
    with service(tmp_path) as running, local(tmp_path) as other:
        dying = Client(RemoteFiles(running.connect, 60), 1, tmp_path)
        dying.set(Lock(WRITE))
        waiting = Client(other, 1, tmp_path)
        thread, outcome = in_thread(lambda: waiting.set(Lock(WRITE), wait=True))
        dying.files.close()
        thread.join(60)
        assert outcome == ["done"]


def test_a_client_that_dies_waiting_does_not_get_it(tmp_path: Path) -> None:
    with service(tmp_path) as running, local(tmp_path) as other:
        holder = Client(other, 1, tmp_path)
        holder.set(Lock(WRITE))
        dying = Client(RemoteFiles(running.connect, 60), 1, tmp_path)
        thread, outcome = in_thread(lambda: dying.set(Lock(WRITE), wait=True))
        while not any(each.name == "omfs-lock" for each in threading.enumerate()):
            assert thread.is_alive()
        dying.files.close()
        thread.join(60)
        assert outcome == [errno.EIO]
        while waiting := [each for each in threading.enumerate() if each.name == "omfs-lock"]:
            if waiting[0].ident is not None:
                waiting[0].join(60)
        holder.flush()
        assert holder.get(Lock(WRITE)) is None


HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
getattr(fcntl, sys.argv[2])(fd, fcntl.LOCK_EX)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["lockf", "flock"])
def test_with_a_process_of_the_owners_machine(pair: tuple[Client, Client], tmp_path: Path, kind: str) -> None:
    one, _two = pair
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "f"), kind],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        if kind == "lockf":
            assert one.get(Lock(READ)) == Lock(WRITE, 0, MAX_OFFSET, pid)
            refused(errno.EAGAIN, one.set, Lock(WRITE))
            thread, outcome = in_thread(lambda: one.set(Lock(WRITE), wait=True))
        else:
            refused(errno.EAGAIN, one.files.flock, one.file, fcntl.LOCK_EX)
            thread, outcome = in_thread(lambda: one.files.flock(one.file, fcntl.LOCK_EX, True))
        process.stdin.close()
        thread.join(60)
        assert outcome == ["done"]
    if kind == "lockf":
        ours = os.open(tmp_path / "f", os.O_RDWR)
        refused(errno.EAGAIN, fcntl.lockf, ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(ours)


def test_who_gave_up_waiting_keeps_nothing(pair: tuple[Client, Client]) -> None:
    one, two = pair
    one.set(Lock(WRITE, 0, 0))
    two.set(Lock(WRITE, 1, 1))
    refused(errno.EINTR, two.set, Lock(WRITE, 0, 0), True, one_moment())
    two.flush()
    one.set(Lock(WRITE, 1, 1))

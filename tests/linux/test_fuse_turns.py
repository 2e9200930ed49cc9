"""omtools.linux.fuse.turns without a kernel: a socket is the device."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Opcode
from omtools.linux.fuse.handler import Request
from omtools.linux.fuse.turns import LIMIT, Turns

SECONDS = 30


class Mount:
    """A device, what is done with its requests, and which threads have done it."""

    def __init__(self) -> None:
        self.kernel, self._device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.turns = Turns(self._device.fileno(), self._serve, self._gone, self._enter, self._log)
        self.work: dict[int, Callable[[], object]] = {}
        self.served: queue.Queue[int] = queue.Queue()
        self.by: dict[int, int] = {}
        self.said: list[str] = []
        self._running = 0
        self._lock = threading.Lock()
        self.over = threading.Event()

    def _serve(self, request: Request) -> None:
        self.by[request.unique] = threading.get_ident()
        self.work.get(request.unique, int)()
        self.served.put(request.unique)

    def _enter(self) -> None:
        with self._lock:
            self._running += 1

    def _gone(self) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self.over.set()

    def _log(self, sentence: str, error: BaseException) -> None:
        self.said.append(f"{sentence}: {error}")

    def ask(self, unique: int, opcode: Opcode = Opcode.GETATTR, work: Callable[[], object] | None = None) -> None:
        if work is not None:
            self.work[unique] = work
        body = bytes(40)
        self.kernel.send(abi.HEADER_IN.pack(40 + len(body), opcode, unique, 1, 0, 0, 1, 0, 0) + body)

    def next(self) -> int:
        return self.served.get(timeout=SECONDS)

    def close(self) -> None:
        self.kernel.close()
        assert self.over.wait(SECONDS)
        self._device.close()


@pytest.fixture
def mount() -> Iterator[Mount]:
    made = Mount()
    made.turns.start()
    yield made
    made.close()
    for thread in threading.enumerate():
        if thread.name.startswith("fuse"):
            thread.join(SECONDS)
            assert not thread.is_alive()
    assert made.said == []


def test_one_thread_does_what_comes_one_after_the_other(mount: Mount) -> None:
    for unique in range(200):
        mount.ask(unique)
        assert mount.next() == unique
    assert max(Counter(mount.by.values()).values()) > 100  # another one if the machine stood still for a while


def test_who_waits_for_an_answer_lets_others_be_served(mount: Mount) -> None:
    reading, writing = os.pipe()
    waited: list[bool] = []
    mount.ask(1, work=lambda: waited.append(mount.turns.wait(reading, SECONDS) and os.read(reading, 1) == b"x"))
    for unique in range(2, 20):
        mount.ask(unique)
        assert mount.next() == unique
    os.write(writing, b"x")
    assert mount.next() == 1
    assert waited == [True]
    assert mount.by[1] != mount.by[19]
    os.close(reading)
    os.close(writing)


def test_a_wait_has_an_end_and_a_thread_that_does_not_lead_is_not_made_to_wait(mount: Mount) -> None:
    reading, writing = os.pipe()
    waited: list[bool] = []
    mount.ask(1, work=lambda: waited.append(mount.turns.wait(reading, 0.01)))
    assert mount.next() == 1
    assert waited == [False]
    assert mount.turns.wait(reading, SECONDS)
    os.close(reading)
    os.close(writing)


def test_who_says_that_it_may_take_long_is_replaced_first(mount: Mount) -> None:
    go = threading.Event()

    def long() -> None:
        mount.turns.step_aside()
        mount.turns.step_aside()  # does no harm
        assert go.wait(SECONDS)

    mount.ask(1, work=long)
    mount.ask(2, Opcode.FSYNC, lambda: go.wait(SECONDS))
    mount.ask(3)
    assert mount.next() == 3
    go.set()
    assert sorted([mount.next(), mount.next()]) == [1, 2]


def test_many_who_are_held_up_without_a_word_hold_up_nobody_else(mount: Mount) -> None:
    go = threading.Event()
    held = range(LIMIT - 4)
    for unique in held:
        mount.ask(unique, work=lambda: go.wait(SECONDS))
    for unique in range(100, 120):
        mount.ask(unique)
        assert mount.next() == unique
    go.set()
    assert sorted(mount.next() for _one in held) == list(held)
    mount.ask(200)
    assert mount.next() == 200


def test_what_nobody_waits_for_is_put_off_but_not_for_long(mount: Mount) -> None:
    reading, writing = os.pipe()
    mount.ask(1, Opcode.RELEASE)
    mount.ask(2, Opcode.FORGET)
    mount.ask(3, work=lambda: mount.turns.wait(reading, SECONDS) and os.read(reading, 1))
    assert sorted([mount.next(), mount.next()]) == [1, 2]  # whether there is an answer or not
    mount.ask(4, Opcode.RELEASE)
    assert mount.next() == 4
    for unique in range(100, 400):
        mount.ask(unique, Opcode.FORGET)
    assert sorted(mount.next() for _one in range(300)) == list(range(100, 400))
    os.write(writing, b"x")
    assert mount.next() == 3
    os.close(reading)
    os.close(writing)


def test_stopping_lets_go_of_those_who_stand_by() -> None:
    mount = Mount()
    mount.turns.start()
    go = threading.Event()
    for unique in range(4):
        mount.ask(unique, work=lambda: go.wait(SECONDS))
    mount.ask(5)
    assert mount.next() == 5
    go.set()
    assert sorted(mount.next() for _one in range(4)) == [0, 1, 2, 3]
    mount.turns.stop()
    mount.ask(6)  # is read by the one that waited for it
    mount.close()

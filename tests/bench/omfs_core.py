"""How fast oMFS is beside the bare connection it runs over: `python tests/bench/omfs_core.py [directory]`.

A server and a client, each a process of its own, speak TLS over loopback. Each operation is measured in turn
with a blocking TLS ping-pong of the same sizes between the same two processes, so that the ratios hold on a
noisy machine too. The figures are medians.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

from omtools.agent.certificates import make_identity
from omtools.migration.orders import Credentials, Endpoint
from omtools.omfs.client import RemoteFiles
from omtools.omfs.exports import only
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import NOBODY, ROOT
from omtools.omfs.secured import Listening, connect
from omtools.omfs.server import Sessions, serve
from omtools.omfs.stream import Stream

MIB = 1 << 20
ROUNDS, LARGE_ROUNDS, TURNS = 300, 40, 7
_SIZES = struct.Struct("<II")  # of what follows, of what shall come back


def _fill(stream: Stream, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        count = stream.recv_into(buffer[done:])
        if not count:
            raise EOFError
        done += count


def _echo(stream: Stream) -> None:
    head, body = memoryview(bytearray(_SIZES.size)), memoryview(bytearray(MIB))
    with contextlib.suppress(EOFError, OSError):  # the client has done
        while True:
            _fill(stream, head)
            coming, wanted = _SIZES.unpack(head)
            _fill(stream, body[:coming])
            stream.sendall(body[:wanted])


def _serve(listener: Listening, directory: str) -> None:
    sessions = Sessions(lambda: LocalFiles(only(directory)))
    for number in itertools.count(1):
        stream = listener.secure(listener.accept(600))
        first = number == 1  # the client's first connection is for the ping-pong
        work = partial(_echo, stream) if first else partial(serve, stream, sessions)
        threading.Thread(target=work, daemon=True).start()


class PingPong:
    """The bare connection."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = memoryview(bytearray(MIB))

    def turn(self, sent: int, received: int) -> None:
        """So many bytes there, so many back."""
        if sent <= 1 << 15:
            self._stream.sendall(_SIZES.pack(sent, received) + bytes(sent))
        else:
            self._stream.sendall(_SIZES.pack(sent, received))
            self._stream.sendall(self._buffer[:sent])
        _fill(self._stream, self._buffer[:received])

    def turns(self, sizes: tuple[tuple[int, int], ...]) -> None:
        """Several, one after the other."""
        for sent, received in sizes:
            self.turn(sent, received)


def _microseconds(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _round in range(rounds):
        began = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1000


Operation: TypeAlias = tuple[Callable[[], object], tuple[tuple[int, int], ...], int]


def _operations(files: RemoteFiles) -> dict[str, Operation]:
    """Name: what to do, sizes of its round trips, how often."""
    entry, file = files.create(NOBODY, ROOT, b"large", os.O_RDWR, 0o644)
    data = memoryview(os.urandom(MIB))
    files.write(file, 0, data)
    small, large = memoryview(bytearray(4096)), memoryview(bytearray(MIB))
    entry_size = 92

    def open_read_close() -> None:
        opened = files.open(NOBODY, entry.node, os.O_RDONLY)
        files.read_into(opened, 0, small)
        files.release(opened)

    def create_unlink() -> None:
        made = files.create(NOBODY, ROOT, b"new", os.O_RDWR | os.O_EXCL, 0o644)
        files.release(made.file)
        files.unlink(NOBODY, ROOT, b"new")
        files.forget([(made.entry.node, 1)])

    return {
        "getattr": (lambda: files.getattr(NOBODY, entry.node), ((28, entry_size),), ROUNDS),
        "lookup": (lambda: files.lookup(NOBODY, ROOT, b"large"), ((25, entry_size + 8),), ROUNDS),
        "read 4 KiB": (lambda: files.read_into(file, 0, small), ((32, 4108),), ROUNDS),
        "write 4 KiB": (lambda: files.write(file, 0, data[:4096]), ((4125, 16),), ROUNDS),
        "open + read 4 KiB + close": (open_read_close, ((24, 20), (32, 4108), (20, 12)), ROUNDS),
        "create + close + unlink": (create_unlink, ((40, 120), (20, 12), (23, 12)), ROUNDS),
        "read 1 MiB": (lambda: files.read_into(file, 0, large), ((32, MIB),), LARGE_ROUNDS),
        "write 1 MiB": (lambda: files.write(file, 0, data), ((MIB, 16),), LARGE_ROUNDS),
    }


def main(directory: str) -> None:
    """Measure and print."""
    server, client = make_identity("server"), make_identity("client")
    listener = Listening("127.0.0.1", Credentials(server.certificate, server.key, client.certificate))
    child = os.fork()
    if child == 0:
        _serve(listener, directory)
        os._exit(0)
    endpoint = Endpoint("127.0.0.1", listener.port)
    streams: list[Stream] = []

    def dial() -> Stream:
        streams.append(connect(endpoint, Credentials(client.certificate, client.key, server.certificate)))
        return streams[-1]

    bare = PingPong(dial())
    files = RemoteFiles(dial, patience=60)
    table = Table("operation", "oMFS µs", "TLS µs", "ratio", "oMFS MB/s", "TLS MB/s")
    try:
        for name, (work, sizes, rounds) in _operations(files).items():
            ours, theirs = [], []
            for _turn in range(TURNS):
                ours.append(_microseconds(work, rounds))
                theirs.append(_microseconds(partial(bare.turns, sizes), rounds))
            a, b = statistics.median(ours), statistics.median(theirs)
            rate = [f"{MIB / took:.0f}" if "MiB" in name else "" for took in (a, b)]
            table.add_row(name, f"{a:.0f}", f"{b:.0f}", f"{a / b:.2f}", *rate)
    finally:
        files.close()
        for stream in streams:
            stream.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    Console().print(table)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as place:
            main(place)

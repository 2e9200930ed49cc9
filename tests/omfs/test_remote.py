"""A client and its server: sessions, several threads, and what happens when one of them goes."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from omfs.support import Service, find, refused, remote, service
from omtools.omfs.client import RemoteFiles
from omtools.omfs.exports import only
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import (
    MAX_TRANSFER,
    NOBODY,
    ROOT,
    Buffer,
    Caller,
    Changes,
    Created,
    Entry,
    FileSystem,
)
from omtools.omfs.server import Sessions, _Connection, serve
from omtools.omfs.stream import Frames, Stream
from omtools.omfs.wire import ERRNO, HEADER, MAGIC, REQUESTS, VERSION, Hello, Kind


def together(*calls: Callable[[], None]) -> None:
    """Run them at the same time; the first failure is raised."""
    failed: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    if failed:
        raise failed[0]


@pytest.mark.parametrize("tls", [False, True])
def test_threads_share_handles(tmp_path: Path, tls: bool) -> None:
    with service(tmp_path, tls) as running:
        files = RemoteFiles(running.connect, 60)
        made = [files.create(NOBODY, ROOT, b"f%d" % number, os.O_RDWR, 0o600) for number in range(8)]

        def work(number: int) -> None:
            for turn in range(60):
                file = made[(number + turn) % 8].file
                data = bytes([number]) * 5000
                assert files.write(file, number * 5000, data) == 5000
                assert files.read(file, number * 5000, 5000) == data
                assert find(files, b"f%d" % number).node == made[number].entry.node

        together(*[partial(work, number) for number in range(8)])
        assert len(running.sessions) == 1
        files.close()


def test_everything_is_released_with_the_last_connection(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        before = len(os.listdir("/proc/self/fd"))
        files = RemoteFiles(running.connect, 60)
        for number in range(50):
            files.create(NOBODY, ROOT, b"f%d" % number, os.O_RDWR, 0o600)
        assert len(os.listdir("/proc/self/fd")) > before + 90
        files.close()
        running.stop()
        assert len(running.sessions) == 0
        assert len(os.listdir("/proc/self/fd")) <= before


def test_records_appended_by_two_clients_are_all_there_and_whole(tmp_path: Path) -> None:
    with service(tmp_path) as running, service(tmp_path) as other:
        clients = [RemoteFiles(where.connect, 60) for where in (running, running, other)]

        def work(number: int) -> None:
            files = clients[number]
            made = files.create(NOBODY, ROOT, b"log", os.O_WRONLY | os.O_APPEND, 0o600)
            for turn in range(200):
                record = b"%d %03d %s\n" % (number, turn, b"x" * (turn * 7))
                assert files.write(made.file, 0, record, True) == len(record)

        together(*[partial(work, number) for number in range(3)])
        for files in clients:
            files.close()
    found: dict[bytes, list[int]] = {}
    for line in (tmp_path / "log").read_bytes().splitlines():
        number, turn, filling = line.split(b" ")
        assert filling == b"x" * (int(turn) * 7)
        found.setdefault(number, []).append(int(turn))
    assert found == {b"%d" % number: list(range(200)) for number in range(3)}


def test_a_server_that_comes_back_heals_and_old_handles_are_stale(tmp_path: Path) -> None:
    with service(tmp_path) as running:
        files = RemoteFiles(running.connect, 60)
        made = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600)
        above = files.mkdir(NOBODY, ROOT, b"d", 0o755).node
        running.stop()
        refused(errno.EHOSTDOWN, files.lookup, NOBODY, ROOT, b"f")
        files.forget([(above, 1)])
        running.start()
        assert files.lookup(NOBODY, ROOT, b"f").node != made.entry.node
        refused(errno.ESTALE, files.getattr, NOBODY, made.entry.node)
        refused(errno.ESTALE, files.read, made.file, 0, 1)
        refused(errno.ESTALE, files.mkdir, NOBODY, above, b"x", 0o755)
        refused(errno.ESTALE, files.link, NOBODY, made.entry.node, ROOT, b"y")
        files.release(made.file)
        again = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600)
        assert files.write(again.file, 0, b"good") == 4
        files.close()


def serve_in_a_process(directory: Path, listener: socket.socket) -> int:
    """A server that can be stopped and killed; its pid."""
    child = os.fork()
    if child:
        return child
    sessions = Sessions(lambda: LocalFiles(only(str(directory))))
    while True:
        connection, _address = listener.accept()
        threading.Thread(target=serve, args=(connection, sessions), daemon=True).start()


@contextlib.contextmanager
def killable(directory: Path) -> Iterator[tuple[RemoteFiles, int, socket.socket]]:
    listener = socket.create_server(("127.0.0.1", 0))
    pid = serve_in_a_process(directory, listener)

    def connect() -> Stream:
        return socket.create_connection(listener.getsockname(), timeout=2)

    files = RemoteFiles(connect, 0.5)
    try:
        yield files, pid, listener
    finally:
        files.close()
        listener.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def test_a_server_killed_in_the_middle_of_writing_is_an_error_and_no_hang(tmp_path: Path) -> None:
    with killable(tmp_path) as (files, pid, listener):
        made = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600)
        written = threading.Event()
        outcome: list[int | None] = []

        def write() -> None:
            offset = 0
            try:
                while True:
                    offset += files.write(made.file, offset % (1 << 26), bytes(MAX_TRANSFER))
                    written.set()
            except OSError as error:
                outcome.append(error.errno)

        thread = threading.Thread(target=write)
        thread.start()
        assert written.wait(60)
        listener.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        thread.join(60)
        assert outcome[0] in {errno.EIO, errno.EHOSTDOWN}
        refused(errno.EHOSTDOWN, files.getattr, NOBODY, ROOT)


def test_a_server_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    with killable(tmp_path) as (files, pid, _listener):
        files.getattr(NOBODY, ROOT)
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)  # it has stopped
        refused(errno.ETIMEDOUT, files.getattr, NOBODY, ROOT)
        refused(errno.EHOSTDOWN, files.getattr, NOBODY, ROOT)
        os.kill(pid, signal.SIGCONT)
        while True:  # it rests a while before it tries again
            with contextlib.suppress(OSError):
                files.getattr(NOBODY, ROOT)
                break


class Slow(LocalFiles):
    """Its disk takes longer than a client's patience."""

    def fsync(self, file: int, datasync: bool = False) -> None:
        threading.Event().wait(1.0)
        super().fsync(file, datasync)


def test_a_slow_disk_is_no_dead_server(tmp_path: Path) -> None:
    running = Service(lambda: Slow(only(str(tmp_path))))
    files = RemoteFiles(running.connect, 0.2)
    file = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600).file
    files.fsync(file)
    assert files.write(file, 0, b"still here") == 10
    files.close()
    running.close()


class Held(LocalFiles):
    """Its disk takes as long as somebody wants."""

    busy, done = threading.Event(), threading.Event()

    def fsync(self, file: int, datasync: bool = False) -> None:
        self.busy.set()
        assert self.done.wait(60)
        super().fsync(file, datasync)


def test_a_new_connection_begins_with_its_greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when there is something to tell by the way."""
    monkeypatch.setattr("omtools.omfs.telling._SOON", 60.0)
    running = Service(lambda: Held(only(str(tmp_path))))
    files = RemoteFiles(running.connect, 60.0)
    file = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600).file

    def ask() -> None:
        assert Held.busy.wait(60)
        try:
            files.forget([(files.lookup(NOBODY, ROOT, b"f").node, 1)])
            second = files._connections.take()  # so that the next question needs a third
            files.getattr(NOBODY, ROOT)
            files._connections.give(second)
        finally:
            Held.done.set()

    together(lambda: files.fsync(file), ask)
    files.close()
    running.close()


class Broken(LocalFiles):
    """Has faults in it."""

    def statfs(self, caller: Caller, node: int) -> FileSystem:
        raise ZeroDivisionError(caller, node)

    def read_into(self, file: int, offset: int, buffer: memoryview) -> int:
        raise KeyError(file, offset, buffer)


def test_a_fault_in_a_handler_is_an_answer(tmp_path: Path) -> None:
    running = Service(lambda: Broken(only(str(tmp_path))))
    files = RemoteFiles(running.connect, 60)
    refused(errno.EIO, files.statfs, NOBODY, ROOT)
    file = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600).file
    refused(errno.EIO, files.read, file, 0, 10)
    assert files.write(file, 0, b"x") == 1
    files.close()
    running.close()


def test_what_cannot_be_said_is_an_invalid_argument(tmp_path: Path) -> None:
    with remote(tmp_path) as files:
        file = files.create(NOBODY, ROOT, b"f", os.O_RDWR, 0o600).file
        refused(errno.EINVAL, files.read, file, 1 << 70, 10)
        refused(errno.EINVAL, files.write, file, 1 << 70, b"")
        refused(errno.EINVAL, files.read, file, -1, 10)
        refused(errno.EINVAL, files.access, NOBODY, ROOT, -1)
        refused(errno.EINVAL, files.setattr, NOBODY, ROOT, Changes(uid=-5))
        refused(errno.EINVAL, files.setattr, NOBODY, ROOT, Changes(uid=1 << 70))
        refused(errno.EBADF, files.read, file + 77, 0, 1)
        assert files.read(file, 0, 10) == b""


def speak(tmp_path: Path, *frames: tuple[int, bytes]) -> bytes:
    """Say something raw to a server; what it answers until it closes."""
    sessions = Sessions(lambda: LocalFiles(only(str(tmp_path))))
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs, sessions))
    thread.start()
    for kind, body in frames:
        ours.sendall(HEADER.pack(len(body), kind, 7) + body)
    ours.shutdown(socket.SHUT_WR)
    answer = b"".join(iter(lambda: ours.recv(65536), b""))
    thread.join(60)
    ours.close()
    assert len(sessions) == 0
    return answer


HELLO = (int(Kind.HELLO), REQUESTS[Kind.HELLO].pack(Hello(MAGIC, VERSION, bytes(16), True)))
WELCOME = HEADER.pack(0, Kind.RESULT, 7)


@pytest.mark.parametrize(
    ("frames", "answer"),
    [
        ([], b""),
        ([(999, b"")], b""),
        ([(int(Kind.LOOKUP), b"12345678x")], b""),
        ([(int(Kind.HELLO), b"rubbish")], b""),
        ([HELLO, (int(Kind.LOOKUP), b"short")], WELCOME),
        ([HELLO, (int(Kind.RESULT), b"")], WELCOME),
        ([HELLO, (int(Kind.CANCEL), b""), (int(Kind.PING), b"")], WELCOME + HEADER.pack(0, Kind.PONG, 7)),
        ([HELLO, (int(Kind.SETLK), b"\xc1")], WELCOME),
    ],
)
def test_a_client_that_speaks_rubbish_is_left(tmp_path: Path, frames: list[tuple[int, bytes]], answer: bytes) -> None:
    assert speak(tmp_path, *frames) == answer


def test_another_version_is_told_so(tmp_path: Path) -> None:
    hello = REQUESTS[Kind.HELLO].pack(Hello(MAGIC, VERSION + 1, bytes(16), True))
    assert speak(tmp_path, (int(Kind.HELLO), hello)) == HEADER.pack(4, Kind.ERROR, 7) + ERRNO.pack(errno.EPROTO)


def test_a_server_of_another_version_is_told_from_a_dead_one() -> None:
    ours, theirs = socket.socketpair()

    def answer() -> None:
        frames = Frames(theirs)
        _kind, serial, _body = frames.receive()
        frames.send(Kind.ERROR, serial, ERRNO.pack(errno.EPROTO))
        frames.close()

    thread = threading.Thread(target=answer)
    thread.start()
    files = RemoteFiles(lambda: ours, 60)
    refused(errno.EPROTO, files.getattr, NOBODY, ROOT)
    thread.join(60)
    files.close()


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT])
def test_a_server_that_does_not_want_a_client_says_why(number: int) -> None:
    def refuse() -> LocalFiles:
        raise OSError(number, os.strerror(number))

    running = Service(refuse)
    files = RemoteFiles(running.connect, 60)
    refused(number, files.getattr, NOBODY, ROOT)
    refused(number, files.getattr, NOBODY, ROOT)
    files.close()
    running.close()


def test_a_node_that_may_not_be_reached_is_not_taken_for_a_dead_one() -> None:
    def forbidden() -> Stream:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    refused(errno.EACCES, RemoteFiles(forbidden, 60).getattr, NOBODY, ROOT)


class Deaf(Frames):
    """Its answers do not arrive."""

    def send(
        self, kind: int, serial: int, body: Buffer = b"", data: Buffer = b"", before: Buffer = b""
    ) -> None:
        raise BrokenPipeError(kind, serial, body, data, before)


def test_what_an_undelivered_answer_held_is_given_back(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    (tmp_path / "d").mkdir()
    files = LocalFiles(only(str(tmp_path)))
    before = set(os.listdir("/proc/self/fd"))
    asked: list[tuple[Kind, tuple[object, ...]]] = [
        (Kind.CREATE, (ROOT, os.O_RDWR, 0o600, 0, b"f")),
        (Kind.LOOKUP, (ROOT, b"d")),
        (Kind.MKDIR, (ROOT, 0o755, 0, b"e")),
        (Kind.OPENDIR, (ROOT,)),
    ]
    for kind, values in asked:
        with pytest.raises(BrokenPipeError):
            _Connection(Deaf(theirs), files)._handle(kind, 1, memoryview(REQUESTS[kind].pack(values)))
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) <= before
    files.close()
    ours.close()
    theirs.close()


def _same(end: socket.socket) -> Stream:
    return end


def test_a_server_that_speaks_rubbish_is_an_error() -> None:
    for rubbish in (b"\xff" * 64, HEADER.pack(3, Kind.RESULT, 2) + b"abc", HEADER.pack(0, Kind.LOOKUP, 2)):
        ours, theirs = socket.socketpair()

        def answer(end: socket.socket = theirs, content: bytes = rubbish) -> None:
            frames = Frames(end)
            _kind, serial, _body = frames.receive()
            frames.send(Kind.RESULT, serial)
            frames.receive()
            end.sendall(content)

        thread = threading.Thread(target=answer)
        thread.start()
        files = RemoteFiles(partial(_same, ours), 60)
        refused(errno.EIO, files.getattr, NOBODY, ROOT)
        thread.join(60)
        theirs.close()
        files.close()


def test_an_entry_is_what_the_contract_says(tmp_path: Path) -> None:
    with remote(tmp_path) as files:
        made = files.create(Caller(1, 0o022), ROOT, b"f", os.O_RDWR, 0o666)
        assert type(made) is Created
        assert type(made.entry) is Entry
        told = (tmp_path / "f").stat()
        got = made.entry.attributes
        assert (got.mode, got.ino, got.dev, got.ctime_ns) == (
            told.st_mode, told.st_ino, told.st_dev, told.st_ctime_ns,
        )  # fmt: skip
        assert files.statfs(NOBODY, ROOT).namemax == os.statvfs(tmp_path).f_namemax

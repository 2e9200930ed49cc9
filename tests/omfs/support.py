"""A server of oMFS in threads of the test's own process, over a socket pair or over TLS."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from omtools.agent.certificates import make_identity
from omtools.migration.orders import Credentials, Endpoint
from omtools.omfs.client import RemoteFiles
from omtools.omfs.exports import only
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import NOBODY, ROOT, Entry, Files
from omtools.omfs.secured import Listening, connect
from omtools.omfs.server import Sessions, serve
from omtools.omfs.stream import Stream


@functools.cache
def credentials() -> tuple[Credentials, Credentials]:
    """Of the server and of the client."""
    server, client = make_identity("server"), make_identity("client")
    return (
        Credentials(server.certificate, server.key, client.certificate),
        Credentials(client.certificate, client.key, server.certificate),
    )


class Service:
    """Serves until it is stopped, and then may start again."""

    def __init__(self, make_files: Callable[[], Files], tls: bool = False) -> None:
        self._make_files = make_files
        self._tls = tls
        self.sessions = Sessions(make_files)
        self.up = True
        self._threads: list[threading.Thread] = []
        self._streams: list[Stream] = []
        self._lock = threading.Lock()
        self._listener = Listening("127.0.0.1", credentials()[0]) if tls else None

    def connect(self) -> Stream:
        """What a client is given to make connections."""
        if not self.up:
            raise ConnectionRefusedError
        with self._lock:
            return self._connect_tls() if self._listener is not None else self._connect_pair()

    def _connect_pair(self) -> Stream:
        ours, theirs = socket.socketpair()
        self._serve(ours)
        return theirs

    def _connect_tls(self) -> Stream:
        assert self._listener is not None
        accepted: list[Stream] = []
        listener = self._listener

        def take() -> None:
            with contextlib.suppress(OSError):
                accepted.append(listener.secure(listener.accept(20)))

        thread = threading.Thread(target=take)
        thread.start()
        stream = connect(Endpoint("127.0.0.1", listener.port), credentials()[1])
        thread.join()
        self._serve(accepted[0])
        return stream

    def _serve(self, stream: Stream) -> None:
        thread = threading.Thread(target=serve, args=(stream, self.sessions))
        thread.start()
        self._threads.append(thread)
        self._streams.append(stream)

    def stop(self) -> None:
        """All connections end, as when the server's process dies."""
        self.up = False
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        self._threads.clear()
        self._streams.clear()

    def start(self) -> None:
        """It is back, and knows nothing of before."""
        self.sessions = Sessions(self._make_files)
        self.up = True

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        if self._listener is not None:
            self._listener.__exit__()


@contextlib.contextmanager
def service(directory: Path | str, tls: bool = False) -> Iterator[Service]:
    """A server of one directory."""
    running = Service(lambda: LocalFiles(only(str(directory))), tls)
    try:
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def remote(directory: Path | str, tls: bool = False, patience: float = 60.0) -> Iterator[RemoteFiles]:
    """A client of such a server. The patience is long, for the machine may be busy."""
    with service(directory, tls) as running:
        files = RemoteFiles(running.connect, patience)
        try:
            yield files
        finally:
            files.close()


@contextlib.contextmanager
def local(directory: Path | str) -> Iterator[LocalFiles]:
    """The same without a server."""
    files = LocalFiles(only(str(directory)))
    try:
        yield files
    finally:
        files.close()


def find(files: Files, path: bytes | str) -> Entry:
    """Look up a path, step by step, and forget what lies on the way."""
    raw = os.fsencode(path)
    node, entry = ROOT, None
    for name in filter(None, raw.split(b"/")):
        before = node
        try:
            entry = files.lookup(NOBODY, node, name)
        finally:
            if before != ROOT:
                files.forget([(before, 1)])
        node = entry.node
    return entry if entry is not None else Entry(ROOT, files.getattr(NOBODY, ROOT))


def refused(number: int, call: Callable[..., object], *args: object) -> None:
    """The call must fail, with that errno."""
    try:
        result = call(*args)
    except OSError as error:
        assert error.errno == number, error  # noqa: PT017 - pytest.raises would keep what the call had open
        return
    raise AssertionError(f"it is not refused but {result}")

"""The link between the two keepers of a process: frames over a blocking TLS 1.3 connection.

Both certificates were exchanged over SSH by the agents; each side accepts that one certificate and no
other. The socket may be a TCP connection to the other node or a unix socket that leads through SSH.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator

from omtools.linux.interfaces import socket_address
from omtools.migration.frames import HEADER, Kind
from omtools.migration.orders import SILENCE, Credentials, Endpoint

MAX_FRAME = 1 << 30
_PROBES = 4  # of an idle one, in that time
_CONNECT_SECONDS = 5.0


class LinkBroken(Exception):
    """The other side is gone, or says what it should not."""


@contextlib.contextmanager
def _as_file(content: str) -> Iterator[str]:
    """The ssl module reads keys from files only; this one has no place in any file system."""
    descriptor = os.memfd_create("credentials", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def context_of(credentials: Credentials, server: bool) -> ssl.SSLContext:
    """What TLS goes by between two who know each other's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate itself is the identity
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=credentials.peer)
    if server:
        context.num_tickets = 0
    with _as_file(credentials.certificate + credentials.key) as path:
        context.load_cert_chain(path)
    return context


def tune(raw: socket.socket, silence: float = SILENCE) -> None:
    """Have a connection send at once, block, and notice that the other machine has died.

    Args:
        raw: the connection.
        silence: seconds; see `give_up_after`.
    """
    raw.setblocking(True)
    if raw.family == socket.AF_UNIX:
        return
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    give_up_after(silence, raw)


def give_up_after(silence: float, raw: socket.socket) -> None:
    """Have the kernel give a TCP connection up when the other machine's kernel is silent for so long.

    However busy that machine is, its kernel acknowledges; so silence means machine or wire, not load.
    See tcp(7): TCP_USER_TIMEOUT bounds what is sent, and, set together with keep-alive, also the probes.
    """
    every = max(1, int(silence / _PROBES))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, every)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silence * 1000))


def connect(endpoint: Endpoint, credentials: Credentials, silence: float = SILENCE) -> Link:
    """Reach the keeper that listens there; raises LinkBroken."""
    try:
        secured = context_of(credentials, server=False).wrap_socket(dial(endpoint))
    except OSError as error:
        raise LinkBroken(str(error)) from error
    tune(secured, silence)
    return Link(secured)


def dial(endpoint: Endpoint, seconds: float = _CONNECT_SECONDS) -> socket.socket:
    """A connection to there, not secured yet; raises OSError."""
    if endpoint.tunnel:
        return _connect_unix(endpoint.tunnel)
    try:
        family, where = socket_address(endpoint.address, endpoint.port)
    except OSError:  # a name, for which the resolver has to be loaded
        return socket.create_connection((endpoint.address, endpoint.port), timeout=seconds)
    raw = socket.socket(family)
    raw.settimeout(seconds)
    try:
        raw.connect(where)
    except OSError:
        raw.close()
        raise
    return raw


def _connect_unix(path: str) -> socket.socket:
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(_CONNECT_SECONDS)
    try:
        raw.connect(path)
    except OSError:
        raw.close()
        raise
    return raw


def accept(
    listener: socket.socket, credentials: Credentials, patience: float, silence: float = SILENCE
) -> Link:
    """Wait for the other keeper; whoever cannot show its certificate is turned away."""
    context = context_of(credentials, server=True)
    listener.settimeout(patience)
    while True:
        try:
            raw, _address = listener.accept()
        except OSError as error:
            raise LinkBroken(str(error)) from error
        raw.settimeout(_CONNECT_SECONDS)
        try:
            secured = context.wrap_socket(raw, server_side=True)
        except OSError:
            raw.close()
            continue
        tune(secured, silence)
        return Link(secured)


class Link:
    """Frames in both directions. Sending and receiving may happen in two threads, one each."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._socket = connection
        self._header = bytearray(HEADER.size)
        self._received = memoryview(bytearray(1 << 16))
        self.bytes_sent = 0

    def fileno(self) -> int:
        """For poll; see `waiting` too."""
        return self._socket.fileno()

    @property
    def waiting(self) -> bool:
        """Decrypted bytes stand ready that poll knows nothing of."""
        return self._socket.pending() > 0

    def send(self, kind: Kind, body: bytes = b"", serial: int = 0) -> None:
        """Send one small frame; raises LinkBroken."""
        try:
            self._socket.sendall(HEADER.pack(len(body), kind, serial) + body)
        except OSError as error:
            raise LinkBroken(str(error)) from error

    def send_large(self, kind: Kind, head: bytes, body: memoryview) -> None:
        """Send a frame whose body is `head` and a large buffer, without copying that."""
        try:
            self._socket.sendall(HEADER.pack(len(head) + len(body), kind, 0) + head)
            self._socket.sendall(body)
        except OSError as error:
            raise LinkBroken(str(error)) from error

    def send_framed(self, frames: memoryview) -> None:
        """Send what is laid out in frames already; raises LinkBroken."""
        try:
            self._socket.sendall(frames)
        except OSError as error:
            raise LinkBroken(str(error)) from error

    def receive(self) -> tuple[Kind, int, memoryview]:
        """The next frame: kind, serial, body. The body is valid until the next call; raises LinkBroken."""
        kind, serial, length = self.receive_header()
        if length > len(self._received):
            self._received = memoryview(bytearray(length))
        body = self._received[:length]
        self.receive_into(body)
        return kind, serial, body

    def receive_header(self) -> tuple[Kind, int, int]:
        """Kind, serial and length of the next frame; its body must be received next."""
        self.receive_into(memoryview(self._header))
        length, kind, serial = HEADER.unpack(self._header)
        if length > MAX_FRAME:
            raise LinkBroken(f"a frame of {length} bytes")
        try:
            return Kind(kind), serial, length
        except ValueError:
            raise LinkBroken(f"a frame of unknown kind {kind}") from None

    def receive_into(self, buffer: memoryview) -> None:
        """Fill the buffer; raises LinkBroken."""
        done = 0
        length = len(buffer)
        try:
            while done < length:
                count = self._socket.recv_into(buffer[done:], length - done)
                if not count:
                    raise LinkBroken("the other side closed it")
                done += count
        except OSError as error:
            raise LinkBroken(str(error)) from error

    def set_timeout(self, seconds: float | None) -> None:
        """How long sending and receiving may take."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Close it at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

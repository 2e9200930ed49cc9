"""omtools.migration.link: TLS between two keepers, pinned on both sides."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from omtools.agent.certificates import Identity, make_identity
from omtools.errors import KernelLacks
from omtools.image.cage import Clocks
from omtools.migration import link as link_module
from omtools.migration.frames import HEADER, Kind
from omtools.migration.hello import Hello, clocks_ahead, expect, greet, welcome
from omtools.migration.link import MAX_FRAME, Link, LinkBroken, accept, connect, tune
from omtools.migration.orders import Credentials, Endpoint

DEPUTY, GUEST, STRANGER = (make_identity(name) for name in ("deputy", "guest", "stranger"))


def credentials(own: Identity, peer: Identity) -> Credentials:
    return Credentials(own.certificate, own.key, peer.certificate)


class Server:
    """Accepts in a thread."""

    def __init__(self, listener: socket.socket, own: Credentials, patience: float = 20.0) -> None:
        self.listener = listener
        self.result: Link | LinkBroken | None = None
        self._thread = threading.Thread(target=self._run, args=(own, patience))
        self._thread.start()

    def _run(self, own: Credentials, patience: float) -> None:
        try:
            self.result = accept(self.listener, own, patience)
        except LinkBroken as error:
            self.result = error

    def link(self) -> Link:
        self._thread.join(30)
        assert isinstance(self.result, Link), self.result
        return self.result

    def close(self) -> None:
        with contextlib.suppress(OSError):  # wakes the thread
            self.listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        if isinstance(self.result, Link):
            self.result.close()
        self.listener.close()


@pytest.fixture(params=["tcp", "tunnel"])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, Endpoint]]:
    """A listener, and how it is reached: by TCP, or by a unix socket as SSH would offer it."""
    if request.param == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
        address, port = listener.getsockname()
        where = Endpoint(address, port)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "link"))
        listener.listen()
        where = Endpoint("nowhere", 1, str(tmp_path / "link"))
    yield listener, where
    listener.close()


@pytest.fixture
def pair(endpoint: tuple[socket.socket, Endpoint]) -> Iterator[tuple[Link, Link]]:
    """(the deputy's end, the guest's end)."""
    listener, where = endpoint
    server = Server(listener, credentials(GUEST, DEPUTY))
    client = connect(where, credentials(DEPUTY, GUEST))
    yield client, server.link()
    client.close()
    server.close()


def test_frames_go_both_ways(pair: tuple[Link, Link]) -> None:
    deputy, guest = pair
    deputy.send(Kind.GO)
    guest.send(Kind.CALL, b"body", serial=7)
    kind, serial, body = deputy.receive()
    assert (kind, serial, bytes(body)) == (Kind.CALL, 7, b"body")
    kind, serial, body = guest.receive()
    assert (kind, serial, bytes(body)) == (Kind.GO, 0, b"")


def test_both_directions_at_once_and_large(pair: tuple[Link, Link]) -> None:
    deputy, guest = pair
    big = os.urandom(3 << 20)

    def pour(link: Link) -> None:
        for _time in range(3):
            link.send_large(Kind.PAGES, b"12345678", memoryview(big))
        link.send(Kind.END)

    threads = [threading.Thread(target=pour, args=(end,)) for end in pair]
    for thread in threads:
        thread.start()
    for end in (deputy, guest):
        for _time in range(3):
            kind, _serial, body = end.receive()
            assert kind is Kind.PAGES
            assert bytes(body[:8]) == b"12345678"
            assert bytes(body[8:]) == big
        assert end.receive()[0] is Kind.END
    for thread in threads:
        thread.join()


def test_what_poll_does_not_see_is_told(pair: tuple[Link, Link]) -> None:
    deputy, guest = pair
    deputy._socket.sendall(HEADER.pack(0, Kind.GO, 0) + HEADER.pack(0, Kind.DONE, 0))  # in one TLS record
    assert guest.receive()[0] is Kind.GO
    waiting = [guest.waiting]
    assert guest.receive()[0] is Kind.DONE
    assert [*waiting, guest.waiting] == [True, False]


def strangers() -> list[tuple[Credentials, Credentials]]:
    """(the deputy's, the guest's): somebody shows, or expects, another certificate."""
    return [
        (credentials(STRANGER, GUEST), credentials(GUEST, DEPUTY)),
        (credentials(DEPUTY, GUEST), credentials(STRANGER, DEPUTY)),
        (credentials(DEPUTY, STRANGER), credentials(GUEST, DEPUTY)),
        (credentials(DEPUTY, GUEST), credentials(GUEST, STRANGER)),
    ]


@pytest.mark.parametrize("which", range(4))
def test_strangers_are_refused(endpoint: tuple[socket.socket, Endpoint], which: int) -> None:
    listener, where = endpoint
    deputy, guest = strangers()[which]
    server = Server(listener, guest, patience=0.3)
    try:
        with pytest.raises(LinkBroken):
            _use(where, deputy)  # with TLS 1.3 a client hears at its first reading that it was refused
    finally:
        server.close()
    assert isinstance(server.result, LinkBroken)  # it has waited in vain for the right one


def _use(where: Endpoint, own: Credentials) -> None:
    client = connect(where, own)
    try:
        client.receive()
    finally:
        client.close()


def test_after_a_stranger_the_right_one_is_let_in(endpoint: tuple[socket.socket, Endpoint]) -> None:
    listener, where = endpoint
    server = Server(listener, credentials(GUEST, DEPUTY))
    try:
        with pytest.raises(LinkBroken):
            _use(where, credentials(STRANGER, GUEST))
        family = socket.AF_UNIX if where.tunnel else socket.AF_INET
        with socket.socket(family) as scanner:  # somebody who does not even speak TLS
            scanner.connect(where.tunnel or (where.address, where.port))
            scanner.sendall(b"GET / HTTP/1.0\r\n\r\n")
        client = connect(where, credentials(DEPUTY, GUEST))
        client.send(Kind.HELLO)
        assert server.link().receive()[0] is Kind.HELLO
        client.close()
    finally:
        server.close()


def test_no_certificate_at_all_is_refused(endpoint: tuple[socket.socket, Endpoint]) -> None:
    listener, where = endpoint
    server = Server(listener, credentials(GUEST, DEPUTY), patience=0.3)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        raw = socket.socket(socket.AF_UNIX if where.tunnel else socket.AF_INET)
        raw.settimeout(20)
        raw.connect(where.tunnel or (where.address, where.port))
        with context.wrap_socket(raw) as secured:
            assert _says_nothing(secured)
    finally:
        server.close()
    assert isinstance(server.result, LinkBroken)


def _says_nothing(secured: ssl.SSLSocket) -> bool:
    """It is closed, with an alert or without."""
    try:
        return not secured.recv(1)
    except OSError:
        return True


def test_older_tls_is_refused(endpoint: tuple[socket.socket, Endpoint]) -> None:
    listener, where = endpoint
    server = Server(listener, credentials(GUEST, DEPUTY), patience=0.3)
    context = link_module.context_of(credentials(DEPUTY, GUEST), server=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        raw = socket.socket(socket.AF_UNIX if where.tunnel else socket.AF_INET)
        raw.settimeout(20)
        raw.connect(where.tunnel or (where.address, where.port))
        with pytest.raises(OSError, match=r".*"):
            context.wrap_socket(raw)
    finally:
        server.close()


def test_nobody_listens(tmp_path: Path) -> None:
    own = credentials(DEPUTY, GUEST)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkBroken, match="refused"):
        connect(Endpoint("127.0.0.1", port), own)
    with pytest.raises(LinkBroken, match="No such file"):
        connect(Endpoint("", 0, str(tmp_path / "nothing")), own)


def test_nobody_comes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(LinkBroken, match="timed out"):
        accept(listener, credentials(GUEST, DEPUTY), 0.05)


Speech = Callable[[Link], None]


def _cut_in_the_header(link: Link) -> None:
    link._socket.sendall(HEADER.pack(10, Kind.CALL, 0)[:5])
    link.close()


def _cut_in_the_body(link: Link) -> None:
    link._socket.sendall(HEADER.pack(1000, Kind.CALL, 0) + b"only this")
    link.close()


def _huge(link: Link) -> None:
    link._socket.sendall(HEADER.pack(MAX_FRAME + 1, Kind.CALL, 0))


def _unknown(link: Link) -> None:
    link._socket.sendall(HEADER.pack(0, 4711, 0))


def _closed(link: Link) -> None:
    link.close()


@pytest.mark.parametrize(
    ("speech", "words"),
    [
        (_cut_in_the_header, "closed|EOF|reset"),
        (_cut_in_the_body, "closed|EOF|reset"),
        (_huge, "a frame of 1073741825 bytes"),
        (_unknown, "unknown kind 4711"),
        (_closed, "closed|EOF|reset"),
    ],
)
def test_what_breaks_a_link(pair: tuple[Link, Link], speech: Speech, words: str) -> None:
    deputy, guest = pair
    speech(deputy)
    with pytest.raises(LinkBroken, match=words):
        guest.receive()


def _pour(link: Link) -> None:
    """More than fits into any buffer."""
    for _time in range(1000):
        link.send_large(Kind.PAGES, bytes(8), memoryview(bytes(1 << 16)))


def test_sending_to_nobody(pair: tuple[Link, Link]) -> None:
    deputy, guest = pair
    guest.close()
    with pytest.raises(LinkBroken):
        _pour(deputy)
    with pytest.raises(LinkBroken):
        deputy.send(Kind.END)
    guest.close()  # twice does no harm


def test_a_timeout_is_a_broken_link(pair: tuple[Link, Link]) -> None:
    deputy, _guest = pair
    deputy.set_timeout(0.05)
    with pytest.raises(LinkBroken, match="timed out"):
        deputy.receive()


# -- the first words ------------------------------------------------------------------------------------


def test_how_long_a_silent_machine_is_waited_for() -> None:
    """The kernel's own timers; that they end what is away shows lesson 13 of the workshop, with a real cable."""
    listener = socket.create_server(("127.0.0.1", 0))
    dialled = socket.create_connection(listener.getsockname())
    tune(dialled, 6.0)
    options = (socket.TCP_USER_TIMEOUT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    assert [dialled.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [6000, 1, 1, 4]
    assert dialled.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    dialled.close()
    listener.close()


def test_the_greeting(pair: tuple[Link, Link]) -> None:
    deputy, guest = pair
    found: list[frozenset[str]] = []
    greeted = threading.Thread(target=lambda: found.append(greet(deputy, Hello(4711, places=["/data"]))))
    greeted.start()
    heard = expect(guest, 4711)
    assert (heard.pid, heard.places) == (4711, ["/data"])
    ahead = clocks_ahead(guest)
    welcome(guest, {"/usr/bin/a", "/usr/lib/b"})
    greeted.join()
    assert found == [{"/usr/bin/a", "/usr/lib/b"}]
    a_second = 1_000_000_000  # both read the same clocks, however noisy this machine is
    assert abs(ahead.monotonic) < a_second > abs(ahead.boottime)


def test_the_quickest_answer_tells_the_time(pair: tuple[Link, Link]) -> None:
    deputy, guest = pair
    hour = 3600 * 1_000_000_000

    def answers() -> None:
        for late in (0.2, 0.0, 0.2):
            assert deputy.receive()[0] is Kind.CLOCK
            now = Clocks.now()
            time.sleep(late)  # a busy machine: it reads its clock, and sends long after
            told = (now.monotonic + hour, now.boottime + 2 * hour)
            deputy.send(Kind.CLOCK, msgspec.msgpack.encode(told))

    other = threading.Thread(target=answers)
    other.start()
    ahead = clocks_ahead(guest)
    other.join()
    assert abs(ahead.monotonic - hour) < 100_000_000 > abs(ahead.boottime - 2 * hour)


@pytest.mark.parametrize(("kind", "body"), [(Kind.GO, b""), (Kind.CLOCK, b""), (Kind.CLOCK, b"\x92\x01\xa1x")])
def test_no_time_is_told(pair: tuple[Link, Link], kind: Kind, body: bytes) -> None:
    deputy, guest = pair
    deputy.send(kind, body)
    with pytest.raises(LinkBroken):
        clocks_ahead(guest)


def test_a_guest_s_refusal_is_an_error_with_its_own_words(pair: tuple[Link, Link]) -> None:
    deputy, guest = pair
    guest.send(Kind.REFUSED, msgspec.msgpack.encode(KernelLacks(feature="cages", why="no").to_wire()))
    with pytest.raises(KernelLacks, match="does not allow cages: no"):
        greet(deputy, Hello(4711))


def test_other_first_words(pair: tuple[Link, Link]) -> None:
    deputy, guest = pair
    guest.send(Kind.GO)
    with pytest.raises(LinkBroken, match="GO in place of a greeting"):
        greet(deputy, Hello(1))
    guest.send(Kind.REFUSED, b"\xc1nonsense")
    with pytest.raises(LinkBroken):
        greet(deputy, Hello(1))
    guest.send(Kind.HELLO, b"\xc1")
    with pytest.raises(LinkBroken):
        greet(deputy, Hello(1))
    with pytest.raises(LinkBroken, match="process 1"):  # of the first greeting
        expect(guest, 4711)
    for _sent in range(2):
        expect(guest, 1)
    for kind, body in ((Kind.GO, b""), (Kind.HELLO, b"\xc1"), (Kind.HELLO, b"")):
        deputy.send(kind, body)
        with pytest.raises(LinkBroken):
            expect(guest, 1)
    with pytest.raises(LinkBroken, match="version 99"):
        greet_as(deputy, guest, Hello(1, version=99))


def greet_as(deputy: Link, guest: Link, hello: Hello) -> None:
    deputy.send(Kind.HELLO, msgspec.msgpack.encode(hello))
    expect(guest, hello.pid)

"""omtools.omfs.secured: TLS in memory, over real sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from omfs.support import credentials
from omtools.agent.certificates import make_identity
from omtools.migration.link import LinkBroken, context_of
from omtools.migration.orders import Credentials, Endpoint
from omtools.omfs.secured import Awake, Listening, Secured, connect


@contextlib.contextmanager
def pair() -> Iterator[tuple[Secured, Secured]]:
    """Both ends of a connection."""
    server, client = credentials()
    one, other = socket.socketpair()
    made: list[Secured] = []
    thread = threading.Thread(
        target=lambda: made.append(Secured(one, context_of(server, server=True), server=True, wait=Awake(one.fileno())))
    )
    thread.start()
    mine = Secured(other, context_of(client, server=False), server=False)
    thread.join()
    try:
        yield made[0], mine
    finally:
        made[0].close()
        mine.close()


def filled(stream: Secured, size: int) -> bytes:
    data, done = memoryview(bytearray(size)), 0
    while done < size:
        done += stream.recv_into(data[done:], size - done)
    return bytes(data)


def test_all_sizes_arrive_both_ways() -> None:
    with pair() as (server, client):
        for size in (1, 100, 16384, 16385, (1 << 18) - 1, (1 << 18) + 1, 3 << 20):
            sent = os.urandom(size)
            for one, other in ((server, client), (client, server)):
                thread = threading.Thread(target=one.sendall, args=(sent,))
                thread.start()
                assert filled(other, size) == sent
                thread.join()
            assert server.pending() == client.pending() == 0


def test_what_came_together_is_known_to_be_there() -> None:
    with pair() as (server, client):
        server.settimeout(30)
        client.sendall(b"one and two")
        assert filled(server, 4) == b"one "
        assert server.pending() == 7
        assert filled(server, 7) == b"and two"


def test_patience_has_an_end() -> None:
    with pair() as (server, client):
        for stream in (server, client):
            stream.settimeout(0.01)
            with pytest.raises(TimeoutError):
                stream.recv_into(memoryview(bytearray(1)))
        with pytest.raises(TimeoutError):
            client.sendall(bytes(32 << 20))  # nobody reads


def test_the_end_of_the_other_side_is_an_end() -> None:
    with pair() as (server, client):
        server.sendall(b"last words")
        server.shutdown(socket.SHUT_RDWR)
        assert filled(client, 10) == b"last words"
        assert client.recv_into(memoryview(bytearray(1))) == 0
    with pair() as (server, client):
        server.close()
        with pytest.raises(OSError, match="Broken pipe"):
            client.sendall(b"x" * (1 << 20))


def test_a_thread_that_waits_is_let_go_of() -> None:
    with pair() as (server, _client):
        got: list[int] = []
        thread = threading.Thread(target=lambda: got.append(server.recv_into(memoryview(bytearray(1)))))
        thread.start()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(30)
        assert got == [0]


def test_only_who_has_the_certificate_gets_in() -> None:
    stranger = make_identity("stranger")
    server, client = credentials()
    with Listening("127.0.0.1", server) as listening:
        turned_away: list[OSError] = []

        def welcome() -> None:
            try:
                listening.secure(listening.accept(30)).recv_into(memoryview(bytearray(1)))
            except OSError as error:
                turned_away.append(error)

        thread = threading.Thread(target=welcome)
        thread.start()
        endpoint = Endpoint("127.0.0.1", listening.port)
        with contextlib.suppress(LinkBroken, OSError):  # in TLS 1.3 the client may learn of it late
            wrong = connect(endpoint, Credentials(stranger.certificate, stranger.key, client.peer))
            with contextlib.closing(wrong):
                wrong.settimeout(30)
                wrong.recv_into(memoryview(bytearray(1)))
        thread.join()
        assert isinstance(turned_away[0], ssl.SSLError)
        thread = threading.Thread(target=lambda: listening.accept(30).close())
        thread.start()
        with pytest.raises(LinkBroken):
            connect(endpoint, client)
        thread.join()
    with pytest.raises(LinkBroken, match="refused"):
        connect(endpoint, client)

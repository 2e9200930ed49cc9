from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from omtools.agent.certificates import Identity, make_identity


def context(server: bool, own: Identity, peer: str, directory: Path) -> ssl.SSLContext:
    """A context as a keeper makes it: its own identity, and one certificate that counts."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's default from 3.13 on
    file = directory / f"{server}.pem"
    file.write_text(own.key + own.certificate)
    made.load_cert_chain(file)
    made.load_verify_locations(cadata=peer)
    return made


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    near, far = socket.socketpair()
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            with server.wrap_socket(far, server_side=True) as tls:
                tls.sendall(tls.recv(5))
        except OSError as error:
            failures.append(error)
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(near) as tls:
            tls.sendall(b"hello")
            answer = tls.recv(5)
    finally:
        near.close()
        thread.join()
    if failures:
        raise failures[0]
    return answer


def test_two_that_know_each_other(tmp_path: Path) -> None:
    home, guest = make_identity("deputy"), make_identity("guest")
    assert (
        shake(
            context(True, guest, home.certificate, tmp_path),
            context(False, home, guest.certificate, tmp_path),
        )
        == b"hello"
    )


@pytest.mark.parametrize("liar", ["server", "client"])
def test_anybody_else_is_refused(tmp_path: Path, liar: str) -> None:
    home, guest, other = make_identity("deputy"), make_identity("guest"), make_identity("deputy")
    server = context(True, other if liar == "server" else guest, home.certificate, tmp_path)
    client = context(False, other if liar == "client" else home, guest.certificate, tmp_path)
    with pytest.raises(OSError):  # noqa: PT011 - which of the two sides notices first is OpenSSL's business
        assert shake(server, client) == b"hello"


def test_a_long_name_is_cut() -> None:
    make_identity("x" * 200)

"""omtools.migration.rehearsal: what is done once before keepers are forked."""

from __future__ import annotations

import ssl

import pytest

from omtools.agent.certificates import make_identity
from omtools.linux.cpuid import xsave_layout
from omtools.migration import rehearsal
from omtools.migration.link import context_of
from omtools.migration.orders import Credentials

ONE = make_identity("one")


@pytest.fixture
def handshakes(monkeypatch: pytest.MonkeyPatch) -> list[ssl.SSLObject]:
    """Both ends of each rehearsed connection."""
    made: list[ssl.SSLObject] = []

    class Context:
        def __init__(self, credentials: Credentials, server: bool) -> None:
            self._context = context_of(credentials, server)

        def wrap_bio(self, here: ssl.MemoryBIO, there: ssl.MemoryBIO, server_side: bool = False) -> ssl.SSLObject:
            made.append(self._context.wrap_bio(here, there, server_side))
            return made[-1]

    monkeypatch.setattr("omtools.migration.rehearsal.context_of", Context)
    return made


def test_a_link_is_rehearsed_to_the_end(handshakes: list[ssl.SSLObject]) -> None:
    rehearsal.rehearse_link(Credentials(ONE.certificate, ONE.key, "whoever"))
    assert [side.version() for side in handshakes] == ["TLSv1.3", "TLSv1.3"]
    assert all(side.getpeercert(binary_form=True) for side in handshakes)


def test_credentials_that_are_none_are_left_to_the_keeper() -> None:
    rehearsal.rehearse_link(Credentials("", "", ""))
    rehearsal.rehearse_link(Credentials(ONE.certificate, "no key", ONE.certificate))


def test_the_processor_is_asked_once() -> None:
    rehearsal.rehearse()
    asked = xsave_layout.cache_info().misses
    xsave_layout()
    assert xsave_layout.cache_info().misses == asked

"""The first words on a link: versions, clocks; the cage is built between the two greetings."""

from __future__ import annotations

import time
from collections.abc import Collection

import msgspec

from omtools.errors import OmError
from omtools.image.cage import Clocks
from omtools.migration.frames import Kind
from omtools.migration.link import Link, LinkBroken

VERSION = 3
_READINGS = 3  # of the other node's clocks: the quickest answer is the most exact


class Hello(msgspec.Struct):
    """Who calls.

    Attributes:
        pid: of the process at home.
        version: of the protocol.
        places: where the process is at work, see `own_tree`; none if its files shall stay with the deputy.
    """

    pid: int
    version: int = VERSION
    places: list[str] = []


def greet(link: Link, hello: Hello, patience: float = 60.0) -> frozenset[str]:
    """The deputy's side: returns the paths of twins that the guest's side has opened.

    Raises LinkBroken, or the OmError by which the guest's side refuses.
    """
    link.set_timeout(patience)
    link.send(Kind.HELLO, msgspec.msgpack.encode(hello))
    kind, _serial, body = link.receive()
    while kind is Kind.CLOCK:
        now = Clocks.now()
        link.send(Kind.CLOCK, msgspec.msgpack.encode((now.monotonic, now.boottime)))
        kind, _serial, body = link.receive()
    if kind is Kind.REFUSED:
        try:
            refusal = OmError.from_wire(msgspec.msgpack.decode(body, type=dict[str, str | int]))
        except msgspec.DecodeError as error:
            raise LinkBroken(str(error)) from error
        raise refusal
    if kind is not Kind.HELLO:
        raise LinkBroken(f"{kind.name} in place of a greeting")
    link.set_timeout(None)
    try:
        return frozenset(msgspec.msgpack.decode(body, type=list[str]))
    except msgspec.DecodeError as error:
        raise LinkBroken(str(error)) from error


def welcome(link: Link, twins: Collection[str]) -> None:
    """The guest's side: its cage stands, and these twins are open."""
    link.send(Kind.HELLO, msgspec.msgpack.encode(sorted(twins)))
    link.set_timeout(None)


def expect(link: Link, pid: int) -> Hello:
    """The guest's side: the caller's words; raises LinkBroken."""
    kind, _serial, body = link.receive()
    if kind is not Kind.HELLO:
        raise LinkBroken(f"{kind.name} in place of a greeting")
    try:
        hello = msgspec.msgpack.decode(body, type=Hello)
    except msgspec.DecodeError as error:
        raise LinkBroken(str(error)) from error
    if hello.version != VERSION or hello.pid != pid:
        raise LinkBroken(f"version {hello.version}, process {hello.pid}")
    return hello


def clocks_ahead(link: Link) -> Clocks:
    """The guest's side: how far the home node's clocks are ahead of this node's, in nanoseconds.

    Of several answers the quickest counts, and its clock is taken to have been read in the middle of the way
    (Cristian, Probabilistic clock synchronization, 1989): the error is at most half of that way.

    Raises:
        LinkBroken: no answer.
    """
    best: tuple[int, Clocks] | None = None
    for _reading in range(_READINGS):
        asked = time.monotonic_ns()
        link.send(Kind.CLOCK)
        kind, _serial, body = link.receive()
        here = Clocks.now()
        if kind is not Kind.CLOCK:
            raise LinkBroken(f"{kind.name} in place of the time")
        try:
            monotonic, boottime = msgspec.msgpack.decode(body, type=tuple[int, int])
        except msgspec.DecodeError as error:
            raise LinkBroken(str(error)) from error
        way = here.monotonic - asked
        if best is None or way < best[0]:
            half = way // 2
            best = way, Clocks(monotonic - here.monotonic + half, boottime - here.boottime + half)
    assert best is not None
    return best[1]

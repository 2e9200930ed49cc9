"""The first words on a link: versions, clocks; the cage is built between the two of them."""

from __future__ import annotations

import msgspec

from omtools.errors import OmError
from omtools.migration.frames import Kind
from omtools.migration.link import Link, LinkBroken

VERSION = 2


class Hello(msgspec.Struct):
    """Who calls.

    Attributes:
        pid: of the process at home.
        monotonic_ns: the home node's CLOCK_MONOTONIC.
        boottime_ns: the home node's CLOCK_BOOTTIME.
        version: of the protocol.
        places: where the process is at work, see `own_tree`; none if its files shall stay with the deputy.
    """

    pid: int
    monotonic_ns: int
    boottime_ns: int
    version: int = VERSION
    places: list[str] = []


def greet(link: Link, hello: Hello) -> None:
    """The deputy's side: raises LinkBroken, or the OmError by which the guest's side refuses."""
    link.send(Kind.HELLO, msgspec.msgpack.encode(hello))
    kind, _serial, body = link.receive()
    if kind is Kind.REFUSED:
        try:
            refusal = OmError.from_wire(msgspec.msgpack.decode(body, type=dict[str, str | int]))
        except msgspec.DecodeError as error:
            raise LinkBroken(str(error)) from error
        raise refusal
    if kind is not Kind.HELLO:
        raise LinkBroken(f"{kind.name} in place of a greeting")


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

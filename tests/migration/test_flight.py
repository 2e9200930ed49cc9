"""omtools.migration.flight: what becomes of a call that both sides have a part of."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, strategies as st

from omtools.image.model import Resume
from omtools.linux.seccomp import Notification
from omtools.linux.x86_64 import (
    ERESTART_RESTARTBLOCK,
    ERESTARTNOHAND,
    ERESTARTNOINTR,
    ERESTARTSYS,
)
from omtools.migration.calls.model import Forward, Out, OutRule, Timeout
from omtools.migration.flight import Flight, Outcome

SECOND = 1_000_000_000
POLL, SELECT, NANOSLEEP, PPOLL, READ = 7, 23, 35, 271, 0
ARGUMENTS = (0x1000, 2, 5000, 0, 0, 0)


def notification(nr: int = POLL, args: tuple[int, int, int, int, int, int] = ARGUMENTS) -> Notification:
    return Notification(cookie=1, pid=2, nr=nr, address=0x400000, args=args)


def broken(nanoseconds: int = 0, code: int = -ERESTARTSYS) -> Outcome:
    return Outcome(code, b"", broken=True, nanoseconds=nanoseconds)


def by_register(milliseconds: int) -> Flight:
    """poll(…, milliseconds)."""
    arguments = (0x1000, 2, milliseconds & 0xFFFFFFFF, 0, 0, 0)
    forward = Forward(POLL, arguments, timeout=Timeout(2, -1, 1_000_000))
    return Flight(7, notification(args=arguments), forward)


def by_pointer(seconds: int, units: int, unit: int = 1, *, updated: bool = False) -> Flight:
    """ppoll (timespec, unit 1) or select (timeval, unit 1000), the latter's timeout updated by the kernel."""
    arena = b"head.." + struct.pack("<qq", seconds, units) + b"tail"
    outs = (Out(6, 16, OutRule.ALWAYS),) if updated else ()
    forward = Forward(PPOLL, ARGUMENTS, arena, len(arena), outs, timeout=Timeout(2, 6, unit))
    return Flight(7, notification(PPOLL), forward)


def test_the_same_call_comes_back() -> None:
    flight = by_register(5000)
    again = Notification(cookie=9, pid=2, nr=POLL, address=0x400000, args=flight.notification.args)
    assert flight.same_call(again)
    assert not flight.same_call(notification(READ))
    assert not flight.same_call(notification(args=(1, 2, 3, 4, 5, 6)))
    flight.alive = False
    flight.come_back(again)
    assert (flight.alive, flight.notification.cookie) == (True, 9)


@given(st.integers(0, (1 << 31) - 1), st.integers(0, 1 << 62))
def test_what_is_left_of_milliseconds(milliseconds: int, elapsed: int) -> None:
    flight = by_register(milliseconds)
    flight.outcome = broken(elapsed)
    left = max(0, milliseconds * 1_000_000 - elapsed)
    assert flight.left == left
    again = flight.again()
    assert again.args[2] * 1_000_000 >= left  # never too early
    assert again.args[2] <= milliseconds
    assert again.args[:2] == flight.forward.args[:2]


@given(st.integers(0, 1 << 33), st.integers(0, SECOND - 1), st.integers(0, 1 << 62))
def test_what_is_left_of_a_timespec(seconds: int, nanoseconds: int, elapsed: int) -> None:
    flight = by_pointer(seconds, nanoseconds)
    flight.outcome = broken(elapsed)
    assert flight.left == max(0, seconds * SECOND + nanoseconds - elapsed)
    again = flight.again()
    assert struct.unpack("<qq", again.arena[6:22]) == divmod(flight.left, SECOND)
    assert (again.arena[:6], again.arena[22:]) == (b"head..", b"tail")


@given(st.integers(0, 1 << 33), st.integers(0, 999_999), st.integers(0, 1 << 62))
def test_what_is_left_of_a_timeval(seconds: int, micros: int, elapsed: int) -> None:
    flight = by_pointer(seconds, micros, 1000)
    flight.outcome = broken(elapsed)
    assert flight.left == max(0, seconds * SECOND + micros * 1000 - elapsed)
    left_seconds, left_micros = struct.unpack("<qq", flight.again().arena[6:22])
    assert 0 <= left_micros < 1_000_000
    assert 0 <= left_seconds * SECOND + left_micros * 1000 - flight.left < 1000


@pytest.mark.parametrize("milliseconds", [-1, -5000])
def test_for_ever_stays_for_ever(milliseconds: int) -> None:
    flight = by_register(milliseconds)
    flight.outcome = broken(10 * SECOND)
    assert flight.left is None
    assert flight.again() == flight.forward
    assert flight.resume is None


def test_before_it_is_broken_off_nothing_is_known_of_its_time() -> None:
    assert by_register(5000).left is None
    assert by_pointer(5, 0).resume is None


def test_a_call_without_a_timeout() -> None:
    flight = Flight(1, notification(READ), Forward(READ, ARGUMENTS))
    flight.outcome = broken(SECOND)
    assert flight.left is None
    assert flight.again() == flight.forward
    assert flight.resume is None


def test_a_timeout_pointer_that_was_null() -> None:
    forward = Forward(PPOLL, ARGUMENTS, b"head..", 6, timeout=Timeout(2, 6, 1))
    flight = Flight(1, notification(PPOLL), forward, outcome=broken(SECOND))
    assert flight.left is None
    assert flight.resume is None


def test_what_an_image_must_know() -> None:
    flight = by_register(5000)
    flight.outcome = broken(2 * SECOND)
    assert flight.resume == Resume(POLL, 3 * SECOND, 2, False)
    flight = by_pointer(5, 0)
    flight.outcome = broken(2 * SECOND)
    assert flight.resume == Resume(PPOLL, 3 * SECOND, 2, True)
    flight = by_pointer(5, 0, 1000, updated=True)  # the rest stands in the caller's memory
    flight.outcome = broken(2 * SECOND)
    assert flight.resume is None


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (None, -ERESTARTNOINTR),  # nothing has happened: once more
        (Outcome(5, b"hello"), -ERESTARTNOINTR),
        (broken(code=-ERESTARTSYS), -ERESTARTSYS),
        (broken(code=-ERESTARTNOINTR), -ERESTARTNOINTR),
        (broken(code=-ERESTARTNOHAND), -ERESTARTNOHAND),
        (broken(code=-ERESTART_RESTARTBLOCK), -ERESTARTNOHAND),  # the block is the deputy's own
    ],
)
def test_how_an_interrupted_caller_goes_on(outcome: Outcome | None, code: int) -> None:
    flight = by_register(5000)
    flight.outcome = outcome
    assert flight.restart_code == code

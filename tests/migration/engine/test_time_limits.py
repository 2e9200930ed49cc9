"""Asleep with a time limit and moved again and again meanwhile: it wakes when it would have."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import pytest

from .journey import Traveller, build, ended, expect, line, running
from .nest import Nest

pytestmark = pytest.mark.timing

# Scenario of programs/timed.c: what it says when its time is over.
CASES = {
    "nanosleep": "0 -",
    "nanosleep_rest": "0 -",
    "sleep_relative": "0 -",
    "sleep_wall": "0 -",
    "sleep_until": "0 -",
    "sleep_until_wall": "0 -",
    "sleep_boottime": "0 -",
    "usleep": "0 -",
    "many_sleeps": "0 -",
    "rings": "0 -",
    "poll": "0 -",
    "ppoll": "0 -",
    "select": "0 -",
    "pselect": "0 -",
    "epoll_wait": "0 -",
    "epoll_pwait": "0 -",
    "epoll_pwait2": "0 -",
    "futex": "-1 ETIMEDOUT",
    "futex_until": "-1 ETIMEDOUT",
    "sigtimedwait": "-1 EAGAIN",
    "semtimedop": "-1 EAGAIN",
    "mq": "-1 ETIMEDOUT",
    "alarm": "-1 EINTR",
    "timer": "-1 EINTR",
    "timerfd": "8 -",
}
LIMIT_MS = 1500
LATE_MS = 60
NOISE_MS = 140  # other tests share the machine
ROUNDS = 3  # a noisy machine is late now and then; a wait that begins anew is late each time
MOVES = {"stays": (), "ends away": (2, 1, 2, 3), "ends at home": (2, 1, 2, 3, 1)}


@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("case", CASES)
async def test_wakes_in_time(nest: Nest, workshop: Path, case: str, moves: str) -> None:
    rounds = [await lateness(nest, workshop, case, moves)]
    while rounds[-1].unlike_noise and len(rounds) < ROUNDS:
        rounds.append(await lateness(nest, workshop, case, moves))
    assert not rounds[-1].unlike_noise, rounds


class Late(NamedTuple):
    """By how many milliseconds it woke too late, and for how many it had been moved about before."""

    late: float
    moving: float

    @property
    def unlike_noise(self) -> bool:
        """A wait that begins anew is late by all the time that the moves took, which noise makes longer too."""
        return self.late > LATE_MS + max(NOISE_MS, self.moving / 2)


async def lateness(nest: Nest, workshop: Path, case: str, moves: str) -> Late:
    async with running(build("timed", workshop), case, str(LIMIT_MS)) as process:
        traveller = Traveller(nest, process.pid)
        await expect(process, "ready")
        began = time.monotonic()
        await traveller.go(MOVES[moves])
        moving = (time.monotonic() - began) * 1000
        assert await line(process) == CASES[case]
        took, wall = map(int, (await line(process)).split())
        assert took >= LIMIT_MS - 3
        assert abs(took - wall) <= 20
        assert await ended(process) == 0
        return Late(took - LIMIT_MS - max(0.0, moving - LIMIT_MS), min(moving, LIMIT_MS))

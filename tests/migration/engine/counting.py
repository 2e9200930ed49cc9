"""What the counting programs say, reckoned without running them: the work of millions of steps is one formula."""

from __future__ import annotations

from functools import cache

_WORD = 1 << 64
_ROOM = 2 << 20  # steady.c: room
STEADY = 2_000_000  # steps for a line of steady.c


@cache
def _leap(steps: int) -> tuple[int, int]:
    """So many times x * a + c, as one such step: Knuth's constants for 64 bits, as the programs have them."""
    factor, summand = 1, 0
    a, c = 6364136223846793005, 1442695040888963407
    while steps:
        if steps & 1:
            factor, summand = factor * a % _WORD, (summand * a + c) % _WORD
        a, c = a * a % _WORD, (c * a + c) % _WORD
        steps >>= 1
    return factor, summand


def values(lines: int, steps: int) -> list[int]:
    """The numbers that are said, one after `steps` steps each."""
    factor, summand = _leap(steps)
    found, x = [], 1
    for _line in range(lines):
        x = (x * factor + summand) % _WORD
        found.append(x)
    return found


@cache
def _untouched() -> int:
    """The sum over the memory of steady.c before anything is written there."""
    total = 0
    for i in range(_ROOM):
        total = total * 31 + ((i * 7 + (i >> 9)) & 0xFF)
        if i % 64 == 0:
            total %= _WORD
    return total % _WORD


def steady(lines: int) -> str:
    """What steady.c says that is stopped after so many lines."""
    said = values(lines, STEADY)
    changes: dict[int, int] = {}
    for i, x in enumerate(said):
        changes[x % _ROOM] = changes.get(x % _ROOM, 0) ^ (i & 0xFF)
    total = _untouched()
    for at, change in changes.items():
        before = (at * 7 + (at >> 9)) & 0xFF
        total += ((before ^ change) - before) * pow(31, _ROOM - 1 - at, _WORD)
    return "".join(f"{i} {x}\n" for i, x in enumerate(said)) + f"{total % _WORD}\n"

"""What is written into the files, and what is read from them: numbers as text. Pure."""

from __future__ import annotations

import errno
import os
import re

from omtools.agent import api
from omtools.cluster.load import UP
from omtools.errors import (
    AgentVersion,
    AlreadyTraced,
    AtHomeAlready,
    BadRequest,
    CannotMigrate,
    ForeignArchitecture,
    HostKeyWrong,
    KernelDiffers,
    KernelThread,
    KeyNotAuthorised,
    MaskForbids,
    MigrationRunning,
    NoAgent,
    NodeDown,
    NodeFull,
    NodeRefuses,
    NoSuchProcess,
    NotAllowed,
    NotYourProcess,
    OmError,
    ProcessEnded,
    ProcessorLacks,
    StaysThere,
    ThereAlready,
    UnknownNode,
    ZombieProcess,
)

MAX_NODE = 65535
_DIGITS = 4000  # of decimal numbers: Python converts no more than 4300 at once
_LONGEST = 1000  # characters of what is only kept
_MASKED = 4096  # nodes in one mask
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]{1,16384}")
_ERRNOS: tuple[tuple[tuple[type[OmError], ...], int], ...] = (
    ((NoSuchProcess, ProcessEnded, ZombieProcess), errno.ESRCH),
    ((NotYourProcess, NotAllowed, MaskForbids), errno.EPERM),
    ((UnknownNode, BadRequest), errno.EINVAL),
    ((NodeDown,), errno.EHOSTDOWN),
    ((NodeRefuses, HostKeyWrong, KeyNotAuthorised), errno.ECONNREFUSED),
    ((NodeFull,), errno.ENOMEM),
    ((MigrationRunning,), errno.EBUSY),
    (
        (CannotMigrate, KernelDiffers, ProcessorLacks, AlreadyTraced, KernelThread, ForeignArchitecture),
        errno.EOPNOTSUPP,
    ),
    ((NoAgent, AgentVersion), errno.EIO),
)
THERE = (AtHomeAlready, ThereAlready, StaysThere)
"""Errors of a move that say that there is nothing to do."""


def failure(number: int) -> OSError:
    """The OSError of that errno."""
    return OSError(number, os.strerror(number))


def errno_of(error: OmError) -> int:
    """How an agent's refusal looks to a program that reads or writes a file."""
    return next((number for kinds, number in _ERRNOS if isinstance(error, kinds)), errno.EIO)


def whole(text: str, low: int = 0, high: int = MAX_NODE) -> int:
    """A number that was written; raises OSError (EINVAL) for anything else."""
    word = text.strip()
    if not (word.isascii() and word.isdigit()) or len(word) > _DIGITS or not low <= int(word) <= high:
        raise failure(errno.EINVAL)
    return int(word)


def plain(text: str) -> str:
    """Words as openmosix.config can hold them on one line; raises OSError (EINVAL)."""
    word = " ".join(text.split())
    if len(word) > _LONGEST or not word.isprintable() or "'" in word:
        raise failure(errno.EINVAL)
    return word


def flag(text: str) -> bool:
    """0 or 1; raises OSError (EINVAL) for anything else."""
    return bool(whole(text, 0, 1))


def target(text: str) -> str:
    """Where to: a node's number, 0 or "home", or "balance"; raises OSError (EINVAL)."""
    word = text.strip()
    if word in ("home", "balance"):
        return word
    number = whole(word)
    return str(number) if number else "home"


def nodes_of_mask(text: str) -> tuple[int, ...]:
    """The nodes of a bit mask, in which 2^(N-1) is node N; decimal, or hexadecimal with 0x.

    Raises:
        OSError: EINVAL, it is no such mask, or one of more than 4096 nodes.
    """
    word = text.strip()
    highest = (1 << MAX_NODE) - 1
    mask = int(word, 16) if _HEXADECIMAL.fullmatch(word) else whole(word, 0, highest)
    found = tuple(number for number, bit in enumerate(f"{mask:b}"[::-1], 1) if bit == "1")
    if mask > highest or len(found) > _MASKED:
        raise failure(errno.EINVAL)
    return found


def mask_of_nodes(nodes: tuple[int, ...]) -> str:
    """The bit mask of these nodes: decimal, or hexadecimal where it would have thousands of digits."""
    mask = 0
    for number in nodes:
        mask |= 1 << (number - 1)
    return str(mask) if mask.bit_length() <= 3 * _DIGITS else hex(mask)


def overheads_of(tuned: api.Tuned) -> str:
    """Milliseconds of a move, microseconds of a forwarded call, MB/s of a link: as OVERHEADS has them."""
    return f"{tuned.fixed_s * 1e3:g} {tuned.call_s * 1e6:g} {tuned.bytes_per_s / 1e6:g}"


def overheads(text: str) -> api.Tune:
    """The same three, to be set; raises OSError (EINVAL)."""
    try:
        move_ms, call_us, mb_per_s = map(float, text.split())
    except ValueError:
        raise failure(errno.EINVAL) from None
    if not (0 <= move_ms <= 600_000 and 0 <= call_us <= 1e7 and 1e-3 <= mb_per_s <= 1e7):
        raise failure(errno.EINVAL)
    return api.Tune(fixed_s=move_ms / 1e3, call_s=call_us / 1e6, bytes_per_s=mb_per_s * 1e6)


def status_of(view: api.NodeView) -> int:
    """The status bits of a node as it is known; 2, that it is up, is not believed of old news."""
    return view.status if view.state == "up" else view.status & ~UP | 1


def map_of(nodes: api.NodeList) -> str:
    """The map in the syntax of openmosix.map."""
    lines = [f"{entry.first}\t{entry.host}\t{entry.count}" for entry in nodes.ranges]
    lines += [f"{node.number}\t{alias}\tALIAS" for node in nodes.nodes for alias in node.aliases]
    return "\n".join(lines)

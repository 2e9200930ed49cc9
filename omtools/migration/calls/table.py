"""The table: every x86-64 system call up to Linux 6.18, who does it for a process that is away, and how."""

from __future__ import annotations

from collections.abc import Mapping

from omtools.migration.calls.clocks import CLOCKS
from omtools.migration.calls.files import ATTRIBUTES, DESCRIPTORS, NAMES, READING
from omtools.migration.calls.memory import MEMORY
from omtools.migration.calls.model import CallClass, Refusal
from omtools.migration.calls.processes import FAMILY, OWN, SCHEDULING, SYSTEM
from omtools.migration.calls.refused import GONE, REFUSED
from omtools.migration.calls.sockets import QUEUES, SHARED_MEMORY, SOCKETS
from omtools.migration.calls.spec import Call, Const, Do, Ending, Native, Rules, Spec

# Who does the calls whose class is not plain from their specification: they are several in one.
_MIRRORED = frozenset({13, 302})   # rt_sigaction, prlimit64: what they set is needed on both sides
_FORWARDED = frozenset({157})      # prctl: a few options are native


def _kind(nr: int, spec: Spec) -> CallClass:
    """The class of a call in the main."""
    if nr in _MIRRORED or (isinstance(spec, Do) and spec.mirror):
        return CallClass.MIRRORED
    if isinstance(spec, Native) and nr not in _FORWARDED:
        return CallClass.NATIVE
    if isinstance(spec, Refusal):
        return CallClass.HOME
    if isinstance(spec, Const):
        return CallClass.ANSWERED
    return CallClass.EXIT if isinstance(spec, Ending) else CallClass.FORWARDED


TABLE: Mapping[int, Call] = {
    nr: Call(call, _kind(nr, spec), spec)
    for rows in (
        READING, DESCRIPTORS, NAMES, ATTRIBUTES, SOCKETS, QUEUES, SHARED_MEMORY, MEMORY, CLOCKS, OWN, FAMILY,
        SCHEDULING, SYSTEM, REFUSED, GONE,
    )
    for nr, (call, spec) in rows.items()
}

# What the seccomp filter lets through: for each call alternatives, each a tuple of (argument, mask, value)
# equalities that must all hold; 64 bits wide. An empty alternative always holds.
NATIVE_RULES: Mapping[int, Rules] = {
    nr: call.spec.rules for nr, call in TABLE.items() if isinstance(call.spec, Native)
}


def name(nr: int) -> str:
    """The call's name."""
    call = TABLE.get(nr)
    if call is None:
        return f"syscall_{nr:#x}" if nr >> 30 else f"syscall_{nr}"
    return call.name

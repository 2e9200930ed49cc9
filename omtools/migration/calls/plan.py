"""From a trapped call to what is done with it, and from the deputy's answer to the remote's memory.

At the remote's side `plan` and `land`, at the deputy's `collect` and `out_length`. All of it is pure; what
can be prepared is prepared at import time, one planner for each call.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EFAULT

from omtools.i18n import N_, _
from omtools.migration.calls.build import Build, Decided
from omtools.migration.calls.model import (
    Answer,
    Arena,
    ComeHome,
    Continue,
    CpuTime,
    Exit,
    Fault,
    Forward,
    Memory,
    Out,
    OutRule,
    Plan,
    Refusal,
)
from omtools.migration.calls.spec import Const, Cpu, Do, Native, Spec, Switch
from omtools.migration.calls.table import NATIVE_RULES, TABLE, name

__all__ = ["NATIVE_RULES", "collect", "land", "name", "out_length", "plan", "with_timeout"]

Args = tuple[int, ...]
Planner = Callable[[int, Args, Memory, Arena], Plan]

_UNKNOWN = N_("it makes system call number {number}, which is not known here")
_X32_BIT = 0x40000000  # asm/unistd.h, __X32_SYSCALL_BIT
_MAX_ERRNO = 4095      # include/linux/err.h
_CONTINUE = Continue()


def plan(nr: int, args: Args, memory: Memory, arena: Arena) -> Plan:
    """What to do with call `nr` of a process that is away.

    Args:
        nr: the call's number, as it stands in orig_rax.
        args: its six registers, unsigned 64-bit.
        memory: the process's memory.
        arena: the deputy's; a Forward whose `arena_length` exceeds its size wants it grown, at the same base.
    """
    planner = _PLANNERS.get(nr)
    if planner is None:
        number = f"{nr:#x}" if nr & _X32_BIT else str(nr)
        return ComeHome(_(_UNKNOWN).format(number=number))
    try:
        return planner(nr, args, memory, arena)
    except Fault:
        return Answer(-EFAULT)
    except Decided as decided:
        return decided.plan


def with_timeout(forward: Forward, nanoseconds_left: int) -> Forward:
    """The same call with what is left of its timeout, for going on after it was broken off."""
    timeout = forward.timeout
    if timeout is None:
        return forward
    left = max(nanoseconds_left, 0)
    args, arena = forward.args, forward.arena
    if timeout.offset < 0:
        # rounded up: a timeout may come late, never early
        registers = list(args)
        registers[timeout.argument] = min(-(-left // timeout.unit), 0x7FFFFFFF)
        args = (registers[0], registers[1], registers[2], registers[3], registers[4], registers[5])
    else:
        units = -(-left // timeout.unit)
        seconds, rest = divmod(units, 1_000_000_000 // timeout.unit)
        wait = seconds.to_bytes(8, "little") + rest.to_bytes(8, "little")
        arena = arena[: timeout.offset] + wait + arena[timeout.offset + 16 :]
    return Forward(
        forward.nr, args, arena, forward.arena_length, forward.outs, forward.landing, forward.may_block,
        timeout, forward.opens, forward.needs_mask, forward.mirror, forward.sized,
    )


def _signed(result: int) -> int:
    """A result as the kernel's long, whether it came from a register or was one already."""
    return result - (1 << 64) if result >> 63 == 1 else result


_UNITS = {OutRule.RET: 1, OutRule.RET4: 4, OutRule.RET12: 12, OutRule.RET64: 64}


def _length(out: Out, result: int) -> int:
    """How many bytes of this out come back."""
    rule = out.rule
    if rule is OutRule.ALWAYS:
        return out.length
    if -_MAX_ERRNO <= result < 0:
        return 0
    if rule is OutRule.FULL:
        return out.length
    if rule is OutRule.POSITIVE:
        return out.length if result > 0 else 0
    return min(out.length, max(result, 0) * _UNITS[rule])


def out_length(outs: tuple[Out, ...], result: int) -> int:
    """How many bytes come back in all: known from the result, so a reply needs no lengths of its own."""
    result = _signed(result)
    return sum([_length(out, result) for out in outs])


def collect(outs: tuple[Out, ...], result: int, read: Callable[[int, int], bytes]) -> bytes:
    """At the deputy's side: the bytes that go back, one out behind the other.

    `read(offset, length)` reads the arena.
    """
    result = _signed(result)
    pieces = []
    for out in outs:
        length = _length(out, result)
        if length:
            pieces.append(read(out.offset, length))
    return b"".join(pieces)


def land(forward: Forward, result: int, data: bytes) -> list[tuple[int, bytes]]:
    """At the remote's side: what to write where in the process's memory, (address, bytes) in order.

    Raises:
        ValueError: the data is not as long as call and result say; the peer does not keep to the protocol.
    """
    outs = forward.outs
    result = _signed(result)
    pieces: list[bytes] = []
    start = 0
    for out in outs:
        end = start + _length(out, result)
        pieces.append(data[start:end])
        start = end
    if start != len(data):
        raise ValueError(f"{name(forward.nr)}: {len(data)} bytes came back, {start} were expected")
    for index, source, offset in forward.sized:
        real = int.from_bytes(pieces[source][offset : offset + 4], "little", signed=True)
        pieces[index] = pieces[index][: max(real, 0)]
    writes: list[tuple[int, bytes]] = []
    for piece, landing in zip(pieces, forward.landing, strict=True):
        if piece and len(landing) == 1 and landing[0][1] >= len(piece):
            writes.append((landing[0][0], piece))
        elif piece:
            writes += _spread(piece, landing)
    return writes


def _spread(piece: bytes, landing: tuple[tuple[int, int], ...]) -> list[tuple[int, bytes]]:
    """A piece over its segments in turn; what falls to address 0 is dropped."""
    writes = []
    start = 0
    for address, length in landing:
        if start >= len(piece):
            break
        if address and length:
            writes.append((address, piece[start : start + length]))
        start += length
    return writes


# --- from specifications to planners -------------------------------------------------------------------


def _forwarder(spec: Do) -> Callable[[int, Args, Memory, Arena], Forward]:
    """The planner of a call that is forwarded."""
    shapes, block, quick, opens, mask, mirror = spec
    steps = tuple(shape.step() for shape in shapes)
    quick_index, quick_mask = quick or (0, 0)

    def simple(nr: int, args: Args, memory: Memory, arena: Arena) -> Forward:  # noqa: ARG001 - a Planner
        waits = block and not args[quick_index] & quick_mask
        a, b, c, d, e, f = args
        return Forward(nr, (a, b, c, d, e, f), b"", 0, (), (), waits, None, opens, mask, mirror)

    def shaped(nr: int, args: Args, memory: Memory, arena: Arena) -> Forward:
        build = Build(args, memory, arena.base, block and not args[quick_index] & quick_mask)
        for step in steps:
            step(build)
        a, b, c, d, e, f = build.args
        parts = build.parts
        return Forward(
            nr,
            (a, b, c, d, e, f),
            parts[0] if len(parts) == 1 else b"".join(parts),
            build.end,
            tuple(build.outs),
            tuple(build.landing),
            build.may_block,
            build.timeout,
            opens,
            mask,
            mirror,
            tuple(build.sized),
        )

    return shaped if steps else simple


def _native(spec: Native) -> Planner:
    """The planner of a call that the filter lets through; the keeper sees it only if the rules fail."""
    if spec.otherwise is None:
        return lambda nr, args, memory, arena: _CONTINUE  # noqa: ARG005 - a Planner
    rules, otherwise = spec.rules, _compiled(spec.otherwise)

    def native(nr: int, args: Args, memory: Memory, arena: Arena) -> Plan:
        for alternative in rules:
            if all(args[index] & mask == value for index, mask, value in alternative):
                return _CONTINUE
        return otherwise(nr, args, memory, arena)

    return native


def _refusal(spec: Refusal, key: Callable[[Args], int]) -> Planner:
    """The planner of a call for which the process comes home; {number} in its reason is the key."""
    reason = spec.reason

    def refuse(nr: int, args: Args, memory: Memory, arena: Arena) -> Plan:  # noqa: ARG001 - a Planner
        return ComeHome(_(reason).format(call=name(nr), number=key(args)))

    return refuse


def _switch(spec: Switch) -> Planner:
    """The planner of a call that is several calls in one."""
    key = spec.key
    cases = {value: _compiled(case, key) for value, case in spec.cases.items()}
    default = _compiled(spec.default, key)

    def choose(nr: int, args: Args, memory: Memory, arena: Arena) -> Plan:
        return cases.get(key(args), default)(nr, args, memory, arena)

    return choose


def _cpu(spec: Cpu) -> Planner:
    """The planner of a call whose answer both nodes have a share in."""
    layout, forwarder = spec.layout, _forwarder(spec.forward)

    def cpu(nr: int, args: Args, memory: Memory, arena: Arena) -> Plan:
        forward = forwarder(nr, args, memory, arena)
        # without a place for the answer there is nothing to add to: EFAULT, from home
        return CpuTime(layout, forward) if forward.outs else forward

    return cpu


def _no_number(args: Args) -> int:  # noqa: ARG001 - a key
    """The key of calls that are only one."""
    return 0


def _compiled(spec: Spec, key: Callable[[Args], int] = _no_number) -> Planner:
    """The planner of a specification, which is one case of a Switch by that key, or the whole."""
    planner: Planner
    if isinstance(spec, Do):
        planner = _forwarder(spec)
    elif isinstance(spec, Native):
        planner = _native(spec)
    elif isinstance(spec, Refusal):
        planner = _refusal(spec, key)
    elif isinstance(spec, Switch):
        planner = _switch(spec)
    elif isinstance(spec, Cpu):
        planner = _cpu(spec)
    elif isinstance(spec, Const):
        answer = Answer(spec.result)
        planner = lambda nr, args, memory, arena: answer  # noqa: E731, ARG005 - a Planner
    else:
        planner = lambda nr, args, memory, arena: Exit(args[0] & 0xFF)  # noqa: E731, ARG005 - a Planner
    return planner


_PLANNERS = {nr: _compiled(call.spec) for nr, call in TABLE.items()}

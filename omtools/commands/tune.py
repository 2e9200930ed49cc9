"""``tune``: measure what moving and forwarding really cost here, and have the balancer reckon by it.

openMosix's tune calibrated its kernel against a second node, on an idle cluster. Here a process of our own is
moved to each node and back, small and large: the time that it stands still is a fixed part and one for its
bytes. A forwarded system call is timed where the process is away. The node's agent keeps the figures.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from omtools.agent import api
from omtools.agent.client import talk
from omtools.cluster.load import BLOCK, UP
from omtools.commands._common import as_whole, parser, print_json, run, say
from omtools.commands._progress import Progress
from omtools.errors import CannotMeasure, OmError
from omtools.i18n import _

if TYPE_CHECKING:
    import argparse

    from omtools.agent.cluster import Cluster
    from omtools.commands._tune_probe import Probe

_MB = 1 << 20
_Moves = tuple[list[tuple[int, float]], list[tuple[int, float]]]  # bytes and seconds, of small and of large
_TRIES = 3  # on a busy machine a small process may by chance take longer than a large one


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one node.

    Attributes:
        fixed_s: seconds that a process stands still however small it is.
        bytes_per_s: of the way there.
        call_s: seconds that a forwarded call takes.
    """

    fixed_s: float
    bytes_per_s: float
    call_s: float


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_tune, arguments)


def _tune(arguments: list[str]) -> int:
    options = parser(
        "tune",
        _(
            "Measure what moving a process to other nodes and forwarding its system calls cost, and have "
            "this node's balancer reckon by it. Best on an idle cluster, once on each node."
        ),
    )
    options.add_argument(
        "nodes", metavar="NODE", nargs="*", help=_("nodes to measure (else: all that are up)")
    )
    options.add_argument(
        "--size", metavar="MB", type=as_whole(4, 65536), default=64, help=_("of the large process; 64")
    )
    options.add_argument(
        "--rounds", metavar="N", type=as_whole(1, 100), default=3, help=_("moves of each size; 3")
    )
    options.add_argument("--dry-run", action="store_true", help=_("measure only, change nothing"))
    options.add_argument("--json", action="store_true", help=_("print the figures as JSON"))
    given = options.parse_args(arguments)
    return talk("tune", lambda cluster: _measure_all(cluster, given))


async def _measure_all(cluster: Cluster, given: argparse.Namespace) -> int:
    if not given.dry_run:  # whoever may not set it should know before it is measured
        await cluster.tune(api.Tune(yardstick=(await cluster.tuning()).yardstick))
    nodes = await _nodes(cluster, given.nodes)
    found: dict[int, Measured] = {}
    failure: OmError | None = None
    steps = len(nodes) * (4 * given.rounds + 1)
    with Progress(_("steps: moving a process of up to {size} MB").format(size=given.size), steps) as progress:
        for node in nodes:
            try:
                found[node.number] = await _measure(cluster, node, given, progress)
            except OmError as error:
                own = isinstance(error, CannotMeasure)  # which has its reason already
                why = str(error.fields["why"]) if own else str(error).rstrip(".")
                failure = CannotMeasure(node=node.name, why=why)
                say(str(failure))
    if found and not given.dry_run:
        await cluster.tune(request(found))
    _print(found, {node.number: node.name for node in nodes}, given)
    return failure.exit_status if failure is not None else 0


async def _nodes(cluster: Cluster, words: Sequence[str]) -> list[api.NodeName]:
    """Those to measure; raises CannotMeasure if there are none."""
    known = (await cluster.map()).nodes
    if words:
        named = [(await cluster.whois(word)).number for word in words]
        if cluster.number in named:
            own = next(node.name for node in known if node.number == cluster.number)
            raise CannotMeasure(node=own, why=_("it is this node, and the way to others is what is measured"))
        return [node for node in known if node.number in named]
    status = {view.number: view.status for view in await cluster.views()}
    for node in known:
        if not status.get(node.number):  # not heard of yet
            status[node.number] = (await cluster.node(node.number)).status
    up = {number for number, bits in status.items() if bits & UP and not bits & BLOCK}
    found = [node for node in known if node.number in up and node.number != cluster.number]
    if not found:
        raise CannotMeasure(node=_("any other node"), why=_("none is up and takes guests"))
    return found


async def _measure(
    cluster: Cluster, node: api.NodeName, given: argparse.Namespace, progress: Progress
) -> Measured:
    """Raises CannotMeasure: a busy machine hid the difference between small and large several times."""
    moves: _Moves = ([], [])
    for left in reversed(range(_TRIES)):
        call_s = await _sample(cluster, node, given, progress, moves)
        try:
            fixed, speed = fit(*moves)
        except CannotMeasure:
            if not left:
                raise
        else:
            break
    return Measured(fixed, speed, call_s)


async def _sample(
    cluster: Cluster, node: api.NodeName, given: argparse.Namespace, progress: Progress, moves: _Moves
) -> float:
    """Add some moves to what is known; returns what forwarding a call costs, in seconds."""
    from omtools.commands._tune_probe import Probe  # noqa: PLC0415 - --help needs none of it

    with Probe() as probe:
        await cluster.lock(probe.pid, True)
        here = probe.call_seconds()
        moves[0].extend(await _moves(cluster, probe, node, given.rounds, progress))
        probe.fill(given.size * _MB)
        moves[1].extend(await _moves(cluster, probe, node, given.rounds, progress))
        await cluster.migrate(probe.pid, node.number)
        away = probe.call_seconds()
        progress.step()
    return max(away - here, 0.0)


async def _moves(
    cluster: Cluster, probe: Probe, node: api.NodeName, rounds: int, progress: Progress
) -> list[tuple[int, float]]:
    """Bytes and seconds of stillness of some moves there."""
    found = []
    for _round in range(rounds):
        there = await cluster.migrate(probe.pid, node.number)
        progress.step()
        await cluster.migrate(probe.pid, "home")
        progress.step()
        found.append((there.bytes, there.frozen_ms / 1000))
    return found


def fit(small: Sequence[tuple[int, float]], large: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """The fixed part and the bytes per second, from moves of two sizes; by medians, for one may be slow.

    Args:
        small: bytes and seconds of each move of the small process.
        large: the same of the large one.

    Raises:
        CannotMeasure: the large one did not take longer.
    """
    sizes = [median(size for size, _seconds in moves) for moves in (small, large)]
    times = [median(seconds for _size, seconds in moves) for moves in (small, large)]
    if times[1] <= times[0] or sizes[1] <= sizes[0]:
        raise CannotMeasure(node="?", why=_("a large process took no longer than a small one; try --size"))
    speed = (sizes[1] - sizes[0]) / (times[1] - times[0])
    return max(times[0] - sizes[0] / speed, 0.0), speed


def request(found: dict[int, Measured]) -> api.Tune:
    """What the agent is told: the median of all nodes, and each link's own speed."""
    return api.Tune(
        fixed_s=median(one.fixed_s for one in found.values()),
        call_s=median(one.call_s for one in found.values()),
        bytes_per_s=median(one.bytes_per_s for one in found.values()),
        links={number: one.bytes_per_s for number, one in found.items()},
    )


def _print(found: dict[int, Measured], names: dict[int, str], given: argparse.Namespace) -> None:
    if given.json:
        print_json(found)
        return
    sentence = _("To {node}: {fixed:.1f} ms and {speed:.0f} MB/s; a forwarded call {call:.0f} µs.")
    for number, one in found.items():
        figures = {"fixed": one.fixed_s * 1e3, "speed": one.bytes_per_s / 1e6, "call": one.call_s * 1e6}
        print(sentence.format(node=names[number], **figures))
    if not found:
        return
    told = request(found)
    assert told.fixed_s is not None
    assert told.call_s is not None
    assert told.bytes_per_s is not None
    line = f'OVERHEADS="{told.fixed_s * 1e3:.1f} {told.call_s * 1e6:.0f} {told.bytes_per_s / 1e6:.0f}"'
    said = _("The balancer reckons by that from now on; in openmosix.config it would be: {line}")
    if given.dry_run:
        said = _("Nothing was changed; in openmosix.config it would be: {line}")
    print(said.format(line=line))


if __name__ == "__main__":
    sys.exit(main())

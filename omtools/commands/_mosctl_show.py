"""The verbs of mosctl that show something."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from omtools.agent import api
from omtools.cluster.load import BLOCK, STANDARD_SPEED, UP, status_words
from omtools.commands._cluster import report as cluster_report
from omtools.commands._common import print_json
from omtools.commands._mosctl_set import decay_sentence
from omtools.commands._words import paint, table, terminal_columns
from omtools.errors import NodeDown, OmError
from omtools.i18n import _

if TYPE_CHECKING:
    import argparse

    from omtools.agent.cluster import Cluster


async def events(cluster: Cluster, given: argparse.Namespace) -> int:
    """events: one JSON object per line, until Ctrl-C, or until the node that was named is lost."""
    import msgspec  # noqa: PLC0415 - only here

    async for event in cluster.events(node=given.on, all=given.all):
        print(msgspec.json.encode(event).decode(), flush=True)
        if isinstance(event, api.Followed) and event.error and given.on:
            raise OmError.from_wire(event.error)
    return 0


async def calls(cluster: Cluster, given: argparse.Namespace) -> int:
    """calls: a line for each kind of call, the one with the most first."""
    found = await cluster.calls(given.pid)
    if given.json:
        named = {one.name: {"calls": one.calls, "mean_us": round(one.mean_us, 1), "bins": one.bins}
                 for one in found.calls}  # fmt: skip
        print_json({"pid": given.pid, "node": found.node, "calls": named})
        return 0
    if not found.calls:
        print(_("No call of process {pid} was forwarded since it came to node {node}.").format(
            pid=given.pid, node=found.node))  # fmt: skip
        return 0
    rows = [(one.name, str(one.calls), f"{one.mean_us:.0f}", *(f"< {one.within_us(s)}" for s in (0.5, 0.99)))
            for one in found.calls]  # fmt: skip
    heads = [_("CALL"), _("CALLS"), _("MEAN µs"), _("HALF µs"), _("99 % µs")]
    print("\n".join(table(heads, rows, frozenset({0}), terminal_columns())))
    return 0


async def whois(cluster: Cluster, given: argparse.Namespace) -> int:
    """whois: by the map alone."""
    found = await cluster.whois(given.node)
    if given.json:
        print_json(
            {"number": found.number, "name": found.name, "address": found.address, "aliases": found.aliases}
        )
    else:
        print(
            _("openMosix #{number} is {name} at {address}").format(
                number=found.number, name=found.name, address=", ".join([found.address, *found.aliases])
            )
        )
    return 0


async def is_up(cluster: Cluster, given: argparse.Namespace) -> int:
    """isup: exit status 1 if not."""
    report = await cluster.node(given.node)
    up = bool(report.status & UP)
    if given.json:
        print_json({"node": report.number, "up": up})
    else:
        print(_("yes") if up else _("no"))
    return 0 if up else 1


_FIGURES: dict[str, tuple[str, Callable[[api.NodeReport], Any]]] = {
    "getload": ("load", lambda report: report.load),
    "getspeed": ("speed", lambda report: report.speed),
    "getmem": ("available_mb", lambda report: report.mem_available >> 20),
    "getfree": ("free_mb", lambda report: report.mem_free >> 20),
    "getutil": ("util", lambda report: report.util),
}
_BY_YARDSTICK: dict[str, Callable[[float, float], float]] = {
    "getload": lambda load, yard: load * yard,
    "getspeed": lambda speed, yard: speed / yard,
}


async def figure(cluster: Cluster, given: argparse.Namespace) -> int:
    """getload, getspeed, getmem, getfree, getutil."""
    report = await cluster.node(given.node)
    if report.error is not None:
        raise _why(report)
    name, of = _FIGURES[given.verb]
    value = of(report)
    if given.verb in _BY_YARDSTICK:
        yard = (await cluster.tuning()).yardstick / STANDARD_SPEED
        value = round(_BY_YARDSTICK[given.verb](value, yard))
    if given.json:
        print_json({"node": report.number, name: value})
    else:
        print(value)
    return 0


async def yardstick(cluster: Cluster, given: argparse.Namespace) -> int:
    """The verb getyard."""
    speed = (await cluster.tuning(node=given.on)).yardstick
    if given.json:
        print_json({"yardstick": speed})
    else:
        print(speed)
    return 0


async def decay(cluster: Cluster, given: argparse.Namespace) -> int:
    """The verb getdecay."""
    found = await cluster.decay(node=given.on)
    if given.json:
        print_json({"interval_s": found.interval_s, "slow": found.slow, "fast": found.fast})
    else:
        print(decay_sentence(found))
    return 0


async def tuning(cluster: Cluster, given: argparse.Namespace) -> int:
    """gettune: what the balancer takes moving and forwarding to cost."""
    found = await cluster.tuning(node=given.on)
    if given.json:
        print_json(
            {
                "fixed_s": found.fixed_s,
                "call_s": found.call_s,
                "bytes_per_s": found.bytes_per_s,
                "links": found.links,
            }
        )
        return 0
    names = {node.number: node.name for node in (await cluster.map()).nodes} if found.links else {}
    print(_("A move costs {ms:.1f} ms and the time of its bytes.").format(ms=found.fixed_s * 1e3))
    print(_("A forwarded system call costs {us:.0f} µs.").format(us=found.call_s * 1e6))
    print(_("Links carry {speed:.1f} MB/s where not measured.").format(speed=found.bytes_per_s / 1e6))
    for number, speed in sorted(found.links.items()):
        name = names.get(number, str(number))
        print(_("  to {node}: {speed:.1f} MB/s").format(node=name, speed=speed / 1e6))
    return 0


def _why(report: api.NodeReport) -> OmError:
    if report.error is None:
        return NodeDown(node=report.name, address=report.address, why=_("it does not say"))
    return OmError.from_wire(report.error)


async def status(cluster: Cluster, given: argparse.Namespace) -> int:
    """status: as openMosix's init script printed it, and what the node accepts."""
    report = await cluster.node(given.node)
    nodes = await cluster.map()
    if given.json:
        print_json(
            {
                "report": report,
                "words": status_words(report.status),
                "ranges": nodes.ranges,
                "configured": len(nodes.nodes),
            }
        )
        return 0
    if report.number == nodes.own:
        print("\n".join(cluster_report(nodes)))
    else:
        print(
            _("openMosix node #{number} is {name} at {address}").format(
                number=report.number, name=report.name, address=report.address
            )
        )
    if report.error is not None:
        print(_("Down: {why}").format(why=_why(report)))
        return 0
    words = " ".join(status_words(report.status))
    print(_("Status: {status} ({words})").format(status=report.status, words=words))
    print(
        _("Guests: {guests} here, {what}; own processes away: {away}").format(
            guests=report.guests,
            away=report.away,
            what=_("no more accepted") if report.status & BLOCK else _("more are welcome"),
        )
    )
    return 0


async def nodes(cluster: Cluster, given: argparse.Namespace) -> int:
    """nodes: all of the map, as far as this node knows them; it asks nobody."""
    views = await cluster.views()
    if given.json:
        print_json(views)
        return 0
    yard = (await cluster.tuning()).yardstick / STANDARD_SPEED
    titles = [_("NODE"), _("NAME"), _("STATE"), _("LOAD"), _("SPEED"), _("CPUS"), _("FREE MB"), _("MB"),
              _("GUESTS"), _("AWAY"), _("AGE")]  # fmt: skip
    rows = [_row(view, yard) for view in views]
    lines = table(titles, rows, frozenset({1, 2}), terminal_columns())
    print(lines[0])
    for line, view in zip(lines[1:], views, strict=True):
        print(line if view.state == "up" else paint(line, "red" if view.state == "down" else "grey"))
    return 0


def _row(view: api.NodeView, yard: float) -> list[str]:
    state = view.state or _("not heard of")
    if not view.state:
        return [str(view.number), view.name, state, *([""] * 8)]
    figures = (round(view.load * yard), round(view.speed / yard), view.cpus, view.mem_available >> 20,
               view.mem_total >> 20, view.guests, view.away)  # fmt: skip
    return [str(view.number), view.name, state, *map(str, figures), f"{view.age:.1f} s"]

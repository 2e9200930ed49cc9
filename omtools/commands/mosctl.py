"""``mosctl``: ask and set what a node does."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from omtools.agent import api
from omtools.agent.client import Client
from omtools.cluster.load import BLOCK, UP, status_words
from omtools.commands._common import parser, print_json, run
from omtools.errors import NodeDown, OmError
from omtools.i18n import N_, _

if TYPE_CHECKING:
    import argparse


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_mosctl, arguments)


def _mosctl(arguments: list[str]) -> int:
    given = _options().parse_args(arguments)
    with Client(name="mosctl") as agent:
        if given.verb in _VERBS_THAT_SET:
            return _set(agent, given)
        if given.verb == "events":
            return _events(agent)
        if given.verb == "whois":
            return _whois(agent, given.node, given.json)
        if given.verb == "status":
            return _status(agent, given.node, given.json)
        report = agent.call(api.NodeInfo(given.node), api.NodeReport)
    if given.verb == "isup":
        return _isup(report, given.json)
    return _figure(report, given.verb, given.json)


def _set(agent: Client, given: argparse.Namespace) -> int:
    if given.verb in _SWITCHES:
        return _switch(agent, given.verb, given.json)
    if given.verb == "setspeed":
        return _set_speed(agent, given.speed, given.json)
    return _clear(agent, given.verb, given.json)


def _options() -> argparse.ArgumentParser:
    options = parser("mosctl", _("Ask and set what a node does. Without NODE it is this one."))
    verbs = options.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, (what, takes_node) in _VERBS.items():
        said = _(what)
        listed = said.replace("%", "%%")  # argparse formats it
        sub = verbs.add_parser(verb, help=listed, description=said, allow_abbrev=False)
        sub.add_argument("--json", action="store_true", help=_("answer as JSON"))
        sub.add_argument("--debug", action="store_true", help=_("show tracebacks"))
        if takes_node:
            sub.add_argument(
                "node", metavar="NODE", nargs="?", default="", help=_("a node's number, name or address")
            )
        if verb == "setspeed":
            sub.add_argument("speed", metavar="SPEED", type=_speed, help=_("10000 is the standard processor"))
    return options


def _speed(text: str) -> int:
    speed = int(text)
    if not 0 <= speed <= _FASTEST:
        raise ValueError(text)
    return speed


_FASTEST = 10_000_000
_VERBS: dict[str, tuple[str, bool]] = {
    "status": (N_("who this node is, who belongs to its cluster, what it accepts"), True),
    "whois": (N_("a node's number, name and address"), True),
    "isup": (N_("whether a node answers (exit status 1 if not)"), True),
    "getload": (N_("load: 100 is one process that computes, on a standard processor"), True),
    "getspeed": (N_("speed: 10000 is the standard processor"), True),
    "getmem": (N_("memory that a newcomer can have, in MB"), True),
    "getfree": (N_("memory that nothing uses, in MB"), True),
    "getutil": (N_("utilizability: share of the time not lost to memory pressure, in %"), True),
    "block": (N_("accept no guests any more"), False),
    "noblock": (N_("accept guests again"), False),
    "mfs": (N_("let other nodes at this node's files"), False),
    "nomfs": (N_("keep this node's files from other nodes"), False),
    "dfsa": (N_("let migrated processes open files where they run"), False),
    "nodfsa": (N_("have migrated processes' files opened by their deputies"), False),
    "stay": (N_("let nothing leave this node by itself"), False),
    "nostay": (N_("let processes leave by themselves again"), False),
    "lstay": (N_("let none of this node's own processes leave by themselves"), False),
    "nolstay": (N_("let this node's own processes leave by themselves again"), False),
    "quiet": (N_("tell other nodes nothing of this one's load"), False),
    "noquiet": (N_("tell other nodes of this one's load again"), False),
    "expel": (N_("send all guests home and accept no more"), False),
    "bring": (N_("call all own processes home and keep them"), False),
    "events": (N_("print what happens, one JSON object per line, until Ctrl-C"), False),
    "setspeed": (N_("tell others this speed instead of the measured one (0: the measured one)"), False),
}
_SWITCHES: dict[str, tuple[api.SwitchName, bool, str]] = {
    "stay": ("stay", True, N_("Nothing leaves this node by itself from now on.")),
    "nostay": ("stay", False, N_("Processes may leave this node by themselves.")),
    "lstay": ("lstay", True, N_("This node's own processes do not leave by themselves from now on.")),
    "nolstay": ("lstay", False, N_("This node's own processes may leave by themselves.")),
    "quiet": ("quiet", True, N_("Other nodes are told nothing of this one's load from now on.")),
    "noquiet": ("quiet", False, N_("Other nodes are told of this one's load.")),
    "block": ("block", True, N_("Guests are refused from now on.")),
    "noblock": ("block", False, N_("Guests are accepted from now on.")),
    "mfs": ("mfs", True, N_("Other nodes get this node's files from now on.")),
    "nomfs": ("mfs", False, N_("Other nodes do not get this node's files from now on.")),
    "dfsa": ("dfsa", True, N_("What migrates from now on opens its files where it runs.")),
    "nodfsa": ("dfsa", False, N_("What migrates from now on has its files opened at home.")),
}


_VERBS_THAT_SET = {*_SWITCHES, "expel", "bring", "setspeed"}


def _switch(agent: Client, verb: str, as_json: bool) -> int:
    name, on, sentence = _SWITCHES[verb]
    agent.call(api.Switch(name, on), api.Done)
    if as_json:
        print_json({name: on})
    else:
        print(_(sentence))
    return 0


def _clear(agent: Client, verb: str, as_json: bool) -> int:
    question = api.Expel() if verb == "expel" else api.Bring()
    cleared = agent.call(question, api.Cleared)
    if as_json:
        print_json({"moved": cleared.moved, "failures": cleared.failures})
    elif not cleared.failures:
        print(
            _("All remote processes were expelled and no further remote processes accepted.")
            if verb == "expel"
            else _("All processes of this node are at home and stay there.")
        )
    for failure in cleared.failures:
        print(f"mosctl: {OmError.from_wire(failure)}", file=sys.stderr)
    return 1 if cleared.failures else 0


def _set_speed(agent: Client, speed: int, as_json: bool) -> int:
    agent.call(api.SetSpeed(speed), api.Done)
    told = agent.call(api.NodeInfo(), api.NodeReport).speed
    if as_json:
        print_json({"speed": told})
    else:
        print(_("This node's speed is {speed} from now on.").format(speed=told))
    return 0


def _events(agent: Client) -> int:
    import msgspec  # noqa: PLC0415 - only here

    for event in agent.events():
        print(msgspec.json.encode(event).decode(), flush=True)
    return 0


def _whois(agent: Client, word: str, as_json: bool) -> int:
    found = agent.call(api.Whois(word), api.NodeName)
    if as_json:
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


def _isup(report: api.NodeReport, as_json: bool) -> int:
    up = bool(report.status & UP)
    if as_json:
        print_json({"node": report.number, "up": up})
    else:
        print(_("yes") if up else _("no"))
    return 0 if up else 1


_FIGURES: dict[str, tuple[str, Callable[[api.NodeReport], Any]]] = {
    "getload": ("load", lambda report: round(report.load)),
    "getspeed": ("speed", lambda report: report.speed),
    "getmem": ("available_mb", lambda report: report.mem_available >> 20),
    "getfree": ("free_mb", lambda report: report.mem_free >> 20),
    "getutil": ("util", lambda report: report.util),
}


def _figure(report: api.NodeReport, verb: str, as_json: bool) -> int:
    if report.error is not None:
        raise _why(report)
    name, figure = _FIGURES[verb]
    if as_json:
        print_json({"node": report.number, name: figure(report)})
    else:
        print(figure(report))
    return 0


def _why(report: api.NodeReport) -> OmError:
    if report.error is None:
        return NodeDown(node=report.name, address=report.address, why=_("it does not say"))
    return OmError.from_wire(report.error)


def _status(agent: Client, word: str, as_json: bool) -> int:
    report = agent.call(api.NodeInfo(word), api.NodeReport)
    nodes = agent.call(api.Nodes(), api.NodeList)
    if as_json:
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
        print(_("This is openMosix node #{number}").format(number=report.number))
        _print_cluster(nodes)
    else:
        print(
            _("openMosix node #{number} is {name} at {address}").format(
                number=report.number, name=report.name, address=report.address
            )
        )
    if report.error is not None:
        print(_("Down: {why}").format(why=_why(report)))
        return 0
    print(
        _("Status: {status} ({words})").format(
            status=report.status, words=" ".join(status_words(report.status))
        )
    )
    print(
        _("Guests: {guests} here, {what}; own processes away: {away}").format(
            guests=report.guests,
            away=report.away,
            what=_("no more accepted") if report.status & BLOCK else _("more are welcome"),
        )
    )
    return 0


def _print_cluster(nodes: api.NodeList) -> None:
    family = "10 (AF_INET6)" if any(":" in entry.host for entry in nodes.ranges) else "2 (AF_INET)"
    print(_("Network protocol: {family}").format(family=family))
    for entry in nodes.ranges:
        numbers = f"{entry.first}-{entry.first + entry.count - 1}"
        print(_("openMosix range     {numbers:<7} begins at {host}").format(numbers=numbers, host=entry.host))
    print(_("Total configured: {n}").format(n=len(nodes.nodes)))


if __name__ == "__main__":
    sys.exit(main())

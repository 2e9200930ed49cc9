"""``mosctl``: ask and set what a node does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from omtools.agent.client import talk
from omtools.commands import _mosctl_set as setting, _mosctl_show as showing
from omtools.commands._common import as_pid, as_whole, parser, run
from omtools.commands._words import WATCH_SECONDS, as_seconds, watch
from omtools.i18n import N_, _

if TYPE_CHECKING:
    import argparse

    from omtools.agent.cluster import Cluster

_FASTEST = 10_000_000
# What a verb takes: a node to ask about; whether it acts on another node (--on); of which nodes it tells; a
# process; nothing.
_NODE, _ON, _HEAR, _PID, _NOTHING = "node", "on", "hear", "pid", ""
_VERBS: dict[str, tuple[str, str]] = {
    "status": (N_("who this node is, who belongs to its cluster, what it accepts"), _NODE),
    "nodes": (N_("all nodes: state, load, speed, memory, as far as this one knows"), _NOTHING),
    "whois": (N_("a node's number, name and address"), _NODE),
    "isup": (N_("whether a node answers (exit status 1 if not)"), _NODE),
    "getload": (N_("load: 100 is one process that computes, on the yardstick's processor"), _NODE),
    "getspeed": (N_("speed: 10000 is the yardstick's processor"), _NODE),
    "getmem": (N_("memory that a newcomer can have, in MB"), _NODE),
    "getfree": (N_("memory that nothing uses, in MB"), _NODE),
    "getutil": (N_("utilizability: share of the time not lost to memory pressure, in %"), _NODE),
    "block": (N_("accept no guests any more"), _ON),
    "noblock": (N_("accept guests again"), _ON),
    "mfs": (N_("let other nodes at this node's files"), _ON),
    "nomfs": (N_("keep this node's files from other nodes"), _ON),
    "dfsa": (N_("let migrated processes open files where they run"), _ON),
    "nodfsa": (N_("have migrated processes' files opened by their deputies"), _ON),
    "stay": (N_("let nothing leave this node by itself"), _ON),
    "nostay": (N_("let processes leave by themselves again"), _ON),
    "lstay": (N_("let none of this node's own processes leave by themselves"), _ON),
    "nolstay": (N_("let this node's own processes leave by themselves again"), _ON),
    "quiet": (N_("tell other nodes nothing of this one's load"), _ON),
    "noquiet": (N_("tell other nodes of this one's load again"), _ON),
    "expel": (N_("send all guests home and accept no more; returns when they are gone"), _ON),
    "bring": (N_("call all own processes home and keep them; returns when they are there"), _ON),
    "events": (N_("print what happens, one JSON object per line, until Ctrl-C"), _HEAR),
    "lock": (N_("let a running process, and what it starts, not move by itself"), _PID),
    "unlock": (N_("let a running process, and what it starts, move by itself"), _PID),
    "calls": (N_("how long the forwarded calls of a process that is away take, by call"), _PID),
    "setspeed": (N_("tell others this speed instead of the measured one (0: the measured one)"), _ON),
    "getyard": (N_("the yardstick: speed of the processor by which load and speed are shown"), _ON),
    "setyard": (N_("set the yardstick: a speed, a processor's name, or “this”"), _ON),
    "getdecay": (N_("how fast what processes did is forgotten"), _ON),
    "setdecay": (N_("set how fast what processes did is forgotten"), _ON),
    "gettune": (N_("what moving and forwarding cost here, as `tune` has measured it"), _ON),
}
_Verb = Callable[["Cluster", "argparse.Namespace"], Coroutine[Any, Any, int]]
_ACTIONS: dict[str, _Verb] = {
    "status": showing.status,
    "nodes": showing.nodes,
    "whois": showing.whois,
    "isup": showing.is_up,
    "events": showing.events,
    "calls": showing.calls,
    "getyard": showing.yardstick,
    "getdecay": showing.decay,
    "gettune": showing.tuning,
    "expel": setting.clear,
    "bring": setting.clear,
    "lock": setting.lock,
    "unlock": setting.lock,
    "setspeed": setting.set_speed,
    "setyard": setting.set_yard,
    "setdecay": setting.set_decay,
    **dict.fromkeys(setting.SWITCHES, setting.switch),
    **dict.fromkeys(("getload", "getspeed", "getmem", "getfree", "getutil"), showing.figure),
}
_WATCHED = ("status", "nodes", "calls", "isup", "getload", "getspeed", "getmem", "getfree", "getutil")
_MINUS = {f"-{name}": f"no{name}" for name in ("stay", "lstay", "block", "quiet")}  # the original's aliases


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_mosctl, arguments)


def _mosctl(arguments: list[str]) -> int:
    given = _options().parse_args([_MINUS.get(word, word) for word in arguments[:1]] + arguments[1:])
    action = _ACTIONS[given.verb]
    seconds = getattr(given, "watch", None)
    return watch(lambda: talk("mosctl", lambda cluster: action(cluster, given)), seconds)


def _options() -> argparse.ArgumentParser:
    options = parser("mosctl", _("Ask and set what a node does. Without NODE it is this one."))
    verbs = options.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, (what, takes) in _VERBS.items():
        said = _(what)
        listed = said.replace("%", "%%")  # argparse formats it
        sub = verbs.add_parser(verb, help=listed, description=said, allow_abbrev=False)
        as_always = _("as always") if verb == "events" else ""
        sub.add_argument("--json", action="store_true", help=as_always or _("answer as JSON"))
        sub.add_argument("--debug", action="store_true", help=_("show tracebacks"))
        if takes == _NODE:
            sub.add_argument(
                "node", metavar="NODE", nargs="?", default="", help=_("a node's number, name or address")
            )
        elif takes == _ON:
            sub.add_argument("--on", metavar="NODE", default="", help=_("do it on that node"))
        elif takes == _HEAR:
            which = sub.add_mutually_exclusive_group()
            which.add_argument("--on", metavar="NODE", default="", help=_("what happens on that node"))
            which.add_argument("--all", action="store_true", help=_("what happens on all nodes"))
        elif takes == _PID:
            sub.add_argument("pid", metavar="PID", type=as_pid, help=_("its process number, as ps shows it"))
        if verb in _WATCHED:
            sub.add_argument(
                "--watch", metavar="SECONDS", nargs="?", type=as_seconds, const=WATCH_SECONDS,
                help=_("again and again, until Ctrl-C"),
            )  # fmt: skip
        _add_figures(verb, sub)
    return options


def _add_figures(verb: str, sub: argparse.ArgumentParser) -> None:
    speed, portion = as_whole(0, _FASTEST), as_whole(0, 1000)
    if verb == "setspeed":
        sub.add_argument("speed", metavar="SPEED", type=speed, help=_("10000 is the standard processor"))
    elif verb == "setyard":
        known = _("a speed, “this”, or: {known}").format(known=", ".join(setting.PROCESSORS))
        sub.add_argument("processor", metavar="SPEED|NAME|this", help=known)
    elif verb == "setdecay":
        sub.add_argument("interval", metavar="INTERVAL", type=as_whole(1, 65535), help=_("seconds"))
        sub.add_argument("slow", metavar="SLOW", type=portion, help=_("of 1000, what slow decay keeps"))
        sub.add_argument("fast", metavar="FAST", type=portion, help=_("of 1000, what fast decay keeps"))


if __name__ == "__main__":
    sys.exit(main())

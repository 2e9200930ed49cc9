"""``omcomplete``: what could stand at the end of a command line; the shells' completion files ask it.

    omcomplete -- mosctl get

prints one candidate per line, and behind a tab what it is. ``:files`` and ``:commands`` stand
for what the shell itself completes best.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from omtools.agent.client import talk
from omtools.commands._common import parser_of, run
from omtools.errors import OmError, UsageError
from omtools.i18n import N_, _

if TYPE_CHECKING:
    import argparse

FILES, COMMANDS = ":files", ":commands"
Candidate = tuple[str, str]  # the word, what it is

# Those that read their command line with argparse, and the modules of those whose module has another name.
PARSED = (
    "lessons", "migrate", "mosctl", "moslimit", "mosmon", "omagentd", "omanalyzer", "omcheck", "omcollector",
    "omdiscd", "omkey", "omlab", "omnetboot", "omsh", "omsim", "omtui", "openmosix", "setpe", "showmap",
    "tune",
)  # fmt: skip
_HIDDEN = "==SUPPRESS=="  # argparse.SUPPRESS, without argparse
_MODULES = {
    "mosmon": "omtui.mosmon.main", "omanalyzer": "omtui.analyzer.main", "omcollector": "omtui.collector.main",
    "omtui": "omtui.main",
}  # fmt: skip
# Those that pass it on: their own options, and those of them that take a node or something else.
_MOSRUN: dict[str, str] = {
    "-h": N_("here, at home"), "-N": N_("on that node"), "-j": N_("on a random node of a list"),
    "-F": N_("or here, if that node cannot take it"), "-l": N_("unlocked"), "-L": N_("locked"),
    "-k": N_("locked as the caller is"), "-c": N_("it computes"), "-i": N_("it reads and writes"),
    "-n": N_("no decay"), "-s": N_("slow decay"), "-f": N_("fast decay"), "-t": N_("decay interval"),
    "-d": N_("decay portion"), "-z": N_("the first argument is its name"), "--help": N_("help"),
}  # fmt: skip
_MOSRUN_VALUES = {"-N": "node", "-j": "", "-t": "", "-d": ""}
_PLACED = {"-h": N_("here, at home"), "-z": N_("the first argument is its name"), "--help": N_("help")}
_WRAPPERS = ("nomig", "runhome", "runon", "cpujob", "iojob", "nodecay", "slowdecay", "fastdecay")
_PASSING = {
    "mps": {
        "--json": N_("as JSON"),
        "--guests": N_("processes of other nodes"),
        "--io": N_("whose files they read and write"),
        "--files": N_("which files they read and write"),
        "--help": N_("help"),
    },
    "mtop": {"-b": N_("without a terminal"), "--help": N_("help")},
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omcomplete, arguments)


def _omcomplete(arguments: list[str]) -> int:
    words = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not words or words == ["--help"]:
        print(_("usage: omcomplete -- COMMAND [WORD...]: prints what the last word could become"))
        return 0 if words else UsageError.exit_status
    for word, meaning in candidates(words):
        print(f"{word}\t{meaning}" if meaning else word)
    return 0


def candidates(words: list[str]) -> list[Candidate]:
    """What the last word could become.

    Args:
        words: of a command line, the command first, the word to complete last ("" if it is not begun).
    """
    name, prior, current = os.path.basename(words[0]), words[1:-1], words[-1] if len(words) > 1 else ""
    if name in PARSED:
        found = _parsed(name, prior, current)
    elif name == "mosrun" or name in _WRAPPERS:
        found = _mosrun(name, prior, current)
    else:
        found = [(word, _(what)) for word, what in _PASSING.get(name, {}).items()]
    return [(word, what) for word, what in found if word.startswith((current, ":"))]


# ------------------------------------------------------------------------------------------- argparse


def _parsed(name: str, prior: list[str], current: str) -> list[Candidate]:
    parser = parser_of(import_module(_MODULES.get(name, f"omtools.commands.{name}")).main)
    if parser is None:
        return []
    wanting: argparse.Action | None = None  # an option whose value is next
    place = 0
    for word in prior:
        if wanting is not None:
            wanting = None
        elif word.startswith("-") and word != "-":
            action = parser._option_string_actions.get(word)
            wanting = action if action is not None and action.nargs not in (0, "?") else None
        else:
            action = _positional(parser, place)
            inner = action.choices if action is not None else None
            if isinstance(inner, dict) and word in inner:
                parser, place = inner[word], 0
            else:
                place += 1
    if wanting is not None:
        return list(_values(wanting))
    if current.startswith("-"):
        actions = parser._option_string_actions.items()
        return [(option, _help(action)) for option, action in actions if action.help != _HIDDEN]
    action = _positional(parser, place)
    return list(_values(action)) if action is not None else []


def _positional(parser: argparse.ArgumentParser, place: int) -> argparse.Action | None:
    actions = [action for action in parser._actions if not action.option_strings]
    if place < len(actions):
        return actions[place]
    return actions[-1] if actions and actions[-1].nargs in ("*", "+", "...") else None


def _values(action: argparse.Action) -> Iterator[Candidate]:
    if action.choices is not None:
        meanings = {one.dest: _help(one) for one in getattr(action, "_choices_actions", [])}
        yield from ((str(choice), meanings.get(choice, "")) for choice in action.choices)
        return
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    for part in metavar.split("|"):
        if part == "NODE":
            yield from nodes()
        elif part == "PID":
            yield from own_processes()
        elif part in ("FILE", "DIR", "DIRECTORY", "SCENARIO"):
            yield FILES, ""
        elif part.islower():
            yield part, ""


def _help(action: Any) -> str:
    return (action.help or "").replace("%%", "%")


# --------------------------------------------------------------------------------------------- mosrun


def _mosrun(name: str, prior: list[str], current: str) -> list[Candidate]:
    options = _MOSRUN if name == "mosrun" else _PLACED
    values = _MOSRUN_VALUES if name == "mosrun" else {}
    rest = list(prior)
    if name == "runon":
        if not rest:
            return list(nodes())
        rest.pop(0)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        if word in values:
            if not rest:
                return list(nodes()) if values[word] == "node" else []
            rest.pop(0)
    if rest:
        return [(FILES, "")]
    if current.startswith("-"):
        numbers = [(f"-{word}", what) for word, what in nodes() if word.isdigit()]
        return [(word, _(what)) for word, what in options.items()] + numbers
    return [(COMMANDS, "")]


# --------------------------------------------------------------------------------------------- values


def nodes() -> Iterator[Candidate]:
    """The cluster's nodes, by name and by number; none if no agent answers."""
    try:
        found = talk("omcomplete", lambda cluster: cluster.map()).nodes
    except OmError:
        return
    yield from ((node.name, f"{node.number}, {node.address}") for node in found)
    yield from ((str(node.number), node.name) for node in found)


def own_processes() -> Iterator[Candidate]:
    """One's own processes, the youngest first."""
    own = os.getuid()
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int, reverse=True):
        try:
            if os.stat(f"/proc/{name}").st_uid == own and int(name) != os.getpid():
                with open(f"/proc/{name}/comm", encoding="utf-8", errors="replace") as file:
                    yield name, file.read().strip()
        except OSError:
            continue  # it has ended


if __name__ == "__main__":
    sys.exit(main())

"""The line behind ``:``: the tools' own command lines, and the names of screens. Pure."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from omtools.errors import UsageError
from omtools.i18n import N_, _
from omtui import actions
from omtui.actions import Action

PAGES = ("cluster", "processes", "migmon", "live", "analyzer")
THEMES = {
    "dark": "textual-dark",
    "light": "textual-light",
    "ansi-dark": "ansi-dark",
    "ansi-light": "ansi-light",
    "gruvbox": "gruvbox",
    "nord": "nord",
}


@dataclass(frozen=True, slots=True)
class Go:
    """Show another screen."""

    page: str


@dataclass(frozen=True, slots=True)
class Dress:
    """Take another theme."""

    theme: str


@dataclass(frozen=True, slots=True)
class Look:
    """Show all that is known of a node; "" is this one."""

    node: str


@dataclass(frozen=True, slots=True)
class Times:
    """Show how long the calls of a process take."""

    pid: int


@dataclass(frozen=True, slots=True)
class Plain:
    """Something without arguments: "quit", "help", "pause", "copy", "now"."""

    what: str


@dataclass(frozen=True, slots=True)
class Export:
    """Write what the analyzer shows to a file."""

    path: str


@dataclass(frozen=True, slots=True)
class Travel:
    """Show a moment of the past; as `omtui.moments.parse_moment` reads it."""

    moment: str


@dataclass(frozen=True, slots=True)
class Terminal:
    """Open a terminal: the workshop's, or with `console` that of a machine of the lab.

    Attributes:
        console: show a machine's console.
        node: whose; "" is the first.
    """

    console: bool = False
    node: str = ""


Order = Action | Go | Dress | Look | Times | Travel | Export | Terminal | Plain

# What can be typed, with its arguments and its meaning, in the order of the list
SYNTAX: tuple[tuple[str, str], ...] = (
    ("migrate PID NODE|home|balance", N_("move a process, call it home, let it run where it runs best")),
    ("lock PID", N_("the balancer leaves the process alone")),
    ("unlock PID", N_("the balancer may move the process")),
    ("kill -STOP|-CONT|-TERM|-KILL PID", N_("stop, continue or end a process")),
    ("renice -n NICE -p PID", N_("give a process another priority")),
    ("mosctl SWITCH [--on NODE]", N_("set a switch of a node: block, noblock, stay, nostay …")),
    ("mosctl expel", N_("send all guests home and accept no more")),
    ("mosctl bring", N_("call all own processes home and keep them")),
    ("mosctl setspeed SPEED", N_("tell other nodes this speed; 0: the measured one")),
    ("mosctl setyard SPEED", N_("the processor by which load and speed are shown")),
    ("mosctl setdecay SECONDS SLOW FAST", N_("how fast what processes did is forgotten")),
    ("mosctl getdecay [--on NODE]", N_("how fast what processes did is forgotten")),
    ("mosctl gettune [--on NODE]", N_("what moving and forwarding cost")),
    ("moslimit [--load N] [--cpu N] [--guests N] [--on NODE]", N_("what guests may take of a node")),
    ("mosctl calls PID", N_("how long the calls of a process take")),
    ("mosctl status NODE", N_("all that is known of a node")),
    ("cluster", N_("a row per node")),
    ("processes", N_("a row per process")),
    ("migmon", N_("nodes in a circle")),
    ("live", N_("what happens at this moment")),
    ("analyzer", N_("load and memory of hours and days")),
    ("export FILE", N_("the analyzer's plot as .svg or .png, its figures as .csv")),
    ("workshop", N_("the lesson beside omsh")),
    ("console NODE", N_("the console of a machine of the lab")),
    ("theme NAME", N_("other colours: dark, light, ansi-dark, ansi-light, gruvbox, nord")),
    ("at TIME", N_("back in time: 14:05, 2026-11-23 14:05, 10m, +1h, or a checkpoint")),
    ("now", N_("back to the present")),
    ("pause", N_("hold the picture, or go on")),
    ("copy", N_("copy the last command line")),
    ("help", N_("all keys of this screen")),
    ("quit", N_("end")),
)
_PLAIN = {"now": "now", "pause": "pause", "copy": "copy", "help": "help", "quit": "quit", "q": "quit"}


def parse(line: str) -> Order:
    """What a line asks for.

    Raises:
        UsageError: it makes no sense.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(detail=_("{line}: {why}.").format(line=line, why=error)) from None
    if not words:
        raise UsageError(detail=_("Nothing was typed; `?` shows what can be."))
    name, *rest = words
    if name in _PLAIN and not rest:
        return Plain(_PLAIN[name])
    if name in PAGES and not rest:
        return Go(name)
    if name not in _PARSERS:
        _unknown(name)
    return _PARSERS[name](rest)


def _unknown(name: str) -> NoReturn:
    known = [*_PARSERS, *_PLAIN, *PAGES]
    close = difflib.get_close_matches(name, known, 1)
    said = _("There is no command “{name}”.").format(name=name)
    if close:
        said += " " + _("Did you mean `{close}`?").format(close=close[0])
    raise UsageError(detail=said)


def _wrong(command: str) -> NoReturn:
    syntax = next(line for line, _what in SYNTAX if line.split()[0] == command)
    raise UsageError(detail=_("It is written `{syntax}`.").format(syntax=syntax))


def _number(word: str, command: str) -> int:
    if not (word.removeprefix("-").isascii() and word.removeprefix("-").isdigit()):
        _wrong(command)
    return int(word)


def _migrate(words: list[str]) -> Order:
    if len(words) != 2:
        _wrong("migrate")
    return actions.migrate(_number(words[0], "migrate"), words[1])


def _lock(words: list[str]) -> Order:
    if len(words) != 1:
        _wrong("lock")
    return actions.lock(_number(words[0], "lock"), True)


def _unlock(words: list[str]) -> Order:
    if len(words) != 1:
        _wrong("unlock")
    return actions.lock(_number(words[0], "unlock"), False)


def _kill(words: list[str]) -> Order:
    if len(words) == 1:
        words = ["-TERM", *words]
    name = words[0].removeprefix("-").removeprefix("SIG").upper() if words else ""
    if len(words) != 2 or name not in actions.SIGNALS:
        _wrong("kill")
    return actions.signal(_number(words[1], "kill"), name)


def _renice(words: list[str]) -> Order:
    found = [word for word in words if word not in ("-n", "-p")]
    if len(found) != 2 or not -20 <= _number(found[0], "renice") <= 19:
        _wrong("renice")
    return actions.renice(_number(found[1], "renice"), int(found[0]))


def _theme(words: list[str]) -> Order:
    if len(words) != 1 or words[0] not in THEMES:
        _wrong("theme")
    return Dress(THEMES[words[0]])


def _at(words: list[str]) -> Order:
    if not words:
        _wrong("at")
    return Travel(" ".join(words))


def _export(words: list[str]) -> Order:
    if len(words) != 1:
        _wrong("export")
    return Export(words[0])


def _mosctl(words: list[str]) -> Order:
    node = ""
    if "--on" in words[:-1]:
        where = words.index("--on")
        node = words[where + 1]
        words = words[:where] + words[where + 2 :]
    verb = words[0] if words else ""
    for row in actions.known_switches():
        if verb in (row.name, f"no{row.name}") and len(words) == 1:
            return actions.switch(row, verb == row.name, node)
    if verb in ("lock", "unlock") and len(words) == 2:
        return actions.lock(_number(words[1], verb), verb == "lock")
    if verb in ("setspeed", "setyard", "setdecay"):
        return _mosctl_set(verb, words[1:], node)
    if (shown := _mosctl_show(verb, words[1:], node)) is not None:
        return shown
    if verb in ("status", "whois") and len(words) <= 2 and not node:
        return Look(words[1] if len(words) == 2 else "")
    if verb in ("expel", "bring") and len(words) == 1:
        return actions.expel(node) if verb == "expel" else actions.bring(node)
    raise UsageError(detail=_("mosctl has no such verb here: “{verb}”.").format(verb=" ".join(words)))


def _mosctl_show(verb: str, rest: list[str], node: str) -> Order | None:
    """Verbs that change nothing; None: it is none of them."""
    if verb in ("getdecay", "gettune", "getyard") and not rest:
        return actions.ask_decay(node) if verb == "getdecay" else actions.ask_tuning(node)
    if verb == "calls" and len(rest) == 1:
        return Times(_number(rest[0], "mosctl"))
    if verb in ("nodes", "events") and not rest:
        return Go("cluster" if verb == "nodes" else "live")
    return None


def _mosctl_set(verb: str, words: list[str], node: str) -> Order:
    numbers = [_number(word, "mosctl") for word in words]
    highest = {"setspeed": [10_000_000], "setyard": [10_000_000], "setdecay": [86_400, 1000, 1000]}[verb]
    lowest = 0 if verb == "setspeed" else 1
    if len(numbers) != len(highest) or not all(
        lowest <= number <= most for number, most in zip(numbers, highest, strict=True)
    ):
        syntax = next(line for line, _what in SYNTAX if line.startswith(f"mosctl {verb}"))
        raise UsageError(detail=_("It is written `{syntax}`.").format(syntax=syntax))
    if verb == "setdecay":
        interval, slow, fast = numbers
        return actions.set_decay(interval, slow, fast, node)
    return (actions.set_speed if verb == "setspeed" else actions.set_yardstick)(numbers[0], node)


def _moslimit(words: list[str]) -> Order:
    node, given = "", {}
    if len(words) % 2:
        _wrong("moslimit")
    for option, word in zip(words[::2], words[1::2], strict=True):
        name = option.removeprefix("--")
        if option == "--on":
            node = word
        elif name in actions.LIMITS:
            given[name] = -1 if word == "off" else _number(word, "moslimit")
            if not -1 <= given[name] <= actions.LIMITS[name]:
                _wrong("moslimit")
        else:
            _wrong("moslimit")
    return actions.limit(given, node)


def _console(words: list[str]) -> Order:
    if len(words) > 1:
        _wrong("console")
    return Terminal(True, words[0] if words else "")


def _workshop(words: list[str]) -> Order:
    if words:
        _wrong("workshop")
    return Terminal()


_PARSERS: dict[str, Callable[[list[str]], Order]] = {
    "migrate": _migrate,
    "lock": _lock,
    "unlock": _unlock,
    "kill": _kill,
    "renice": _renice,
    "theme": _theme,
    "at": _at,
    "export": _export,
    "console": _console,
    "workshop": _workshop,
    "mosctl": _mosctl,
    "moslimit": _moslimit,
}


def suggestions() -> list[str]:
    """Beginnings of lines, for completion."""
    found = ["migrate ", "lock ", "unlock ", "kill -", "renice -n ", "mosctl expel", "mosctl bring"]
    for row in actions.known_switches():
        found += [f"mosctl {row.name}", f"mosctl no{row.name}"]
    found += [
        "mosctl setspeed ",
        "mosctl setyard ",
        "mosctl setdecay ",
        "mosctl getdecay",
        "mosctl gettune",
        "mosctl calls ",
        "mosctl status ",
        "moslimit --",
        *(f"theme {name}" for name in THEMES),
        "at ",
        "export ",
        "now",
    ]
    return [*found, *PAGES, "workshop", "console ", "pause", "copy", "help", "quit"]

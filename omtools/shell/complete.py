"""What could come next on a command line. Pure: what the node has is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

WORKSHOP_WORDS = (
    ":next", ":run", ":hint", ":solution", ":list", ":check", ":reset", ":show", ":go", ":answer", ":sandbox",
    ":quit", ":help",
)  # fmt: skip

# What the userland tools take, by command: their words and options.
TOOLS: dict[str, tuple[str, ...]] = {
    "migrate": ("home", "--json"),
    "mosctl": ("status", "whois", "isup", "getload", "getspeed", "getmem", "getfree", "getutil", "block",
               "noblock", "mfs", "nomfs", "dfsa", "nodfsa", "stay", "nostay", "lstay", "nolstay", "quiet",
               "noquiet", "expel", "bring", "events", "setspeed", "--json"),
    "mosrun": ("-h", "-N", "-j", "-F", "-l", "-L", "-k", "-z"),
    "mps": ("--json", "--guests", "-o", "-p", "-e", "-f", "aux"),
    "omcheck": ("--json",),
    "cable": ("pull", "plug", "show", "in", "out"),
    "power": ("on", "off", "reset"),
    "console": ("--watch",),
    "events": ("--follow", "--json"),
    "omkey": ("create", "join", "show", "list", "accept", "refuse", "forget", "sign", "retire"),
    "openmosix": ("start", "stop", "restart", "status"),
}  # fmt: skip
_TAKE_NODES = {"migrate", "mosctl", "mosrun", "on", "power", "cable", "console"}
_TAKE_PIDS = {"migrate", "kill", "mps", "ps", "strace"}
_WORD = re.compile(r"(?:[^\s'\"\\|&;()<>]|\\.)*\Z")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One possibility.

    Attributes:
        text: the whole word.
        start: where it begins, counted from the cursor (0 or less).
        meta: what it is, for people.
    """

    text: str
    start: int
    meta: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What the node has.

    Attributes:
        nodes: names.
        processes: pids of one's own and their command lines.
        commands: names of programs; asked only when needed.
        entries: names in a directory (a directory's ends with a slash); relative to the shell's.
    """

    nodes: tuple[str, ...] = ()
    processes: tuple[tuple[int, str], ...] = ()
    commands: Callable[[], Iterable[str]] = field(default=lambda: ())
    entries: Callable[[str], Iterable[str]] = field(default=lambda _directory: ())


def complete(line: str, around: Surroundings) -> list[Candidate]:
    """The possibilities for the word that ends the line."""
    if line.startswith(":") and " " not in line:
        return [Candidate(word, -len(line)) for word in WORKSHOP_WORDS if word.startswith(line)]
    found = _WORD.search(line)
    word = found[0] if found else ""
    before = _command_before(line[: len(line) - len(word)])
    start = -len(word)
    if before and before[0] == "on" and len(before) >= 2:
        before = before[2:]
    if not before:
        names = [*sorted(around.commands()), *around.nodes, "on"] if "/" not in word else []
        listed = [Candidate(name, start) for name in dict.fromkeys(names) if name.startswith(word) and word]
        return listed or (_paths(word, around) if word else [])
    return [*_arguments(before, word, around), *(_paths(word, around) if word or len(before) else [])]


def _command_before(text: str) -> list[str]:
    """The words of the last simple command in the text."""
    return re.split(r"[|&;()]", text)[-1].split()


def _arguments(before: list[str], word: str, around: Surroundings) -> list[Candidate]:
    command, start = before[0], -len(word)
    found = [Candidate(name, start) for name in TOOLS.get(command, ()) if name.startswith(word)]
    if command in _TAKE_PIDS and (not word or word.isdigit()) and not (command == "migrate" and before[1:]):
        found += [
            Candidate(str(pid), start, what) for pid, what in around.processes if str(pid).startswith(word)
        ]
    takes_node = command in _TAKE_NODES and not (command == "migrate" and not before[1:])
    if takes_node or word:
        small = word.casefold()
        found += [Candidate(name, start) for name in around.nodes if name.casefold().startswith(small)]
    return found


def _paths(word: str, around: Surroundings) -> list[Candidate]:
    directory, slash, name = word.rpartition("/")
    listed = around.entries(f"{directory}{slash}".replace("\\", ""))
    plain = name.replace("\\", "")
    return [
        Candidate(f"{directory}{slash}{_quoted(entry)}", -len(word))
        for entry in sorted(listed)
        if entry.startswith(plain) and (plain.startswith(".") or not entry.startswith("."))
    ]


def _quoted(name: str) -> str:
    return re.sub(r"([\s'\"\\|&;()<>$`*?\[\]#~])", r"\\\1", name)


def unfinished(line: str) -> bool:
    """Whether bash would ask for another line: an open quote, or a dangling backslash, pipe or operator."""
    quote = ""
    escaped = False
    for letter in line:
        if escaped:
            escaped = False
        elif quote == "'":
            quote = "" if letter == "'" else quote
        elif letter == "\\":
            escaped = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
    return bool(quote) or escaped or line.rstrip().endswith(("|", "&&", "||"))

"""``mosrun``: start a command, there or here, locked or free.

The command takes mosrun's place (exec): its pid is the one the shell knows, the terminal, the process
group, signals and the exit status are the kernel's own business, and no wrapper waits around. To send it to
another node, a small helper that is nobody's child asks the agent to migrate that very pid as soon as it
runs the new program. That the node will take it is asked before, so that "the node is down" is an error
of mosrun and the command is not started at all; if the move itself fails, the command runs on here and the
helper says so.
"""

from __future__ import annotations

import errno
import os
import random
import sys
from dataclasses import dataclass, field
from typing import TypeVar

from omtools.agent import api
from omtools.agent.client import talk
from omtools.agent.cluster import Cluster
from omtools.cluster.load import BLOCK, UP
from omtools.cluster.process_settings import DecayName, HintName, ProcessSettings
from omtools.commands._common import run, say
from omtools.errors import (
    NoAgent,
    NodeDown,
    NodeRefuses,
    NoSuchProcess,
    OmError,
    ProcessEnded,
    UsageError,
    ZombieProcess,
)
from omtools.i18n import N_, _

_T = TypeVar("_T")
_HELP = N_("""\
usage: mosrun [-h | -NODE | -jLIST [-F]] [-l | -L | -k] [-c | -i | -n | -s | -f]
              [-t SECONDS] [-d PORTION] [-e | -E] [-r | -R] [-z] command [argument...]

Start a command. It keeps its pid, terminal and exit status wherever it runs.

  -h        run it here, at home
  -NODE     run it on the node with that number (or: -N NODE, by number or name)
  -jLIST    run it on a random node of a list such as 1-4,7
  -F        if that node cannot take it, run it here
  -l        unlocked: the balancer may move it
  -L        locked: it stays where it is (the default, unless one of -c to -d is given without a place)
  -k        as the caller is (the default then)
  -c        it mostly computes: the balancer forgets its system calls and files
  -i        it mostly reads and writes: they count most
  -n        no decay: what it did long ago counts as much as what it did just now
  -s        slow decay: it counts less (the default)
  -f        fast decay: it counts hardly
  -t SECONDS  after how many seconds what it did counts less
  -d PORTION  how much of it then counts on, of 1000
  -e -E -r -R  accepted and without effect, for old scripts: what they meant is not known any more
  -z        the first argument is the name under which the command is run
  --help    show this
""")

_HINTS: dict[str, HintName] = {"c": "cpu", "i": "io"}
_DECAYS: dict[str, DecayName] = {"n": "none", "s": "slow", "f": "fast"}
_WITHOUT_EFFECT = "eErR"
_FIGURES = {"t": (1, 65535), "d": (0, 1000)}  # seconds; the portion that is kept, of 1000
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127  # what shells exit with
_PR_SET_PTRACER = 0x59616D61
_PR_SET_PTRACER_ANY = (1 << 64) - 1


@dataclass
class _Wish:
    """What the command line says."""

    nodes: list[str] = field(default_factory=list)
    home: bool = False
    force: bool = False
    lock: bool | None = None
    keep: bool = False
    named: bool = False
    hint: HintName | None = None
    decay: DecayName | None = None
    figures: dict[str, int] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)

    @property
    def locked(self) -> bool | None:
        """What to tell the agent; None: nothing, so the caller's state is inherited."""
        if self.lock is not None or self.keep:
            return self.lock
        advised = self.hint or self.decay or self.figures
        return None if advised and not (self.home or self.nodes) else True

    @property
    def settings(self) -> ProcessSettings:
        """All that the agent is told."""
        own = bool(self.figures)
        return ProcessSettings(
            locked=self.locked,
            hint=self.hint,
            decay="own" if own else self.decay,
            interval_s=self.figures.get("t"),
            keep=self.figures.get("d"),
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status, or not at all."""
    return run(command, arguments)


def command(arguments: list[str]) -> int:
    """What `main` runs; also for its short forms (`wrappers`). Returns only where there is nothing to run."""
    if arguments[:1] == ["--help"]:
        print(_(_HELP), end="")
        return 0
    wish = parse(arguments)
    target = _choose(wish) if wish.nodes else None
    if wish.settings != ProcessSettings():
        _tell(wish)
    if target is None:
        return _become(wish)
    _allow_tracing()
    helper = _leave_helper(target)
    status = _become(wish)
    os.write(helper, b"x")  # there is nothing to move
    return status


def parse(arguments: list[str]) -> _Wish:
    """Read the command line; the options end where the command begins.

    Raises:
        UsageError: it makes no sense.
    """
    wish, rest = _Wish(), list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word == "-N":
            if not rest:
                raise UsageError(detail=_("-N needs a node."))
            wish.nodes = [rest.pop(0)]
        elif word.startswith("-j"):
            wish.nodes = _node_list(word[2:] or (rest.pop(0) if rest else ""))
        elif word[1:].isdigit():
            wish.nodes = [word[1:]]
        elif word != "--debug":
            _letters(wish, word, rest)
    if not rest:
        raise UsageError(detail=_("Which command? `mosrun --help` shows how to write it."))
    if wish.named and len(rest) < 2:
        raise UsageError(detail=_("-z needs the command and the name to run it under."))
    if wish.decay is not None and wish.figures:
        raise UsageError(detail=_("-n, -s and -f do not go with -t and -d, which say the same in figures."))
    if wish.home and wish.nodes:
        raise UsageError(detail=_("At home or on another node: -h does not go with a node."))
    wish.command = rest
    return wish


def _letters(wish: _Wish, word: str, rest: list[str]) -> None:
    for place, letter in enumerate(word[1:], 2):
        if letter in _FIGURES:
            # Its figure is the rest of the word, or the next one.
            figure = word[place:] or (rest.pop(0) if rest else "")
            wish.figures[letter] = _figure(letter, figure)
            return
        if letter == "h":
            wish.home = True
        elif letter == "F":
            wish.force = True
        elif letter in "lL":
            wish.lock, wish.keep = letter == "L", False
        elif letter == "k":
            wish.lock, wish.keep = None, True
        elif letter == "z":
            wish.named = True
        elif letter in _HINTS:
            wish.hint = _only(_HINTS[letter], wish.hint, "-c, -i")
        elif letter in _DECAYS:
            wish.decay = _only(_DECAYS[letter], wish.decay, "-n, -s, -f")
        elif letter not in _WITHOUT_EFFECT:
            raise UsageError(
                detail=_("There is no option {word}; `mosrun --help` shows those there are.").format(
                    word=word
                )
            )


def _figure(letter: str, word: str) -> int:
    low, high = _FIGURES[letter]
    if not (word.isascii() and word.isdigit() and len(word) < 10) or not low <= int(word) <= high:
        raise UsageError(
            detail=_("-{letter} needs a number from {low} to {high}, not “{word}”.").format(
                letter=letter, low=low, high=high, word=word
            )
        )
    return int(word)


def _only(new: _T, old: _T | None, group: str) -> _T:
    if old not in (None, new):
        raise UsageError(detail=_("Only one of {group} can be given.").format(group=group))
    return new


def _node_list(text: str) -> list[str]:
    """1-4,7: all of these numbers, as words."""
    nodes: list[str] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or len(first + last) > 10:
            raise UsageError(detail=_("“{text}” is no list of nodes such as 1-4,7.").format(text=text))
        numbers = range(int(first), int(last or first) + 1)
        if not 1 <= len(numbers) <= 65535:
            raise UsageError(detail=_("“{text}” is no list of nodes such as 1-4,7.").format(text=text))
        nodes += [str(number) for number in numbers]
    return nodes


def _choose(wish: _Wish) -> str | None:
    """The node to go to, None for here.

    Raises:
        OmError: none of those asked for can take it, and -F was not given.
    """
    candidates = random.sample(wish.nodes, len(wish.nodes))

    async def first_fit(cluster: Cluster) -> str | OmError | None:
        problem: OmError | None = None
        for word in candidates:
            report = await cluster.node(word)
            problem = _unfit(report, cluster.number)
            if problem is None:
                return word if report.number != cluster.number else None
        return problem

    found: str | OmError | None
    try:
        found = talk("mosrun", first_fit)
    except OmError as error:
        found = error
    if not isinstance(found, OmError):
        return found
    if not wish.force:
        raise found
    return None


def _unfit(report: api.NodeReport, own: int) -> OmError | None:
    if report.number == own:
        return None
    if report.error is not None:
        return OmError.from_wire(report.error)
    if not report.status & UP:
        return NodeDown(node=report.name, address=report.address, why=_("it does not say"))
    if report.status & BLOCK:
        return NodeRefuses(node=report.name, why=_("it is blocked; `mosctl noblock` there lifts that"))
    return None


def _tell(wish: _Wish) -> None:
    pid = os.getpid()
    try:
        talk("mosrun", lambda cluster: cluster.set_process(pid, wish.settings))
    except NoAgent as error:
        # Without an agent nothing moves anyway; only who asked for something by name is told.
        if wish.lock is not None:
            say(str(error))


def _allow_tracing() -> None:
    """Where Yama lets only ancestors trace (ptrace_scope 1), let the agent's keepers do it.

    The kernel keeps that over exec, and offers nothing finer that would hold here: the keeper that will
    seize this process does not exist yet.
    """
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as file:
            if file.read().strip() != "1":
                return
    except OSError:
        return
    from omtools.linux.libc import C  # noqa: PLC0415 - seldom needed

    C.prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)


def _leave_helper(target: str) -> int:
    """Leave somebody behind who asks for the move once this process runs the command.

    Forked twice, so that the command finds no child it does not know of. Returns the pipe that says when:
    exec closes it; where exec fails, a byte must be written.
    """
    pid = os.getpid()
    hears, says = os.pipe()
    child = os.fork()
    if child:
        os.close(hears)
        os.waitpid(child, 0)
        return says
    if os.fork():
        os._exit(0)
    try:
        os.setsid()  # Ctrl-C is for the command
        # Whatever else the command was given: who waits for its end must not wait for ours. stderr stays.
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(hears, 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        _help(pid, target)
    finally:
        os._exit(0)


def _help(pid: int, target: str) -> None:
    if os.read(3, 1):  # exec failed
        return
    try:
        talk("mosrun", lambda cluster: cluster.migrate(pid, target))
    except (ProcessEnded, NoSuchProcess, ZombieProcess):
        return  # it was done before it could be moved: no fault
    except OmError as error:
        say(_("{error} The command runs here.").format(error=error))


def _become(wish: _Wish) -> int:
    program = wish.command[0]
    try:
        os.execvp(program, wish.command[1:] if wish.named else wish.command)
    except OSError as error:
        import shutil  # noqa: PLC0415 - only for a better word

        # A directory of PATH that may not be looked into is no reason to say "Permission denied".
        missing = "/" not in program and shutil.which(program, os.F_OK) is None
        why = os.strerror(errno.ENOENT) if missing else error.strerror
        say(_("{program}: {why}.").format(program=program, why=why))
        return _NOT_FOUND if missing or isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE


if __name__ == "__main__":
    sys.exit(main())

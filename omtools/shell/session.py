"""A session of omsh: lines come in, run on nodes or are for the workshop, until it is enough."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence

from omtools.errors import NodeShellError, OmError
from omtools.i18n import N_
from omtools.shell import events
from omtools.shell.bench import Bench
from omtools.shell.cluster import Cluster, place
from omtools.shell.complete import Surroundings
from omtools.shell.facts import Facts
from omtools.shell.grounds import Grounds
from omtools.shell.lesson import Lesson
from omtools.shell.library import choose
from omtools.shell.markdown import BOLD, DIM
from omtools.shell.node_shell import NodeShell
from omtools.shell.plain_reader import PlainReader, Reader, Watched
from omtools.shell.progress import Store, state_directory
from omtools.shell.relay import HungUpError, relay
from omtools.shell.screen import Screen
from omtools.shell.words import tr
from omtools.shell.workshop import Workshop

LETTERS = {
    "n": ":next", "r": ":run", "h": ":hint", "l": ":list", "c": ":check", "x": ":reset", "q": ":quit",
}  # fmt: skip
_DYING_S = 3.0  # that a node may take to end behind its shell
_GONE = ":gone"  # nobody types it: the shell behind the prompt has ended


def status_line(facts: Facts) -> str:
    """The nodes with their loads, and where processes are that are away; of machines, how they stand."""
    if facts.machines:
        return "  ".join(f"{one.name} {one.state}" for one in facts.machines.values())
    nodes = [f"{node.name} {node.load:.0f}" if node.up else f"{node.name} -" for node in facts.nodes.values()]
    away = [f"{p.pid}→{p.where}" for p in facts.processes if p.where != p.home]
    return "  ".join(nodes + ([tr(N_("away:")) + " " + " ".join(away)] if away else []))


def clip(text: str, width: int) -> str:
    """The text, or as much of it as fits."""
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def fold(words: Sequence[str], width: int) -> list[str]:
    """Words two blanks apart, in as many lines as it takes."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]}  {word}" if lines[-1] else word
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Session:
    """omsh at work.

    Args:
        cluster: what is in front of it.
        screen: the learner's terminal.
        start: the node to begin on, "" for the first one.
    """

    def __init__(self, cluster: Cluster, screen: Screen, start: str = "") -> None:
        self._cluster = cluster
        self._screen = screen
        self._shells: dict[str, NodeShell] = {}
        self._ended: list[NodeShell] = []
        self._start = start or next(iter(cluster.nodes))
        self._node = self._start
        self._leaving = False
        self._reader: Reader = PlainReader()
        self.workshop: Workshop | None = None
        self._fresh = False

    # --------------------------------------------------------------------- what the workshop asks for

    @property
    def node(self) -> str:
        """Where the shell is."""
        return self._node

    def go(self, node: str) -> None:
        """Take the shell to a node."""
        self._shell(node)
        self._node = node

    def type(self, line: str) -> None:
        """Run a line as if it had been typed."""
        self._screen.write(f"{self._prompt()}{line}\n")
        self._line(line)

    def confirm(self, question: str) -> bool:
        """Ask yes or no."""
        try:
            asked = self._screen.style.letters(f"{question} {tr(N_('[y/N]'))} ")
            reply = PlainReader().ask(asked, []) if sys.stdin.isatty() else self._reader.ask("", [])
        except (EOFError, KeyboardInterrupt):
            return False
        return reply.strip().casefold() in ("y", "yes", *tr(N_("y yes")).split())

    def leave(self) -> None:
        """End after this."""
        self._leaving = True

    def rebuild_lab(self) -> None:
        """Take the lab down, with all shells; `bench` starts it anew."""
        self._close_shells()
        self._grounds.take_down(self._cluster)
        self._fresh = True

    def bench(self, tell: threading.Event, *, metal: bool) -> Bench:
        """Go to the lab of that kind, which is started if it is not up; raises OmError or OSError."""
        cluster = self._grounds.cluster(metal=metal)
        if cluster is not self._cluster:
            self._close_shells()
            self._grounds.leave(self._cluster)
            self._cluster = cluster
        self._node = self._start if self._start in cluster.nodes else next(iter(cluster.nodes))
        if self._fresh:
            self._fresh = False
            nodes = ", ".join(cluster.nodes)
            self._screen.say(tr(N_("A fresh lab is up: {nodes}.")).format(nodes=nodes))
        return self._grounds.bench(cluster, tell)

    # -------------------------------------------------------------------------------------- the session

    def teach(
        self, grounds: Grounds, lessons: Sequence[Lesson], store: Store, *, begin: str, sandbox: bool
    ) -> None:
        """Hold the workshop, from `run` to its end."""
        self._grounds = grounds
        self.workshop = Workshop(lessons, store, self, self._screen)
        self._lessons = lessons
        if sandbox:
            self.workshop.handle(events.Sandbox())
        else:
            self.workshop.handle(events.Begin(begin))

    def run(self, *, line_editor: bool) -> None:
        """Take lines until it is enough.

        Args:
            line_editor: edit lines with prompt-toolkit.

        Raises:
            NodeShellError: there is no shell to be had.
        """
        self._shell(self._node)
        if line_editor:
            self._reader = self._editor()
        while not self._leaving:
            try:
                self._line(self._reader.ask(self._prompt(), self._watched()))
            except KeyboardInterrupt:
                continue
            except (EOFError, HungUpError):
                self._word("quit", "")

    def close(self) -> None:
        """End; nothing is left but the lab."""
        if self.workshop is not None:
            self.workshop.close()
        self._close_shells()
        self._cluster.close()

    def _close_shells(self) -> None:
        for shell in (*self._shells.values(), *self._ended):
            shell.close()
        self._shells.clear()
        self._ended.clear()

    def _editor(self) -> Reader:
        from omtools.shell.editor import Editor  # noqa: PLC0415 - prompt-toolkit is the half of omsh's start

        keys = LETTERS if self.workshop else {"q": ":quit"}
        return Editor(
            state_directory() / "history", self._around, self._toolbar, keys, colour=self._screen.colour
        )

    def _shell(self, node: str) -> NodeShell:
        if node not in self._shells:
            self._shells[node] = self._cluster.shell(node, self._screen.size)
        return self._shells[node]

    # ------------------------------------------------------------------------------------- round a line

    def _prompt(self) -> str:
        shell = self._shells.get(self._node)
        directory = shell.directory if shell else "~"
        home = self._cluster.home(self._node)
        if home and (directory == home or directory.startswith(home + "/")):
            directory = "~" + directory[len(home) :]
        if len(directory) > 20 and len(directory) > self._screen.size[1] // 3:
            directory = "…/" + directory.rsplit("/", 1)[-1]
        place = ""
        if self.workshop and not self.workshop.course.sandbox and self.workshop.course.step:
            course = self.workshop.course
            place = f"{course.lesson.number}.{course.at + 1} "
        style = self._screen.style
        text = f"{style.paint(self._node, BOLD)}:{directory} {style.paint(place, DIM) if place else ''}$ "
        return style.letters(text)

    def _toolbar(self, width: int) -> list[str]:
        letters = self._screen.style.letters
        if self.workshop is None:
            return [clip(letters(self._cluster.status()), width)]
        words = self.workshop.teller.keys().split("  ")
        keys = fold([f": {words[0]}", *words[1:]], width)
        return [clip(letters(status_line(self.workshop.latest)), width), *(letters(line) for line in keys)]

    def _around(self) -> Surroundings:
        node = self._node
        directory = self._shells[node].directory if node in self._shells else "/"
        processes: tuple[tuple[int, str], ...] = ()
        if self.workshop:
            found = self.workshop.latest.processes
            processes = tuple((p.pid, p.command) for p in found if p.home == node and p.pid > 1)

        def entries(of: str) -> list[str]:
            place = of if of.startswith(("/", "~")) else f"{directory.rstrip('/')}/{of}"
            return self._cluster.entries(node, place)

        return Surroundings(
            tuple(self._cluster.nodes), processes, lambda: self._cluster.commands(node), entries
        )

    def _watched(self) -> list[Watched]:
        found = [Watched(shell.fileno(), self._drain(shell)) for shell in self._shells.values()]
        workshop = self.workshop
        if workshop is not None:

            def drain() -> Callable[[], None]:
                workshop.heard()
                return workshop.news

            found.append(Watched(workshop.hears, drain))
        return found

    def _drain(self, shell: NodeShell) -> Callable[[], Callable[[], None] | None]:
        """What jobs in the background print while a prompt stands."""

        def drain() -> Callable[[], None] | None:
            try:
                data, _ran = shell.read()
            except NodeShellError:
                if shell.node == self._node:
                    self._reader.stop(_GONE)
                else:  # its node was switched off, for one: the next command for it gets another
                    self._ended.append(self._shells.pop(shell.node))
                raise OSError from None
            return (lambda: self._screen.pass_on(data)) if data else None

        return drain

    # ------------------------------------------------------------------------------------------- a line

    def _line(self, line: str) -> None:
        text = line.strip()
        if self.workshop is not None:
            self.workshop.typed(text)
        if text == _GONE:
            self._killed(self._node)
        elif text.startswith(":") and text[1:2].strip():
            name, _blank, rest = text[1:].partition(" ")
            self._word(name, rest.strip())
        elif text:
            node, command = place(text, self._cluster, self._node)
            if command:
                self._execute(node, command)
            else:
                self._change_to(node)

    def _change_to(self, node: str) -> None:
        try:
            self.go(node)
        except OmError as error:
            self._screen.say(str(error))
            return
        if self.workshop:
            self.workshop.test(asked=False)

    def _execute(self, node: str, command: str) -> None:
        workshop = self.workshop
        hears = workshop.hears if workshop else -1

        def awake() -> None:
            assert workshop is not None
            workshop.heard()
            workshop.news()

        try:
            shell = self._shell(node)
            line = self._cluster.substitute(node, command)
            ran = relay(shell, line, self._screen, hears, awake)
        except OmError as error:
            self._screen.say(str(error))
            if node in self._shells or node == self._start:
                self._lost(node)
            return
        if workshop is not None:
            workshop.ran(ran)

    def _killed(self, node: str) -> None:
        """A shell has ended while nothing ran in it: most likely its node ends too, which takes a moment."""
        end = time.monotonic() + _DYING_S
        while self._cluster.alive(node) and time.monotonic() < end:
            time.sleep(0.02)
        self._lost(node)

    def _lost(self, node: str) -> None:
        """A shell has ended: by exit, or because the lab went away."""
        if node in self._shells:
            self._shells.pop(node).close()
        if self._cluster.alive(node):
            if node == self._start:
                self._word("quit", "")
            self._node = self._start
            return
        self._screen.say(tr(N_("{node} is gone.")).format(node=node))
        if self.workshop is None or not sys.stdin.isatty():
            raise NodeShellError(node=node, why=tr(N_("the node is gone")))
        if self.confirm(tr(N_("Start a fresh lab?"))):
            self.workshop.rebuild()
        else:
            self._word("quit", "")

    # ------------------------------------------------------------------------------- the workshop's words

    def _word(self, name: str, rest: str) -> None:
        full = self._full(name)
        if self.workshop is None:
            if full == "quit":
                self.leave()
            else:
                self._screen.say(tr(N_("Without a workshop there is only `:quit`.")))
            return
        if full == "help":
            self.workshop.teller.help()
        elif full == "answer":
            self.workshop.ran(rest)
        elif full == "go":
            self._go(rest)
        elif full == "reset":
            self._reset(rest)
        elif full in _EVENTS:
            self.workshop.handle(_EVENTS[full])
        elif name.isdigit():
            self.workshop.ran(name)
        else:
            unknown = tr(N_("There is no `:{word}`; `:help` shows the words there are."))
            self._screen.say(unknown.format(word=name))

    @staticmethod
    def _full(name: str) -> str:
        if name in LETTERS:
            return LETTERS[name][1:]
        every = [*_EVENTS, "help", "answer", "go", "reset"]
        meant = [word for word in every if word.startswith(name)]
        return name if name in every or len(meant) != 1 else meant[0]

    def _reset(self, rest: str) -> None:
        assert self.workshop is not None
        for scope in ("step", "lesson", "lab"):
            if rest in (scope, "" if scope == "step" else scope):
                self.workshop.handle(events.Reset(scope))
                return
        self._screen.say(tr(N_("Reset what? `:reset`, `:reset lesson` or `:reset lab`.")))

    def _go(self, rest: str) -> None:
        assert self.workshop is not None
        words = rest.split()
        try:
            lesson = choose(list(self._lessons), words[0] if words else "")
        except OmError as error:
            self._screen.say(str(error))
            return
        step = words[1] if len(words) > 1 else ""
        if step and step not in [one.id for one in lesson.steps]:
            self._screen.say(tr(N_("There is no step “{step}”; `:list` shows them.")).format(step=step))
            return
        self.workshop.handle(events.Goto(lesson.id, step))


_EVENTS: dict[str, events.Event] = {
    "next": events.Next(),
    "run": events.TypeIt(),
    "hint": events.Hint(),
    "solution": events.Solution(),
    "list": events.Contents(),
    "check": events.Test(),
    "show": events.Show(),
    "sandbox": events.Sandbox(),
    "quit": events.Quit(),
}

"""What has happened in a lab: every agent tells of its processes, omsh of the commands that were run."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from omtools.agent import api
from omtools.agent.parts import Joining
from omtools.agent.paths import SOCKET
from omtools.errors import BadRequest
from omtools.lab.lab import Node
from omtools.shell.facts import Decision, Move, MoveKind, Ran

_AGAIN = 0.5  # seconds after which an agent that did not answer is asked again
_PATIENCE = 10.0  # seconds for an agent that took the connection and says nothing
_PIECE = 1 << 16
_decoder = msgspec.json.Decoder(api.FromAgent)
_KINDS: dict[str, MoveKind] = {"away": "away", "home": "home", "ended": "ended"}


def command_line(proc: Path) -> str:
    """A process's arguments, joined by blanks; "" if it is gone or has none."""
    try:
        words = proc.joinpath("cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        return b" ".join(words).decode(errors="replace")
    except OSError:
        return ""


@dataclass
class _Line:
    """The connection to one agent."""

    node: Node
    socket: socket.socket | None = None
    buffer: bytes = b""
    joining: Joining = field(default_factory=Joining)
    listening: bool = False
    commands: dict[int, str] = field(default_factory=dict)
    # Where each process's story stands: agents also tell of mere counts of calls.
    known: dict[int, tuple[str, str, int]] = field(default_factory=dict)


class Chronicle:
    """Listens to all agents in a thread of its own, from `open` to `close`.

    Args:
        nodes: of the lab.
        tell: called from that thread after every change.
    """

    def __init__(self, nodes: list[Node], tell: Callable[[], None]) -> None:
        self._lines = [_Line(node) for node in nodes]
        self._names = {node.number: node.name for node in nodes}
        self._tell = tell
        self._lock = threading.Lock()
        self._moves: list[Move] = []
        self._decisions: list[Decision] = []
        self._ran: list[Ran] = []
        self._answers: list[str] = []
        self._hears, self._says = os.pipe()
        self._thread = threading.Thread(target=self._listen, name="chronicle", daemon=True)

    def open(self) -> None:
        """Begin; every agent that answers has been subscribed to when this returns."""
        for line in self._lines:
            self._connect(line)
            while line.socket is not None and not line.listening:
                self._read(line)
        self._thread.start()

    def close(self) -> None:
        """End."""
        os.close(self._says)
        self._thread.join()
        os.close(self._hears)
        for line in self._lines:
            self._hang_up(line)

    def clear(self) -> None:
        """A new step: what was before does not count."""
        with self._lock:
            self._moves, self._decisions, self._ran, self._answers = [], [], [], []

    def add(self, what: Ran | str) -> None:
        """A command has run, or a question was answered."""
        with self._lock:
            if isinstance(what, Ran):
                self._ran.append(what)
            else:
                self._answers.append(what)

    def happened(
        self,
    ) -> tuple[tuple[Move, ...], tuple[Decision, ...], tuple[Ran, ...], tuple[str, ...]]:
        """Moves, decisions, commands and answers since the last `clear`."""
        with self._lock:
            return tuple(self._moves), tuple(self._decisions), tuple(self._ran), tuple(self._answers)

    # ------------------------------------------------------------------------------------- the thread

    def _connect(self, line: _Line) -> None:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(_PATIENCE)
        try:
            made.connect(str(line.node.files.run / SOCKET))
            made.sendall(api.line_of(api.Hello(api.VERSION, name="omsh")))
            made.sendall(api.line_of(api.Call(1, api.Processes(all=True))))
        except OSError:
            made.close()
            return
        line.socket, line.buffer, line.listening = made, b"", False
        line.joining = Joining()

    def _hang_up(self, line: _Line) -> None:
        if line.socket is not None:
            line.socket.close()
            line.socket = None

    def _listen(self) -> None:
        while True:
            for line in self._lines:
                if line.socket is None:
                    self._connect(line)
            sockets = {line.socket: line for line in self._lines if line.socket is not None}
            descriptors: list[int | socket.socket] = [self._hears, *sockets]
            ready, _w, _x = select.select(descriptors, [], [], _AGAIN)
            for found in ready:
                if isinstance(found, int):
                    return
                self._read(sockets[found])

    def _read(self, line: _Line) -> None:
        assert line.socket is not None
        data = b""
        with contextlib.suppress(OSError):
            data = line.socket.recv(_PIECE)
        if not data:
            self._hang_up(line)
            self._tell()
            return
        *whole, line.buffer = (line.buffer + data).split(b"\n")
        for text in whole:
            with contextlib.suppress(msgspec.MsgspecError, BadRequest):
                if (message := line.joining.take(_decoder.decode(text))) is not None:
                    self._hear(line, message)
        if whole:
            self._tell()

    def _hear(self, line: _Line, message: api.FromAgent) -> None:
        assert line.socket is not None
        if isinstance(message, api.Answer) and isinstance(message.result, api.ProcessList):
            # What is away already did not move now.
            for process in message.result.processes:
                line.known[process.pid] = (process.migration, process.phase, process.moves)
            with contextlib.suppress(OSError):
                line.socket.sendall(api.line_of(api.Call(2, api.Subscribe())))
        elif isinstance(message, api.Answer):
            line.listening = True
        elif isinstance(message, api.Notice) and isinstance(message.event, api.ProcessChanged):
            self._note(line, message.event)
        elif isinstance(message, api.Notice) and isinstance(message.event, api.Decided):
            self._note_decision(line, message.event)

    def _note(self, line: _Line, event: api.ProcessChanged) -> None:
        process = event.process
        if process.role != "deputy":
            return
        found = command_line(line.node.outside("/proc") / str(process.local_pid))
        command = line.commands[process.pid] = found or line.commands.get(process.pid, "")
        state = (process.migration, process.phase, process.moves)
        kind = _KINDS.get(process.phase)
        before, line.known[process.pid] = line.known.get(process.pid), state
        if kind is None or before == state:
            return
        move = Move(
            kind=kind,
            pid=process.pid,
            command=command,
            home=line.node.name,
            where=self._names.get(process.where, str(process.where)),
            bytes=process.bytes,
            frozen_ms=process.frozen_ms,
            total_ms=process.total_ms,
            calls=process.calls_forwarded,
            reason=process.reason,
        )
        with self._lock:
            self._moves.append(move)

    def _note_decision(self, line: _Line, event: api.Decided) -> None:
        decision = Decision(
            node=line.node.name,
            pid=event.pid,
            command=command_line(line.node.outside("/proc") / str(event.pid)) if event.pid else "",
            what=event.what,
            target=self._names.get(event.target, ""),
            reason=event.reason,
            figures=event.figures,
        )
        with self._lock:
            self._decisions.append(decision)

"""A lab as an object: up, its nodes, down."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from omtools.agent.paths import SOCKET
from omtools.errors import CannotUnmount, LabError, LabNoSuchNode, LabNotUp
from omtools.i18n import _
from omtools.lab import build, settings
from omtools.lab.state import (
    Being,
    LabState,
    NodeState,
    base_directory,
    boot_id,
    lab_name,
    load,
    locked_base,
    own_pidns,
    processes_of,
    remove_tree,
    save,
)
from omtools.linux.fuse.mount import mounts_below, unmount

AGENT_PATIENCE = 20.0
_KILL_ROUNDS = 50


class _NoNamespacesError(Exception):
    """This machine or user does not get the namespaces that a lab is made of; its text says why."""


@dataclass(frozen=True)
class Node:
    """One node of a lab that is up.

    Attributes:
        lab: the directory of its lab.
        number: 1, 2, …
        name: its host name.
        address: its IPv4 address.
        pid: process 1 of its pid namespace, seen from outside; 0 in a plain lab.
        files: where its own files are.
    """

    lab: Path
    number: int
    name: str
    address: str
    pid: int
    files: settings.NodeFiles

    def outside(self, path: str) -> Path:
        """Where a path of the node, say in its /tmp or /proc, is found from outside."""
        if self.pid:
            return Path(f"/proc/{self.pid}/root{path}")
        return self.files.tmp / Path(path).relative_to("/tmp") if path.startswith("/tmp/") else Path(path)

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on the node."""
        return [sys.executable, "-m", "omtools.commands.omlab", "exec", self.name, "--", *argv]

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program on the node; signals sent to what is returned reach the program."""
        environment = dict(os.environ if env is None else env)
        parts = [str(settings.PACKAGE_HOME), *filter(None, environment.get("PYTHONPATH", "").split(":"))]
        environment.update(PYTHONPATH=":".join(dict.fromkeys(parts)), OMLAB_NAME=self.lab.name)
        return subprocess.Popen(
            self.command(argv), env=environment, stdin=stdin, stdout=stdout, stderr=stderr, text=True
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str = "",
        check: bool = False,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the node to its end and return what it printed.

        Args:
            argv: the program and its arguments.
            stdin: what it reads.
            check: raise subprocess.CalledProcessError unless its exit status is 0.
            timeout: seconds after which it is killed and subprocess.TimeoutExpired raised.
            env: what its environment is made of; default: the caller's.
        """
        pipe = subprocess.PIPE
        with self.popen(argv, env=env, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                out, err = process.communicate(stdin, timeout)
            except BaseException:
                process.kill()
                raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check:
            done.check_returncode()
        return done


class Lab:
    """The user's lab (of the name in OMLAB_NAME); make one with `Lab.up` or find it with `Lab.find`.

    As a context manager it is taken down at the end.
    """

    def __init__(self, directory: Path, state: LabState) -> None:
        self.directory = directory
        self.state = state

    @classmethod
    def up(cls, nodes: int | None = None, *, plain: bool = False) -> Lab:
        """Start the lab, or what is missing of it.

        Args:
            nodes: how many; None: as many as it has, or two.
            plain: without namespaces, as processes on loopback addresses.

        Raises:
            LabError: it cannot be built, or is up with another number of nodes.
        """
        if nodes is not None:
            settings.check_count(nodes)
        name = lab_name()
        with locked_base() as base:
            directory = base / name
            state = load(directory)
            if state is None or not _is_up(state):
                _sweep(directory, state)
                return cls._start(directory, nodes or 2, plain)
            if nodes is not None and nodes != len(state.nodes):
                why = _("it is up with {have} nodes; take it down first to have {want}")
                raise LabError(why=why.format(have=len(state.nodes), want=nodes))
            lab = cls(directory, state)
            try:
                lab._complete()
            except (OSError, _NoNamespacesError) as error:
                raise LabError(why=str(error)) from error
            return lab

    @classmethod
    def _start(cls, directory: Path, nodes: int, plain: bool) -> Lab:
        if not plain:
            try:
                return cls._start_as(directory, nodes, plain=False)
            except _NoNamespacesError as error:
                return cls._start_as(directory, nodes, plain=True, reason=str(error))
        return cls._start_as(directory, nodes, plain=True)

    @classmethod
    def _start_as(cls, directory: Path, nodes: int, *, plain: bool, reason: str = "") -> Lab:
        name = directory.name
        if plain:
            attempt = next((n for n in range(100) if _is_free(n, name)), 0)
            addresses = [settings.plain_address(n, name, attempt) for n in range(1, nodes + 1)]
        else:
            addresses = [settings.lab_address(n) for n in range(1, nodes + 1)]
        state = LabState(
            name=name,
            mode="plain" if plain else "namespaces",
            reason=reason,
            boot=boot_id(),
            pidns=own_pidns(),
            nodes=[NodeState(n, settings.node_name(n), address) for n, address in enumerate(addresses, 1)],
        )
        lab = cls(directory, state)
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            settings.furnish(directory, state)
            lab._complete()
        except OSError as error:
            _sweep(directory, state)
            raise LabError(why=str(error)) from error
        except BaseException:
            _sweep(directory, state)
            raise
        return lab

    def _complete(self) -> None:
        """Build what is missing, in the order in which one thing needs the other."""
        if self.state.mode == "namespaces":
            try:
                self._build_namespaces()
            except OSError as error:
                where = f" ({error.filename})" if error.filename else ""
                raise _NoNamespacesError(f"{error.strerror or error}{where}") from error
        missing = [node for node in self.state.nodes if not self.agent_alive(node)]
        self._save()
        starting: list[build.StartingAgent] = []
        try:
            for node in missing:
                starting.append(build.start_agent(self.directory, self.state, node, self._save))
            self._await(starting)
        finally:
            for agent in starting:
                os.close(agent.ready)

    def _build_namespaces(self) -> None:
        if self.state.hub is None:
            newborn = build.bear_hub(self.directory)
            self.state.hub = newborn.being
            self._save()
            newborn.release()
        for node in self.state.nodes:
            if node.being is None or not node.being.alive():
                newborn = build.bear_node(self.directory, self.state.hub, node)
                node.being, node.agent = newborn.being, None
                self._save()
                newborn.release()

    def agent_alive(self, node: NodeState) -> bool:
        """Whether the node's agent runs: the one that we started, or one that somebody restarted."""
        if node.agent is None or not node.agent.alive():
            run = settings.NodeFiles(self.directory, node.name).run
            node.agent = _served_by(run / SOCKET) or node.agent
        return node.agent is not None and node.agent.alive()

    def _await(self, starting: Sequence[build.StartingAgent]) -> None:
        waiting = {agent.ready: agent for agent in starting}
        deadline = time.monotonic() + AGENT_PATIENCE
        while waiting:
            ready, _w, _x = select.select(list(waiting), [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                names = ", ".join(agent.node.name for agent in waiting.values())
                why = _("the agents of {names} were not ready after {seconds} seconds")
                raise LabError(why=why.format(names=names, seconds=int(AGENT_PATIENCE)))
            for fd in ready:
                agent = waiting.pop(fd)
                if os.read(fd, 64) != b"ready\n":
                    raise LabError(why=self._last_words(agent.node))

    def _last_words(self, node: NodeState) -> str:
        log = settings.NodeFiles(self.directory, node.name).log
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if not said:
            return _("the agent of {name} ended before it was ready").format(name=node.name)
        return _("the agent of {name} ended before it was ready: {said}").format(name=node.name, said=said)

    def _save(self) -> None:
        save(self.directory, self.state)

    @classmethod
    def find(cls) -> Lab:
        """The lab that is up.

        Raises:
            LabNotUp: none is.
        """
        directory = base_directory() / lab_name()
        state = load(directory)
        if state is None or not _is_up(state):
            raise LabNotUp
        return cls(directory, state)

    @property
    def nodes(self) -> dict[str, Node]:
        """Its nodes, by name."""
        return {node.name: self._node(node) for node in self.state.nodes}

    def node(self, word: str) -> Node:
        """The node of that name or number.

        Raises:
            LabNoSuchNode: there is none.
        """
        return self._node(self.node_state(word))

    def node_state(self, word: str) -> NodeState:
        """What is recorded of the node of that name or number; raises LabNoSuchNode."""
        for node in self.state.nodes:
            if word.casefold() == node.name.casefold() or word == str(node.number):
                return node
        raise LabNoSuchNode(node=word, nodes=", ".join(node.name for node in self.state.nodes))

    def _node(self, node: NodeState) -> Node:
        pid = node.being.pid if node.being else 0
        files = settings.NodeFiles(self.directory, node.name)
        return Node(self.directory, node.number, node.name, node.address, pid, files)

    @staticmethod
    def down() -> bool:
        """Take the user's lab down, whatever state it is in; False if there was nothing at all.

        Raises:
            LabError: something could not be removed.
        """
        name = lab_name()
        if not base_directory().exists():
            return False
        with locked_base() as base:
            directory = base / name
            if not directory.exists():
                return False
            _sweep(directory, load(directory))
        return True

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        self.down()


def _is_up(state: LabState) -> bool:
    """Whether anything of it lives: then it is repaired, else started anew."""
    if state.boot != boot_id():
        return False
    if state.mode == "namespaces":
        return state.hub is not None and state.hub.alive()
    return any(node.agent is not None and node.agent.alive() for node in state.nodes)


def _served_by(path: Path) -> Being | None:
    """The process that accepts connections on a unix socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return Being.of(struct.unpack("3i", credentials)[0])
    return None


def _is_free(attempt: int, lab: str) -> bool:
    """Whether nobody serves the addresses that a plain lab would get."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((settings.plain_address(1, lab, attempt), settings.AGENT_PORT))
            return True
    return False


def _sweep(directory: Path, state: LabState | None) -> None:
    """Kill and remove whatever there is of a lab: all of it, part of it, or leftovers."""
    if state is not None and state.boot == boot_id() and state.hub is not None:
        inside = {_ns(node.being.pid, "pid") for node in state.nodes if node.being}
        # Helpers of `omlab exec` that were stopped (Ctrl-Z) keep the dead of a node unreaped, and by that
        # the hub's end: they are ended only if it comes to that.
        gone = state.hub.kill(then=lambda: _end_helpers(inside - {0}))
        if not gone:
            raise LabError(why=_("process {pid} does not end").format(pid=state.hub.pid))
    if state is not None and state.boot == boot_id() and state.mode == "plain":
        for node in state.nodes:
            if node.agent is not None:
                node.agent.kill()
    if directory.exists():
        # Plain labs have no namespace to hold their processes together, and an unreadable state file tells
        # no pid; both are found by the mark in their environment.
        if state is None or state.mode == "plain":
            _kill_marked(directory)
        for target in mounts_below(directory):  # of a plain lab, whose nodes mount on the machine itself
            with contextlib.suppress(CannotUnmount):
                unmount(target)
        remove_tree(directory)


def _kill_marked(directory: Path) -> None:
    own = Being.of(os.getpid())
    for _round in range(_KILL_ROUNDS):
        found = [being for being in processes_of(directory) if being != own and being.alive()]
        if not found:
            return
        for being in found:
            being.kill(patience=1.0)
    raise LabError(why=_("processes of it come back as fast as they are killed"))


def _end_helpers(inside: set[int]) -> None:
    """Kill processes outside of the lab whose children are in one of these pid namespaces."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and _ns(int(entry), "pid_for_children") in inside:
            with contextlib.suppress(OSError):
                Being.of(int(entry)).kill(patience=1.0)


def _ns(pid: int, kind: str) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    except OSError:
        return 0

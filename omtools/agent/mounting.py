"""The process that mounts the files of all nodes.

It is a worker (`omtools.migration.errand`). Its arguments are the number of the inherited control socket and
the order as JSON.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from omtools.agent import api
from omtools.agent.client import Client
from omtools.errors import (
    CannotMount,
    CannotUnmount,
    FilesRefused,
    HostKeyWrong,
    KeyNotAuthorised,
    NotAllowed,
    OmError,
)
from omtools.linux.fuse.mount import MountOptions, mount
from omtools.linux.fuse.session import Session
from omtools.linux.fuse.turns import Turns
from omtools.linux.proc import process_of
from omtools.omfs.client import RemoteFiles
from omtools.omfs.cluster_files import ClusterFiles
from omtools.omfs.exports import parse_exports
from omtools.omfs.local import LocalFiles
from omtools.omfs.operations import Files
from omtools.omfs.orders import Done, MountOrder, Question, Renew, Reply, TellUses, Uses as ToldUses, Way
from omtools.omfs.rights import GROUPS_MAX, Groups, Rights
from omtools.omfs.secured import connect
from omtools.omfs.serving import collect_rarely, keep_memory, open_many_files
from omtools.omfs.stream import Stream
from omtools.omfs.tree import ClusterTree
from omtools.omfs.uses import CountingHandler, Uses
from omtools.omfs.worker import Control, farewell, first_word, inherited_listener, leave_home

_RETRY_SECONDS = 1.0  # without an agent
_USERS = 64  # who are remembered at a time: who has other groups counts as another
_PATIENCE = 3.0  # seconds for the agent to answer a question about this node


class Ways:
    """How other nodes are reached, as the agent tells; asked again when a way leads nowhere any more.

    Attributes:
        turns: of the mount whose threads ask.
    """

    def __init__(self, agent: Path) -> None:
        self.turns: Turns | None = None
        self._agent = agent
        self._known: dict[tuple[int, Rights], Way] = {}
        self._lock = threading.Lock()

    def stream(self, node: int, rights: Rights) -> Stream:
        """One more connection to that node's server with those rights; raises OSError, LinkBroken."""
        from omtools.migration.link import LinkBroken  # noqa: PLC0415 - beside its only use

        if self.turns is not None:
            self.turns.step_aside()
        wait = self.turns.wait if self.turns is not None else None
        way = self._known.get((node, rights))
        if way is not None:
            try:
                return connect(way.endpoint, way.credentials, wait)
            except LinkBroken as error:
                if isinstance(error.__cause__, TimeoutError):  # a server that ended would be refused at once
                    raise OSError(errno.EHOSTDOWN, os.strerror(errno.EHOSTDOWN)) from error
                self._known.pop((node, rights), None)
        way = self._ask(node, rights)
        made = connect(way.endpoint, way.credentials, wait)
        self._known[node, rights] = way
        return made

    def _ask(self, node: int, rights: Rights) -> Way:
        try:
            with Client(self._agent, "omfs") as client:
                return client.call(api.OpenFiles(node, *rights), api.FilesOpened).way
        except OmError as error:
            raise OSError(_errno_of(error), str(error)) from error


def _errno_of(error: OmError) -> int:
    """How a node that cannot be reached looks to a program."""
    refused = isinstance(error, FilesRefused | NotAllowed | KeyNotAuthorised | HostKeyWrong)
    return errno.EACCES if refused else errno.EHOSTDOWN


class Facts:
    """Where the processes of this node are, followed by the agent's events; see `ProcessFacts`."""

    def __init__(self, node: int, agent: Path) -> None:
        self._node = node
        self._agent = agent
        self._where: dict[int, int] = {}
        self._home: dict[int, int] = {}
        self._magic: dict[int, int] = {}

    def follow(self) -> None:
        """Listen to the agent for ever; if it is restarted, to its successor."""
        while True:
            try:
                with Client(self._agent, "omfs") as client:
                    events = client.events()
                    with Client(self._agent, "omfs") as other:
                        for process in other.call(api.Processes(all=True), api.ProcessList).processes:
                            self._take(process, gone=False)
                    for event in events:
                        if isinstance(event, api.ProcessChanged):
                            self._take(event.process, event.gone)
            except OmError:
                time.sleep(_RETRY_SECONDS)

    def _take(self, process: api.ProcessInfo, gone: bool) -> None:
        pid = process.local_pid
        if gone:
            self._where.pop(pid, None)
            self._home.pop(pid, None)
        else:
            self._where[pid] = process.where
            self._home[pid] = process.home

    def here(self, pid: int) -> int:
        """See `ProcessFacts`."""
        return self._where.get(pid, self._node)

    def home(self, pid: int) -> int:
        """See `ProcessFacts`."""
        return self._home.get(pid, self._node)

    def lastexec(self, pid: int) -> int:
        """See `ProcessFacts`: programs are executed at home."""
        return self.home(pid)

    def selected(self, pid: int) -> int | None:
        """See `ProcessFacts`: a setting like the others, which hpc(5) has too; it is seldom asked for."""
        try:
            with Client(self._agent, "omfs", _PATIENCE) as client:
                found = client.call(api.GetProcess(process_of(pid)), api.ProcessSettings)
        except OmError:
            return None
        return found.selected or None

    def select(self, pid: int, node: int | None) -> None:
        """See `ProcessFacts`: it is always for itself that a process does."""
        wish = api.SetProcess(process_of(pid), api.ProcessSettings(selected=node or 0))
        try:
            with Client(self._agent, "omfs", _PATIENCE) as client:
                client.call(wish, api.ProcessSettings)
        except OmError as error:
            raise OSError(errno.EIO, str(error)) from error

    def magic(self, pid: int) -> int | None:
        """See `ProcessFacts`."""
        return self._magic.get(pid)

    def set_magic(self, pid: int, node: int) -> None:
        """See `ProcessFacts`."""
        self._magic[pid] = node


class Mounting:
    """The mount of one node: for whoever comes, the files of all nodes with his rights."""

    def __init__(self, order: MountOrder) -> None:
        self._order = order
        self.ways = Ways(Path(order.agent))
        self.facts = Facts(order.node, Path(order.agent))
        self.uses = Uses()
        self._tree = ClusterTree(order.nodes)
        self._exports = parse_exports(order.exports)
        self._users: dict[Rights, ClusterFiles] = {}
        self._groups = Groups()
        self._own = Rights(0, os.getegid()) if os.geteuid() == 0 else Rights(os.geteuid())
        self._lock = threading.Lock()

    def files_for(self, uid: int, gid: int, pid: int) -> Files:
        """The files of all nodes as that process sees them."""
        rights = self._rights(uid, gid, pid)
        found = self._users.get(rights)
        if found is None:
            with self._lock:
                found = self._users.get(rights)
                if found is None:
                    self._make_room()
                    found = self._users[rights] = ClusterFiles(
                        lambda: self._tree, self.facts, lambda node: self._open(node, rights)
                    )
        return found

    def _rights(self, uid: int, gid: int, pid: int) -> Rights:
        """Whose: root's further groups do not matter, and only root can act for others."""
        if self._own.uid != 0:
            return Rights(uid)
        if uid == 0:
            return Rights(uid, gid)
        groups = self._groups.of(pid) if pid else None
        return Rights(uid) if groups is None or len(groups) > GROUPS_MAX else Rights(uid, gid, groups)

    def _make_room(self) -> None:
        """Of many who were here, the first who have nothing open are forgotten."""
        for rights, files in list(self._users.items()):
            if len(self._users) < _USERS:
                return
            if not files.in_use:
                del self._users[rights]
                files.close()

    def _open(self, node: int, rights: Rights) -> Files:
        if node == self._order.node and rights == self._own:
            return LocalFiles(self._exports)
        return RemoteFiles(lambda: self.ways.stream(node, rights))

    def answer(self, question: Question) -> Reply:
        """See `Control`: nodes were found, or have left the map; who uses whose files."""
        if isinstance(question, Renew):
            self._tree = ClusterTree(question.nodes)
            return Done()
        if isinstance(question, TellUses):
            return ToldUses(self.uses.told())
        return Done({"error": "BadRequest", "why": type(question).__name__})

    def close(self) -> None:
        """Let go of all nodes."""
        for files in self._users.values():
            files.close()


def _log(sentence: str, error: BaseException) -> None:
    print(f"omfs: {sentence}: {error}", file=sys.stderr, flush=True)


def _end_with(session: Session, control: Control) -> None:
    session.wait()  # until somebody has unmounted it
    control.stop()


def main(arguments: list[str]) -> int:
    """Mount, serve, unmount. What came of mounting is the first line on standard output, a `Done`."""
    leave_home()
    keep_memory()
    collect_rarely()
    open_many_files()
    sys.setswitchinterval(0.0005)
    order = msgspec.json.decode(arguments[1], type=MountOrder)
    try:
        with contextlib.suppress(FileExistsError):  # pathlib's exist_ok would look whether it is dead
            os.mkdir(order.target)
        mounting = Mounting(order)
        mounted = mount(order.target, MountOptions(allow_other=order.everybody))
        handler = CountingHandler(mounting.files_for)
        handler.uses = mounting.uses
        session = Session(mounted, handler, log=_log)
        mounting.ways.turns = session.turns
        session.start()
    except (OmError, OSError) as error:
        wire = error.to_wire() if isinstance(error, OmError) else CannotMount(
            target=order.target, why=error.strerror or str(error)
        ).to_wire()  # fmt: skip
        first_word(Done(wire))
        return 1
    first_word(Done())
    os.dup2(2, 1)
    threading.Thread(target=mounting.facts.follow, name="facts", daemon=True).start()
    control = Control(inherited_listener(int(arguments[0])), mounting.answer, lambda: handler.in_use)
    threading.Thread(target=_end_with, args=(session, control), name="unmounted", daemon=True).start()
    ender = control.run()
    try:
        session.close()
    except CannotUnmount as error:
        farewell(ender, Done(error.to_wire()))
    else:
        farewell(ender, Done())
    mounting.close()
    control.close()
    return 0

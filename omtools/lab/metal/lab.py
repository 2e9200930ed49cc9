"""The metal lab as an object: up, its machines, down.

    omlab up --metal ── supervisor          this machine's processes
                         ├─ QEMU mCii        a complete machine: kernel and root from files
                         └─ QEMU metrakilate no disk, no kernel: boots over the wire, from mCii

Nothing in it needs root, a device or a namespace. What exists outside of the machines is the directory of the
lab and these three processes; the QEMUs die with the supervisor, and `down` finds whatever is left by the
mark OMLAB_DIR in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from omtools.errors import LabError, LabNoSuchNode, LabNotUp, MetalBootFailed, MetalMachineOff, OmError
from omtools.i18n import _
from omtools.lab.birth import Plan as Birth, bear
from omtools.lab.metal import checks, here_root, identity, image, plan
from omtools.lab.metal.events import how_far
from omtools.lab.metal.plan import MetalState
from omtools.lab.settings import PACKAGE_HOME, node_name
from omtools.lab.state import (
    Being,
    base_directory,
    boot_id,
    locked_base,
    own_pidns,
    processes_of,
    remove_tree,
)
from omtools.linux.namespaces import Clone

Report = Callable[[str], None]
BOOT_PATIENCE = 300.0  # on a machine that has much else to do
_KILL_ROUNDS = 50
_READY_PATIENCE = 30.0
_END_PATIENCE = 5.0
_POLL = 0.05  # the supervisor's record has no event to wait for; a tenth of what anybody would notice


def names() -> list[str]:
    """The names of the machines."""
    return [node_name(number) for number in identity.NUMBERS]


class MetalLab:
    """The user's lab of machines (of the name in OMLAB_NAME); `up` makes one, `find` finds it.

    As a context manager it is taken down at the end.
    """

    def __init__(self, directory: Path, state: MetalState) -> None:
        self.directory = directory
        self.state = state
        self._told = 0  # events that have been reported

    @classmethod
    def up(
        cls, *, bare: bool = False, here: bool = False, root: str = plan.MEMORY, wait: bool = True,
        report: Report = lambda _line: None,
    ) -> MetalLab:
        """Start the lab, or what is missing of it.

        Args:
            bare: leave mCii without its services for diskless machines, and metrakilate off.
            here: mCii is this machine, in namespaces of its own, and only metrakilate is emulated.
            root: where metrakilate has its root file system, `plan.MEMORY` or `plan.NFS`.
            wait: return only when the agents of all machines that were switched on serve.
            report: is told what is being done.

        Raises:
            OmError: it cannot be started; MetalBootFailed leaves it as it is, to be looked at.
        """
        checks.check_programs(checks.TO_RUN)
        checks.check_rom()
        with contextlib.suppress(LabNotUp):
            return cls.find()._complete(bare, here, root, wait, report)
        if here:
            checks.check_here()
        checks.check_memory(1 if here else len(identity.NUMBERS))
        checks.check_disk(base_directory().parent, checks.LAB_MB)
        built = image.build(report=report)
        with locked_base():
            directory = plan.home()
            state = _load(directory)
            if state is None or not _is_up(state):
                _sweep(directory, state)
                lab = cls._start(directory, built, bare, here, root)
            else:
                lab = cls(directory, state)
        return lab._complete(bare, here, root, wait, report)

    @classmethod
    def _start(cls, directory: Path, built: image.Image, bare: bool, here: bool, root: str) -> MetalLab:
        state = MetalState(directory.stem, boot_id(), own_pidns(), bare, here, root)
        lab = cls(directory, state)
        try:
            directory.mkdir(mode=0o700)
            lab._furnish(built)
            lab._start_supervisor()
        except OSError as error:
            _sweep(directory, state)
            where = f" ({error.filename})" if error.filename else ""
            raise LabError(why=f"{error.strerror or error}{where}") from error
        except BaseException:
            _sweep(directory, state)
            raise
        return lab

    def _furnish(self, built: image.Image) -> None:
        keys = identity.new_keys()
        root = [str(path) for path in built.root]
        wanted = plan.Plan(str(built.kernel), root, str(built.server), str(built.netroot), built.digest)
        hosts = "".join(f"{node_name(number)} {key.bare}\n" for number, key in keys.hosts.items())
        if self.state.here:
            here_root.furnish(self.directory, built, keys, bare=self.state.bare)
        for path, data in (
            (self.directory / "plan.json", msgspec.json.encode(wanted)),
            (plan.own_archive(self.directory), self._server_archive(keys)),
            (plan.user_key(self.directory), keys.user.private.encode()),
            (plan.known_hosts(self.directory), hosts.encode()),
        ):
            # private from the first moment on: most of it is keys
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)

    def _server_archive(self, keys: identity.Keys) -> bytes:
        return identity.server_archive(keys, bare=self.state.bare, root=self.state.root)

    def _start_supervisor(self) -> None:
        ready, its_end = os.pipe()
        try:
            environment = {**os.environ, "OMLAB_DIR": str(self.directory), "PYTHONPATH": _python_path()}
            argv = [sys.executable, "-m", "omtools.lab.metal.supervise", str(self.directory), str(its_end)]
            newborn = bear(
                Birth(
                    argv, environment, flags=Clone(0), log=self.directory / "supervisor.log",
                    prepare=lambda: os.chdir("/"), keep=[its_end],
                )
            )  # fmt: skip
            self.state.supervisor = newborn.being
            try:
                _save(self.directory, self.state)
                newborn.release()
            except BaseException:
                newborn.drop()
                raise
            os.close(its_end)
            its_end = -1
            heard, _w, _x = select.select([ready], [], [], _READY_PATIENCE)
            if not heard or os.read(ready, 64) != b"ready\n":
                log = (self.directory / "supervisor.log").read_text(errors="replace").strip()
                why = _("its supervisor did not start: {said}").format(said=log.rpartition("\n")[2])
                raise LabError(why=why)
        finally:
            os.close(ready)
            if its_end >= 0:
                os.close(its_end)

    def _complete(self, bare: bool, here: bool, root: str, wait: bool, report: Report) -> MetalLab:
        if here != self.state.here:
            have = _("this machine as mCii") if self.state.here else _("two machines")
            raise LabError(why=_("it is up with {have}; take it down first").format(have=have))
        if root != self.state.root:
            why = _("metrakilate's root is “{root}” in it; take it down first to have another")
            raise LabError(why=why.format(root=self.state.root))
        if bare and not self.state.bare:
            raise LabError(why=_("it is up with its services set up; take it down first to have it bare"))
        self._told = len(list(self.events()))
        server, *diskless = names()
        if self.node(server)["power"] == "off":
            self.power(server, "on")
        if not self.state.bare:
            self.await_node(server, "booted", report=report)
            for name in diskless:
                if self.node(name)["power"] == "off":
                    self.power(name, "on")
        if wait:
            for name in names():
                if self.node(name)["power"] == "on":
                    self.await_node(name, "agent", report=report)
        return self

    @classmethod
    def find(cls) -> MetalLab:
        """The lab that is up.

        Raises:
            LabNotUp: none is.
        """
        directory = plan.home()
        state = _load(directory)
        if state is None or not _is_up(state):
            raise LabNotUp
        return cls(directory, state)

    @staticmethod
    def down() -> bool:
        """Take the lab down, whatever state it is in; False if there was nothing at all.

        Raises:
            LabError: something could not be removed.
        """
        directory = plan.home()
        if not directory.exists():
            return False
        with locked_base():
            if not directory.exists():
                return False
            _sweep(directory, _load(directory))
        return True

    def __enter__(self) -> MetalLab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # -- asking the supervisor

    def ask(self, **request: str) -> dict[str, Any]:
        """Ask the supervisor; see `Supervisor.answer`.

        Raises:
            LabNotUp: it is gone.
            OmError: what it raised.
        """
        with self.connect() as connection:
            return exchange(connection, request)

    def connect(self) -> socket.socket:
        """A connection to the supervisor; raises LabNotUp."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(plan.control(self.directory)))
        except OSError as error:
            connection.close()
            raise LabNotUp from error
        return connection

    def nodes(self) -> list[dict[str, Any]]:
        """The machines: number, name, address, power and cable, pid of QEMU, booted, agent, SSH port."""
        found: list[dict[str, Any]] = self.ask(do="status")["nodes"]
        return found

    def node(self, word: str) -> dict[str, Any]:
        """The machine of that name or number, as `nodes` has it.

        Raises:
            LabNoSuchNode: there is none.
        """
        for node in self.nodes():
            if word.casefold() == node["name"].casefold() or word == str(node["number"]):
                return node
        raise LabNoSuchNode(node=word, nodes=", ".join(names()))

    def powered(self, word: str) -> dict[str, Any]:
        """The same, if it is switched on; raises MetalMachineOff else."""
        node = self.node(word)
        if node["power"] != "on":
            raise MetalMachineOff(node=node["name"])
        return node

    def power(self, word: str, to: str) -> dict[str, Any]:
        """Switch a machine `on` or `off`, or `reset` it; returns what it then is."""
        return self.ask(do="power", node=self.node(word)["name"], to=to)

    def cable(self, word: str, to: str) -> dict[str, Any]:
        """Put a machine's cable `in`, or pull it `out`; returns what it then is."""
        return self.ask(do="cable", node=self.node(word)["name"], to=to)

    # -- what happened

    def events(
        self, *, follow: bool = False, until: Callable[[], bool] = lambda: False
    ) -> Iterator[dict[str, Any]]:
        """The events so far (see `events.py`), and with `follow` those to come, until the lab is gone.

        Args:
            follow: wait for more.
            until: asked whenever there is nothing new; True ends it.
        """
        with contextlib.suppress(FileNotFoundError), open(plan.events(self.directory), "rb") as file:
            part = b""
            while True:
                part += file.readline()
                if part.endswith(b"\n"):
                    yield json.loads(part)
                    part = b""
                elif not follow or until() or not plan.events(self.directory).exists():
                    return
                else:
                    time.sleep(_POLL)

    def await_node(
        self, word: str, what: str, patience: float = BOOT_PATIENCE, report: Report = lambda _line: None
    ) -> None:
        """Wait until a machine has `booted`, or its `agent` serves.

        Raises:
            MetalBootFailed: it was switched off meanwhile, or time is up.
        """
        name = self.node(word)["name"]
        record = str(plan.screen(self.directory, name))
        deadline = time.monotonic() + patience
        while not (node := self.node(name))[what]:
            if node["power"] == "off":
                raise MetalBootFailed(node=name, why=_("it switched itself off"), record=record)
            if time.monotonic() > deadline:
                why = _("it did not get there within {seconds} s").format(seconds=int(patience))
                far = how_far(self.events(), name)
                raise MetalBootFailed(node=name, why=f"{why}; {far}" if far else why, record=record)
            self._tell(report)
            time.sleep(_POLL)
        self._tell(report)

    def _tell(self, report: Report) -> None:
        """Report what has happened since it was last reported."""
        for event in list(self.events())[self._told :]:
            report(f"{event['node']}: {event['event']} {event.get('path', '')}".rstrip())
            self._told += 1


def exchange(connection: socket.socket, request: dict[str, str]) -> dict[str, Any]:
    """Ask one question on a connection to the supervisor; raises as `MetalLab.ask`."""
    try:
        connection.sendall(msgspec.json.encode(request) + b"\n")
        # Unbuffered: what follows the answer may be bytes of a console.
        with connection.makefile("rb", buffering=0) as stream:
            line = stream.readline()
    except OSError:
        line = b""
    if not line:
        raise LabNotUp
    found: dict[str, Any] = json.loads(line)
    if "error" in found:
        raise OmError.from_wire(found)
    return found


def _python_path() -> str:
    parts = [str(PACKAGE_HOME), *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
    return ":".join(dict.fromkeys(parts))


def _load(directory: Path) -> MetalState | None:
    """What is known of the lab, or None.

    Raises:
        LabError: it was started in another pid namespace.
    """
    try:
        state = plan.load_state(directory)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    if state.boot == boot_id() and state.pidns != own_pidns():
        raise LabError(why=_("it was started outside of this pid namespace; use omlab out there"))
    return state


def _save(directory: Path, state: MetalState) -> None:
    new = directory / "metal.json.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    new.rename(directory / "metal.json")


def _is_up(state: MetalState) -> bool:
    return state.boot == boot_id() and state.supervisor is not None and state.supervisor.alive()


def _sweep(directory: Path, state: MetalState | None) -> None:
    """End whatever there is of a lab, and remove its directory."""
    if state is not None and _is_up(state) and state.supervisor is not None:
        _ask_to_end(state.supervisor)
        if not state.supervisor.kill():
            raise LabError(why=_("process {pid} does not end").format(pid=state.supervisor.pid))
    if not directory.exists():
        return
    own = Being.of(os.getpid())
    for _round in range(_KILL_ROUNDS):
        found = [being for being in processes_of(directory) if being != own and being.alive()]
        if not found:
            break
        for being in found:
            being.kill(patience=5.0)
    else:
        raise LabError(why=_("processes of it come back as fast as they are killed"))
    remove_tree(directory)


def _ask_to_end(supervisor: Being) -> None:
    """Give it the time to switch off the machines and to reap them."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(supervisor.pid)
        try:
            if supervisor.alive():  # looked at only now: the pidfd holds on to what was looked at
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                select.select([descriptor], [], [], _END_PATIENCE)
        finally:
            os.close(descriptor)

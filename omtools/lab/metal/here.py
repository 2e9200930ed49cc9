"""This machine as mCii (`omlab up --metal=here`): a set of namespaces with one card, joined to metrakilate's.

    supervisor
     ├─ this machine as mCii     own user (not for root), pid, mount, uts, ipc, network namespace
     │   ├─ dnsmasq, httpd        by the configuration that the lesson writes
     │   └─ agent
     └─ QEMU metrakilate          no disk, no kernel; its card is the other end of mCii's eth0, a tap

The tap is made inside, and its descriptor handed out: so the supervisor and QEMU stay where they are, and
need no right in there. Process 1 of it ends with the supervisor, by a pipe; the kernel does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from omtools.errors import MetalNotHere
from omtools.lab import build
from omtools.lab.birth import Plan, bear
from omtools.lab.lab import Lab
from omtools.lab.metal.events import Event, Lines, LogReader
from omtools.lab.metal.here_root import mount_here
from omtools.lab.metal.identity import SERVER, hardware_address
from omtools.lab.metal.layers import ROOTFS
from omtools.lab.metal.plan import MetalState
from omtools.lab.metal.wire import open_tap
from omtools.lab.netlink import Netlink
from omtools.lab.settings import NETWORK, agent_environment, lab_address, node_name
from omtools.lab.state import Being, LabState, NodeState, boot_id, own_pidns
from omtools.linux.namespaces import Clone, IdRange, sethostname, write_id_maps

CARD = "eth0"  # as on a machine: the lesson's configuration names it
ROUTER6 = IPv6Interface("fd00:77::1/64")
_INIT = str(Path(build.__file__).with_name("init.py"))
_RC = str(ROOTFS / "here" / "rc")
_PATIENCE = 60.0
# What an emulated processor has not. A program that starts without them, by its C library, can go there:
# glibc's own names of them, see "Hardware Capability Tunables" in its manual.
_LACKING = ("AVX512F", "AVX512VL", "AVX512BW", "AVX512DQ", "AVX512CD", "AVX512_VBMI", "AVX512_VBMI2",
            "AVX512ER", "XSAVEC")  # fmt: skip
BASELINE = "glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in _LACKING)


def as_lab(directory: Path, pid: int | None) -> tuple[Lab, NodeState]:
    """The lab and node as which programs on mCii are run.

    Args:
        directory: of the lab of machines.
        pid: process 1 of mCii; None: not up.
    """
    being = Being.of(pid) if pid else None
    node = NodeState(SERVER, node_name(SERVER), lab_address(SERVER), being)
    return Lab(directory, LabState(directory.stem, "namespaces", boot_id(), own_pidns(), nodes=[node])), node


class Here:
    """This machine while it is mCii; made by `start`. Its attributes are those of `Powered`.

    Attributes:
        pid: process 1 of it.
        since: when it was started, in seconds since 1970.
        booted: whether its services are up.
        agent: whether its agent has said that it serves.
        ssh_port: None: who wants in enters its namespaces.
        tap: the other end of its cable; whoever is told of its end closes it.
    """

    ssh_port: int | None = None

    def __init__(self, being: Being, tap: int, alive: int) -> None:
        self.pid = being.pid
        self.since = time.time()
        self.booted = False
        self.agent = False
        self.tap = tap
        self._being = being
        self._alive = alive  # while it is open, process 1 lives
        self._end: asyncio.Task[None] | None = None
        self._log: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, directory: Path, state: MetalState, *, tell: Callable[[Event], None],
        ended: Callable[[], None], name_of: Callable[[str], str],
    ) -> Here:
        """Make the namespaces, and start services and agent in them.

        Args:
            directory: of the lab.
            state: of the lab.
            tell: takes events.
            ended: is called when it has ended.
            name_of: names the machine with an IP or hardware address.

        Raises:
            MetalNotHere: the kernel does not let us.
        """
        try:
            self = cls._bear(directory)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise MetalNotHere(why=f"{error.strerror or error}{where}") from error
        self._end = asyncio.create_task(self._watch_end(ended))
        heard, log = os.pipe()
        try:
            self._run_services(directory, state, log)
        except OSError as error:
            os.close(heard)
            await self.kill()
            raise MetalNotHere(why=error.strerror or str(error)) from error
        finally:
            os.close(log)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(heard, "rb", buffering=0)
        )
        self._log = asyncio.create_task(self._watch_log(reader, LogReader(node_name(SERVER), name_of), tell))
        return self

    @classmethod
    def _bear(cls, directory: Path) -> Here:
        flags = Clone.NEWPID | Clone.NEWNS | Clone.NEWUTS | Clone.NEWIPC | Clone.NEWNET
        user = not build.is_capable()
        uid, gid = os.geteuid(), os.getegid()
        flags |= Clone.NEWUSER if user else Clone(0)
        ours, theirs = socket.socketpair()
        life, alive = os.pipe()

        def prepare() -> None:
            if user:
                write_id_maps([IdRange(0, uid)], [IdRange(0, gid)])
            socket.send_fds(theirs, [b"tap"], [_wire()])
            sethostname(node_name(SERVER))
            mount_here(directory, node_name(SERVER), in_user_namespace=user)
            os.chdir("/")

        argv = [sys.executable, "-I", "-S", _INIT, node_name(SERVER), str(directory), str(life)]
        environment = {"OMLAB_DIR": str(directory), "OMLAB_NODE": node_name(SERVER), "PATH": os.defpath}
        try:
            with ours, theirs:
                newborn = bear(Plan(argv, environment, flags=flags, prepare=prepare, keep=[life]))
                _data, (tap, *_none), _flags, _from = socket.recv_fds(ours, 16, 1)
                os.set_blocking(tap, False)
                newborn.release()
                return cls(newborn.being, tap, alive)
        except BaseException:
            os.close(alive)
            raise
        finally:
            os.close(life)

    def _run_services(self, directory: Path, state: MetalState, log: int) -> None:
        lab, node = as_lab(directory, self.pid)
        environment = agent_environment(directory, lab.state, node)
        path = [*environment["PATH"].split(":"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        environment |= {
            "LOG": str(log), "BARE": "yes" if state.bare else "no", "PYTHON": sys.executable,
            "PATH": ":".join(dict.fromkeys(path)), "GLIBC_TUNABLES": BASELINE,
        }  # fmt: skip
        newborn = bear(
            Plan(["/bin/sh", _RC], environment, host=self.pid, log=directory / "mCii.log", keep=[log])
        )
        newborn.release()

    async def _watch_log(
        self, reader: asyncio.StreamReader, log: LogReader, tell: Callable[[Event], None]
    ) -> None:
        lines = Lines()
        while data := await reader.read(65536):
            for line in lines.feed(data):
                if event := log.read(line, time.time()):
                    self.booted = self.booted or event["event"] == "booted"
                    self.agent = self.agent or event["event"] == "agent-ready"
                    tell(event)

    async def _watch_end(self, ended: Callable[[], None]) -> None:
        over = asyncio.Event()
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            loop = asyncio.get_running_loop()
            loop.add_reader(descriptor, over.set)
            try:
                if self._being.alive():
                    await over.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        os.close(self._alive)
        ended()

    async def kill(self) -> None:
        """End it and wait until it is gone."""
        await asyncio.to_thread(self._being.kill)
        assert self._end is not None
        await asyncio.shield(self._end)

    async def set_link(self, up: bool) -> None:
        """Its cable is metrakilate's: that end is pulled."""

    async def reset(self) -> None:
        """It has no such button; the supervisor says so before."""

    def type(self, data: bytes) -> None:
        """It has no console of its own."""


def _wire() -> int:
    """The card and its addresses; returns the other end of its cable."""
    tap = open_tap(CARD, hardware_address(SERVER))
    with Netlink() as net:
        net.set_up("lo")
        net.set_up(CARD)
        net.add_address(CARD, IPv4Interface(f"{lab_address(SERVER)}/{NETWORK.network.prefixlen}"))
        with contextlib.suppress(OSError):  # no IPv6 here: iPXE waits some seconds for an answer
            net.add_address(CARD, ROUTER6)
    return tap

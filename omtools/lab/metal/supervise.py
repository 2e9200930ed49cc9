"""The supervisor of a lab: holds the machines' QEMUs, their consoles, the wire between them, and the record.

Run as `python -m omtools.lab.metal.supervise DIRECTORY READY-FD`. If it ends, however it ends, the kernel
kills the QEMUs (PR_SET_PDEATHSIG). It listens on a unix socket in the lab's directory: a line of JSON asks,
a line of JSON answers; after `console` the connection carries the bytes of a serial line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from omtools.errors import MetalBootFailed, MetalImageFailed, MetalIsHere, OmError, UsageError
from omtools.i18n import _
from omtools.lab.metal import image, plan
from omtools.lab.metal.events import Event
from omtools.lab.metal.here import Here
from omtools.lab.metal.identity import DISKLESS, NUMBERS, SERVER, hardware_address
from omtools.lab.metal.machine import GATEWAY, Direct
from omtools.lab.metal.powered import Powered
from omtools.lab.metal.wire import Wire, pair
from omtools.lab.settings import lab_address, node_name

_LONGEST_REQUEST = 4096
_CONTEXT = 2048  # bytes of the screen so far that somebody gets who attaches to it


class Record:
    """The file of events."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - open as long as the supervisor lives

    def __call__(self, event: Event) -> None:
        """Write an event down, with the time."""
        with contextlib.suppress(OSError):  # the disk is full: the machines run on unrecorded
            self._file.write(msgspec.json.encode({"at": round(time.time(), 3), **event}) + b"\n")

    def close(self) -> None:
        """No more events."""
        self._file.close()


class Slot:
    """A place for a machine: cable and screen, whether it is switched on or not.

    Attributes:
        number: its node number.
        name: its host name.
        machine: it, while it is switched on.
        cable: whether the cable is in.
        watchers: who is attached to its console.
        far: the other end of the cable, if its plug is to be seen to here.
    """

    def __init__(self, number: int, wire: Wire, directory: Path, record: Record) -> None:
        self.number = number
        self.name = node_name(number)
        self.machine: Powered | Here | None = None
        self.cable = True
        self.watchers: set[asyncio.StreamWriter] = set()
        self.far: Slot | None = None
        self._wire = wire
        self._directory = directory
        self._record = record
        self._screen: BinaryIO = open(plan.screen(directory, self.name), "ab", buffering=0)  # noqa: SIM115
        self._recent = b""
        self._busy = asyncio.Lock()
        self._drain(True)

    def _drain(self, on: bool) -> None:
        """While the machine is off nobody takes frames from its end of the wire: they get lost."""
        loop = asyncio.get_running_loop()
        if on:
            loop.add_reader(self._wire.descriptor, self._wire.lose)
        else:
            loop.remove_reader(self._wire.descriptor)

    async def rewire(self, wire: Wire) -> None:
        """Its cable leads elsewhere from now on; if it is switched on, it loses its power."""
        await self.switch(False)
        self._drain(False)
        self._wire = wire
        self._drain(True)

    async def switch(self, on: bool) -> None:
        """Switch it on or off; nothing happens if it is so already.

        Raises:
            OmError: it cannot be switched on.
        """
        async with self._busy:
            if on and self.machine is None:
                await self._on()
            elif not on and self.machine is not None:
                await self.machine.kill()

    async def _on(self) -> None:
        self._drain(False)
        self._record({"node": self.name, "event": "power-on"})
        try:
            with self._direct() as direct:
                self.machine = await Powered.start(
                    self.number, wire=self._wire, direct=direct, show=self.show, tell=self._record,
                    ended=self._ended, name_of=name_of,
                )  # fmt: skip
                if not self.linked():
                    await self.machine.set_link(False)
        except MetalBootFailed as error:
            self._stays_off(str(error))
            record = str(plan.screen(self._directory, self.name))
            raise MetalBootFailed(**{**error.fields, "record": record}) from error
        except BaseException as error:
            self._stays_off(str(error))
            raise

    def _stays_off(self, why: str) -> None:
        if self.machine is None:
            self._drain(True)
            self._record({"node": self.name, "event": "power-off", "why": why})

    @contextlib.contextmanager
    def _direct(self) -> Any:
        """What it starts from if not from the network; the file is needed until QEMU has read it."""
        if self.number != SERVER:
            yield None
            return
        wanted = plan.load(self._directory)
        found = image.Image(
            Path(wanted.kernel), tuple(map(Path, wanted.root)), Path(wanted.server), Path(wanted.netroot),
            wanted.digest,
        )  # fmt: skip
        target = self._directory / "mCii.img"
        try:
            with open(target, "wb") as file:
                found.write_server(file, plan.own_archive(self._directory).read_bytes())
            yield Direct(found.kernel, target)
        except OSError as error:
            raise MetalImageFailed(why=f"{error.filename or target}: {error.strerror}") from error
        finally:
            target.unlink(missing_ok=True)

    def _ended(self, why: str) -> None:
        if self.machine is None:
            return  # it did not even start, which whoever wanted that says
        self.machine = None
        self._drain(True)
        event: Event = {"node": self.name, "event": "power-off"}
        self._record({**event, "why": why} if why else event)
        self.show(b"\r\n")

    def show(self, data: bytes) -> None:
        """Its screen shows something: write it down and pass it on."""
        with contextlib.suppress(OSError):  # as with events
            self._screen.write(data)
        self._recent = (self._recent + data)[-_CONTEXT:]
        for watcher in list(self.watchers):
            if watcher.transport.get_write_buffer_size() > 1 << 20:
                watcher.transport.abort()  # does not read; the record has everything
            else:
                watcher.write(data)

    def check(self, do: str, to: str) -> None:
        """Refuse what such a place has not; raises MetalIsHere."""

    def linked(self) -> bool:
        """Whether its cable is in, at every end whose plug nobody else looks at."""
        return self.cable and (self.far is None or self.far.cable)

    async def end(self) -> None:
        """Switch it off: the lab ends."""
        await self.switch(False)

    async def plug(self, inside: bool) -> None:
        """Put the cable in, or pull it out."""
        was, self.cable = self.cable, inside
        await self.link()
        if inside != was:
            self._record({"node": self.name, "event": "cable-in" if inside else "cable-out"})

    async def link(self) -> None:
        """Have the card know how its cable is."""
        if self.machine is not None:
            await self.machine.set_link(self.linked())

    async def attach(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes between somebody and the serial line until they hang up."""
        writer.write(self._recent)
        self.watchers.add(writer)
        try:
            while data := await reader.read(_LONGEST_REQUEST):
                if self.machine is not None:
                    self.machine.type(data)
        finally:
            self.watchers.discard(writer)

    def description(self) -> dict[str, Any]:
        """What status shows of it."""
        machine = self.machine
        return {
            "number": self.number, "name": self.name, "address": lab_address(self.number),
            "power": "on" if machine else "off", "cable": "in" if self.cable else "out",
            "pid": machine.pid if machine else None, "since": machine.since if machine else None,
            "booted": bool(machine and machine.booted), "agent": bool(machine and machine.agent),
            "ssh_port": machine.ssh_port if machine else None, "here": isinstance(machine, Here),
        }  # fmt: skip

    def close(self) -> None:
        """The lab ends."""
        self._drain(False)
        self._screen.close()
        for watcher in self.watchers:
            watcher.close()


class HereSlot(Slot):
    """MCii's place where mCii is this machine.

    Args:
        wire: what it has while nobody is there.
        directory: of the lab.
        record: takes events.
        other: the machine at the other end.
        idle: what that one has for a wire meanwhile.
    """

    def __init__(self, wire: Wire, directory: Path, record: Record, other: Slot, idle: Wire) -> None:
        super().__init__(SERVER, wire, directory, record)
        self._other = other
        self._idle = idle
        self._rewiring: asyncio.Task[None] | None = None
        other.far = self

    def check(self, do: str, to: str) -> None:
        """Refuse what only a machine has; raises MetalIsHere."""
        if do == "console" or (do == "power" and to != "on"):
            raise MetalIsHere(node=self.name, what=f"`omlab {do}{f' {to}' if to else ''}`")

    async def _on(self) -> None:
        self._record({"node": self.name, "event": "power-on"})
        try:
            state = plan.load_state(self._directory)
            here = await Here.start(
                self._directory, state, tell=self._record, ended=lambda: self._gone(here), name_of=name_of
            )
        except BaseException as error:
            self._stays_off(str(error))
            raise
        self.machine = here
        await self._other.rewire(Wire(here.tap, tap=True))

    def _gone(self, here: Here) -> None:
        self._ended(_("somebody ended its process 1"))
        self._rewiring = asyncio.create_task(self._unplug(here.tap))

    async def _unplug(self, tap: int) -> None:
        await self._other.rewire(self._idle)
        os.close(tap)

    async def link(self) -> None:
        """There is one cable, and its other end is a card that knows."""
        await self._other.link()

    async def end(self) -> None:
        """Switch it off, and wait until nothing holds the cable."""
        await self.switch(False)
        if self._rewiring is not None:
            await self._rewiring


def name_of(address: str) -> str:
    """The name of the machine with that IP or hardware address, or the address itself."""
    for number in NUMBERS:
        if address in (lab_address(number), hardware_address(number)):
            return node_name(number)
    return "outside" if address == GATEWAY else address


class Supervisor:
    """All machines of a lab, and the socket on which it is told what to do."""

    def __init__(self, directory: Path, *, here: bool = False) -> None:
        self.directory = directory
        self.record = Record(plan.events(directory))
        self._ends = pair()
        wires = {number: Wire(end.fileno()) for number, end in zip(NUMBERS, self._ends, strict=True)}
        self.slots = {node_name(number): Slot(number, wire, directory, self.record)
                      for number, wire in wires.items() if number != SERVER or not here}  # fmt: skip
        if here:
            other = self.slots[node_name(DISKLESS)]
            slot = HereSlot(wires[SERVER], directory, self.record, other, wires[DISKLESS])
            self.slots = {slot.name: slot, **self.slots}

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked.

        Raises:
            OmError: it cannot be done.
        """
        if request.get("do") == "status":
            return {"nodes": [slot.description() for slot in self.slots.values()]}
        slot = self.slots.get(str(request.get("node")))
        what = (request.get("do"), request.get("to"))
        if slot is None:
            raise UsageError(detail=_("The lab has no node {node}.").format(node=request.get("node")))
        slot.check(*map(str, what))
        if what in (("power", "on"), ("power", "off")):
            await slot.switch(what[1] == "on")
        elif what == ("power", "reset") and slot.machine is not None:
            await slot.machine.reset()
        elif what == ("power", "reset"):
            await slot.switch(True)
        elif what in (("cable", "in"), ("cable", "out")):
            await slot.plug(what[1] == "in")
        else:
            raise UsageError(detail=_("The supervisor does not know “{what}”.").format(what=what))
        return slot.description()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection."""
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            async with _closing(writer):
                while line := await reader.readline():
                    request = msgspec.json.decode(line, type=dict[str, Any])
                    try:
                        if request.get("do") == "console" and request.get("node") in self.slots:
                            slot = self.slots[request["node"]]
                            slot.check("console", "")
                            writer.write(b"{}\n")
                            await slot.attach(reader, writer)
                            return
                        found = await self.answer(request)
                    except OmError as error:
                        found = error.to_wire()
                    writer.write(msgspec.json.encode(found) + b"\n")
                    await writer.drain()

    async def close(self) -> None:
        """Switch everything off."""
        for slot in reversed(self.slots.values()):
            with contextlib.suppress(OmError):
                await slot.end()
            slot.close()
        for end in self._ends:
            end.close()
        self.record.close()


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()


async def supervise(directory: Path, ready: Callable[[], None]) -> None:
    """Supervise until SIGTERM."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        loop.add_signal_handler(signum, ending.set)
    supervisor = Supervisor(directory, here=plan.load_state(directory).here)
    server = await asyncio.start_unix_server(
        supervisor.serve, plan.control(directory), limit=_LONGEST_REQUEST
    )
    try:
        ready()
        await ending.wait()
    finally:
        server.close()
        await supervisor.close()


def main() -> int:
    """Run; the arguments are the lab's directory and where to say that it is ready."""
    directory, descriptor = Path(sys.argv[1]), int(sys.argv[2])

    def ready() -> None:
        os.write(descriptor, b"ready\n")
        os.close(descriptor)

    os.umask(0o077)
    asyncio.run(supervise(directory, ready))
    return 0


if __name__ == "__main__":
    sys.exit(main())

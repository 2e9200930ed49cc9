"""A machine that is switched on: its QEMU, and the sockets to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from omtools.errors import MetalBootFailed, MetalMachineOff
from omtools.i18n import _
from omtools.lab.metal.events import Event, Lines, LogReader, read_screen
from omtools.lab.metal.identity import SERVER
from omtools.lab.metal.machine import WIRE, Direct, Sockets, command_line
from omtools.lab.metal.wire import Wire
from omtools.lab.settings import node_name
from omtools.linux.namespaces import set_parent_death_signal

_PATIENCE = 60.0  # for QEMU to say hello, or to answer
_ONE_RESET = 1.0  # seconds
_FORWARD = re.compile(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")
Tell = Callable[[Event], None]


class Powered:
    """A running machine; made by `start`.

    Attributes:
        pid: QEMU's.
        since: when it was switched on, in seconds since 1970.
        booted: whether it has said so, since it was switched on or reset.
        agent: whether its agent has said that it serves.
        ssh_port: where its SSH port is on this machine's loopback; None: nowhere.
    """

    def __init__(self, number: int, process: asyncio.subprocess.Process, tell: Tell) -> None:
        self.node = node_name(number)
        self.pid = process.pid
        self.since = time.time()
        self.booted = False
        self.agent = False
        self.ssh_port: int | None = None
        self._process = process
        self._tell = tell
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._complaints = b""
        self._killed = False
        self._last_reset = time.monotonic()

    @classmethod
    async def start(
        cls,
        number: int,
        *,
        wire: Wire,
        direct: Direct | None,
        show: Callable[[bytes], None],
        tell: Tell,
        ended: Callable[[str], None],
        name_of: Callable[[str], str],
    ) -> Powered:
        """Switch it on; returns when QEMU answers, with the machine running.

        Args:
            number: of the node.
            wire: its end of the wire.
            direct: what it starts from; None: from the network.
            show: takes what appears on its screen.
            tell: takes events.
            ended: is called, with the reason if it is a surprise, when it is off again.
            name_of: names the machine with an IP or hardware address.

        Raises:
            MetalBootFailed: QEMU does not start.
        """
        pairs = {name: socket.socketpair() for name in ("console", "log", "control")}
        theirs = {name: pair[1].fileno() for name, pair in pairs.items()}
        sockets = Sockets(theirs["console"], theirs["log"], theirs["control"], wire)
        try:
            process = await _spawn(command_line(number, sockets, direct), sockets)
        except OSError as error:
            for pair in pairs.values():
                pair[0].close()
            raise _failed(node_name(number), error.strerror or str(error)) from error
        finally:
            for pair in pairs.values():
                pair[1].close()
        self = cls(number, process, tell)
        await self._attend(pairs, show, ended, LogReader(self.node, name_of))
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._ask("qmp_capabilities")
                if number == SERVER:
                    self.ssh_port = await self._forwarded()
        except (TimeoutError, MetalMachineOff):
            await self.kill()
            said = self._complaints.decode(errors="replace").strip().rpartition("\n")[2]
            raise _failed(self.node, said or _("QEMU does not answer")) from None
        return self

    async def _attend(
        self,
        pairs: dict[str, tuple[socket.socket, socket.socket]],
        show: Callable[[bytes], None],
        ended: Callable[[str], None],
        log: LogReader,
    ) -> None:
        readers = {}
        for name, (ours, _theirs) in pairs.items():
            readers[name], self._writers[name] = await asyncio.open_connection(sock=ours)
        watching = [
            self._watch_screen(readers["console"], show),
            self._watch_log(readers["log"], log),
            self._watch_control(readers["control"]),
            self._watch_complaints(),
        ]
        self._tasks = [asyncio.create_task(one) for one in watching]
        self._end = asyncio.create_task(self._watch_end(ended))

    async def _watch_screen(self, reader: asyncio.StreamReader, show: Callable[[bytes], None]) -> None:
        lines = Lines()
        while data := await reader.read(65536):
            show(data)
            for line in lines.feed(data):
                if event := read_screen(self.node, line):
                    self._tell(event)

    async def _watch_log(self, reader: asyncio.StreamReader, log: LogReader) -> None:
        lines = Lines()
        while data := await reader.read(65536):
            for line in lines.feed(data):
                if event := log.read(line, time.time()):
                    self.booted = self.booted or event["event"] == "booted"
                    self.agent = self.agent or event["event"] == "agent-ready"
                    self._tell(event)

    async def _watch_control(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = msgspec.json.decode(line, type=dict[str, Any])
            if "id" in message and (future := self._asked.pop(message["id"], None)) and not future.done():
                future.set_result(message)
            elif message.get("event") == "RESET":
                self._was_reset()

    def _was_reset(self) -> None:
        self.booted = self.agent = False
        # The firmware resets the machine once or twice more before it is content.
        last, self._last_reset = self._last_reset, time.monotonic()
        if self._last_reset - last > _ONE_RESET:
            self._tell({"node": self.node, "event": "reset"})

    async def _watch_complaints(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(4096):
            self._complaints = (self._complaints + data)[-4096:]

    async def _watch_end(self, ended: Callable[[str], None]) -> None:
        status = await self._process.wait()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(MetalMachineOff(node=self.node))
        for writer in self._writers.values():
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        why = "" if self._killed else _("it switched itself off") if status == 0 else _("its QEMU was ended")
        ended(why)

    async def _ask(self, execute: str, **arguments: Any) -> Any:
        if self._process.returncode is not None:
            raise MetalMachineOff(node=self.node)
        number = len(self._asked) + time.monotonic_ns()
        self._asked[number] = asyncio.get_running_loop().create_future()
        request = {"execute": execute, "arguments": arguments, "id": number}
        self._writers["control"].write(msgspec.json.encode(request) + b"\n")
        message = await self._asked[number]
        if "error" in message:
            raise _failed(self.node, str(message["error"].get("desc")))
        return message.get("return")

    async def _forwarded(self) -> int | None:
        text = await self._ask("human-monitor-command", **{"command-line": "info usernet"})
        found = _FORWARD.search(str(text))
        return int(found[1]) if found else None

    async def set_link(self, up: bool) -> None:
        """Plug its card into the wire, or pull the cable out."""
        await self._ask("set_link", name=WIRE, up=up)

    async def reset(self) -> None:
        """Press its reset button."""
        await self._ask("system_reset")

    def type(self, data: bytes) -> None:
        """Somebody types on its console."""
        if self._writers["console"].transport.get_write_buffer_size() < 1 << 16:
            self._writers["console"].write(data)

    async def kill(self) -> None:
        """Pull the plug, and wait until it is off."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.shield(self._end)


async def _spawn(command: list[str], sockets: Sockets) -> asyncio.subprocess.Process:
    own = os.getpid()

    def before_exec() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        set_parent_death_signal(signal.SIGKILL, own)

    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=sockets.all(),
        preexec_fn=before_exec,
        start_new_session=True,
    )


def _failed(node: str, why: str) -> MetalBootFailed:
    return MetalBootFailed(node=node, why=why, record=f"console-{node}.log")

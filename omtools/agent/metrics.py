"""What Prometheus may know of a node: counters fed by the agent's events, gauges asked when somebody looks.

Served over HTTP where METRICSPORT says so, in Prometheus's text format 0.0.4. prometheus_client is not used:
of all it does we would need to print a table, and its registries and threads would come along with it.
Labels have few values, all known beforehand: no pid, no user, no error's text is ever one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from omtools.agent import api, log
from omtools.errors import BadConfiguration

FROZEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # upper bounds of the histogram
_LONGEST = 8192  # bytes of a request
_PATIENCE = 5.0
_AT_ONCE = 16
_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One figure.

    Attributes:
        name: with unit, as Prometheus wants it.
        kind: counter, gauge or histogram.
        what: one line for people.
        values: by labels.
    """

    name: str
    kind: str
    what: str
    values: Mapping[Labels, float]


def text_of(samples: Iterable[Sample]) -> str:
    """The exposition; the bucket, sum and count of a histogram carry their suffix in the label `__suffix`."""
    lines = []
    for one in samples:
        lines += [f"# HELP {one.name} {_escaped(one.what, quote=False)}", f"# TYPE {one.name} {one.kind}"]
        for labels, value in one.values.items():
            suffix = "".join(word for key, word in labels if key == "__suffix")
            inner = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels if key != "__suffix")
            lines.append(f"{one.name}{suffix}{'{' + inner + '}' if inner else ''} {_number(value)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str, quote: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


class Counting:
    """Counts what the agent tells."""

    def __init__(self) -> None:
        self._decisions: dict[Labels, float] = {}
        self._moves: dict[Labels, float] = {(("way", "there"),): 0.0, (("way", "home"),): 0.0}
        self._bytes = 0.0
        self._frozen = [0.0] * (len(FROZEN_S) + 1)
        self._frozen_sum = 0.0
        self._calls = 0.0
        self._known: dict[str, tuple[int, int, str]] = {}  # by migration: moves, calls, phase

    def hear(self, event: api.Event) -> None:
        """Something happened."""
        if isinstance(event, api.Decided):
            # A failure's reason is a sentence; only refusals have reasons that can be counted.
            reason = event.reason if event.what == "stay" else ""
            labels = (("what", event.what), ("reason", reason))
            self._decisions[labels] = self._decisions.get(labels, 0) + 1
        elif isinstance(event, api.ProcessChanged) and event.process.role == "deputy":
            self._follow(event.process, event.gone)

    def _follow(self, process: api.ProcessInfo, gone: bool) -> None:
        moves, calls, phase = self._known.get(process.migration, (0, 0, ""))
        self._calls += max(process.calls_forwarded - calls, 0)
        went, came = process.moves > moves, process.phase == "home" and phase not in ("", "home")
        if went or came:
            self._moves[(("way", "home" if process.phase == "home" else "there"),)] += 1
            self._bytes += process.bytes
            self._frozen_sum += process.frozen_ms / 1000
            self._frozen[sum(process.frozen_ms / 1000 > bound for bound in FROZEN_S)] += 1
        self._known[process.migration] = (process.moves, process.calls_forwarded, process.phase)
        if gone or process.phase in ("home", "ended", "failed"):
            self._known.pop(process.migration, None)

    def samples(self) -> list[Sample]:
        """All counters."""
        return [
            Sample("openmosix_decisions_total", "counter", "What was decided.", self._decisions),
            Sample("openmosix_migrations_total", "counter", "Moves of own processes.", self._moves),
            Sample("openmosix_migrated_bytes_total", "counter", "Memory that moved.", {(): self._bytes}),
            Sample("openmosix_forwarded_calls_total", "counter", "System calls done here for processes "
                   "that are away.", {(): self._calls}),
            Sample("openmosix_frozen_seconds", "histogram", "How long moving processes stood still.",
                   self._histogram()),
        ]  # fmt: skip

    def _histogram(self) -> dict[Labels, float]:
        values: dict[Labels, float] = {}
        for at, bound in enumerate((*map(str, FROZEN_S), "+Inf")):
            values[("__suffix", "_bucket"), ("le", bound)] = sum(self._frozen[: at + 1])
        values[(("__suffix", "_sum"),)] = self._frozen_sum
        values[(("__suffix", "_count"),)] = sum(self._frozen)
        return values


def own_process() -> list[Sample]:
    """The agent itself, under the names that Prometheus's own clients give."""
    ticks = os.sysconf("SC_CLK_TCK")
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # from the state on: proc_pid_stat(5)'s third
    cpu = (int(fields[11]) + int(fields[12])) / ticks
    resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return [
        Sample("process_cpu_seconds_total", "counter", "Processor time of the agent.", {(): cpu}),
        Sample("process_resident_memory_bytes", "gauge", "Memory of the agent.", {(): resident}),
        Sample("process_open_fds", "gauge", "Its open files.", {(): len(os.listdir("/proc/self/fd"))}),
    ]


class MetricsServer:
    """HTTP, as much of it as a scrape needs: GET /metrics, one answer, good-bye."""

    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self, address: str, port: int) -> None:
        """Listen.

        Raises:
            BadConfiguration: not there.
        """
        try:
            self._server = await asyncio.start_server(self._accept, address, port, limit=_LONGEST)
        except OSError as error:
            why = error.strerror or str(error)
            raise BadConfiguration(path=f"METRICSPORT={address}:{port}", why=why) from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _AT_ONCE:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._answer(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a scrape was not understood", why=error)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _response(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or words[0] not in (b"GET", b"HEAD"):
            return _http("405 Method Not Allowed", "only GET\n", "Allow: GET\r\n")
        if words[1].partition(b"?")[0] != b"/metrics":
            return _http("404 Not Found", "it is at /metrics\n")
        whole = _http("200 OK", text_of(self._samples()))
        return whole if words[0] == b"GET" else whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def _http(status: str, body: str, more: str = "") -> bytes:
    content = body.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {_TYPE}\r\nContent-Length: {len(content)}\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return head.encode() + content

"""What Prometheus sees: the format, the counters, and a real scrape of a real agent."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from omtools.agent import api
from omtools.agent.metrics import Counting, MetricsServer, Sample, own_process, text_of
from omtools.errors import BadConfiguration

from .support import Cluster, free_port

# Prometheus's text format 0.0.4: a name, labels in braces, a number.
LINE = re.compile(
    r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-z_]+="(\\.|[^"\\\n])*"(,[a-z_]+="(\\.|[^"\\\n])*")*\})? [-+0-9.e]+(inf|nan)?'
)


def process(moves: int, phase: str, **more: float) -> api.ProcessChanged:
    return api.ProcessChanged(api.ProcessInfo(
        1, 1, 0, "deputy", "m", 1, 2, phase, moves=moves, bytes=int(more.get("bytes", 0)),
        frozen_ms=more.get("frozen", 0.0), calls_forwarded=int(more.get("calls", 0)),
    ))  # fmt: skip


def figures(samples: list[Sample]) -> dict[str, float]:
    lines = [line for line in text_of(samples).splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


@given(st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)))
def test_whatever_is_in_a_label_the_format_holds(values: dict[str, float]) -> None:
    text = text_of([Sample("x", "gauge", "a\nb", {(("l", key),): value for key, value in values.items()})])
    lines = text.split("\n")
    assert lines[:2] == ["# HELP x a\\nb", "# TYPE x gauge"]
    assert lines[-1] == ""
    assert len(lines) == 3 + len(values)
    assert all(LINE.fullmatch(line) for line in lines[2:-1])


def test_moves_are_counted_once() -> None:
    counting = Counting()
    for event in (
        process(0, "linking"), process(1, "away", bytes=1000, frozen=30), process(1, "away", bytes=1000, frozen=30, calls=5),
        process(2, "away", bytes=500, frozen=300, calls=9), process(2, "coming", bytes=500, frozen=300, calls=9),
        process(2, "home", bytes=700, frozen=20000, calls=12), process(2, "home", bytes=700, frozen=20000, calls=12),
    ):  # fmt: skip
        counting.hear(event)
        if event.process.phase == "home":
            break  # its keeper ends
    found = figures(counting.samples())
    assert found['openmosix_migrations_total{way="there"}'] == 2
    assert found['openmosix_migrations_total{way="home"}'] == 1
    assert found["openmosix_migrated_bytes_total"] == 2200
    assert found["openmosix_forwarded_calls_total"] == 12
    assert found['openmosix_frozen_seconds_bucket{le="0.025"}'] == 0
    assert found['openmosix_frozen_seconds_bucket{le="0.05"}'] == 1
    assert found['openmosix_frozen_seconds_bucket{le="0.5"}'] == 2
    assert found['openmosix_frozen_seconds_bucket{le="+Inf"}'] == found["openmosix_frozen_seconds_count"] == 3
    assert found["openmosix_frozen_seconds_sum"] == pytest.approx(20.33)


def test_decisions_have_no_sentences_in_their_labels() -> None:
    counting = Counting()
    counting.hear(api.Decided(1, "stay", reason="no_gain"))
    counting.hear(api.Decided(2, "stay", reason="no_gain"))
    counting.hear(api.Decided(2, "failed", reason="Node 2 does not answer at 10.0.0.2"))
    found = figures(counting.samples())
    assert found['openmosix_decisions_total{what="stay",reason="no_gain"}'] == 2
    assert found['openmosix_decisions_total{what="failed",reason=""}'] == 1


def test_the_agent_itself() -> None:
    found = figures(own_process())
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["process_cpu_seconds_total"] > 0
    assert found["process_open_fds"] > 2


async def get(port: int, request: bytes) -> tuple[str, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = b""
    with contextlib.suppress(ConnectionResetError):  # who says too much is not listened to
        answer = await reader.read()
    head, _empty, body = answer.decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head.split("\r\n")[0], body


async def test_a_scrape_of_an_agent(short: Path) -> None:
    port = free_port(["127.0.0.1"])
    cluster = Cluster(short, 2, f"METRICSPORT={port}\n")
    await cluster.start(1)
    async with cluster.asking(1) as asker:
        await asker.ask(api.Switch("block", True))
    status, body = await get(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == "HTTP/1.1 200 OK"
    lines = [line for line in body.splitlines() if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in lines)
    assert 'openmosix_switch{flag="block"} 1' in lines
    assert 'openmosix_nodes{state="up"} 1' in lines
    assert any(line.startswith("openmosix_memory_bytes") and not line.endswith(" 0") for line in lines)
    with pytest.raises(BadConfiguration, match="METRICSPORT"):
        await cluster.start(2)  # the same port of the same machine
    await cluster.end()


async def test_what_is_no_scrape() -> None:
    server = MetricsServer(own_process)
    await server.open("127.0.0.1", 0)
    assert (await get(server.port, b"GET / HTTP/1.1\r\n\r\n"))[0].endswith("404 Not Found")
    assert (await get(server.port, b"POST /metrics HTTP/1.1\r\n\r\n"))[0].endswith("405 Method Not Allowed")
    assert (await get(server.port, b"HEAD /metrics HTTP/1.1\r\n\r\n")) == ("HTTP/1.1 200 OK", "")
    assert (await get(server.port, b"nonsense\r\n\r\n"))[0].endswith("405 Method Not Allowed")
    assert (await get(server.port, b"x" * 20000))[0] == ""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)  # says nothing
    await server.close()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()

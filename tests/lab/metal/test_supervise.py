"""The supervisor with a stand-in for QEMU, for what a real one does too seldom; the real one is in test_boot."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from omtools.errors import MetalBootFailed, MetalImageFailed, UsageError
from omtools.lab.metal import plan
from omtools.lab.metal.supervise import Supervisor, supervise
from omtools.linux import proc

QEMU = """\
#!/usr/bin/env python3
import json, os, re, sys, time
text = " ".join(sys.argv)
control = int(re.search("id=control,fd=(\\\\d+)", text)[1])
console = int(re.search("id=console,fd=(\\\\d+)", text)[1])
os.write(control, b'{"QMP": {}}\\n')
os.write(console, b"Linux version 9.9-stand-in (somebody)\\r\\n")
for line in os.fdopen(control, "rb"):
    asked = json.loads(line)
    if asked["execute"] == "system_reset":
        time.sleep(1.1)
        os.write(control, b'{"event": "RESET"}\\n{"event": "RESET"}\\n')
    os.write(control, json.dumps({"return": {}, "id": asked["id"]}).encode() + b"\\n")
"""


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "bin"
    place.mkdir()
    program = place / "qemu-system-x86_64"
    program.write_text(QEMU)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(place), prepend=":")
    return program


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    made = Supervisor(tmp_path)
    yield made
    await made.close()


def events(directory: Path) -> list[str]:
    return [json.loads(line)["event"] for line in plan.events(directory).read_text().splitlines()]


async def test_on_reset_cable_off(qemu: Path, supervisor: Supervisor, tmp_path: Path) -> None:
    assert qemu.exists()
    found = await supervisor.answer({"do": "power", "node": "metrakilate", "to": "on"})
    assert (found["power"], found["cable"], found["booted"]) == ("on", "in", False)
    assert proc.stat(found["pid"]).state in "RS"
    again = await supervisor.answer({"do": "power", "node": "metrakilate", "to": "on"})
    assert again["pid"] == found["pid"]
    for to in ("out", "out", "in"):
        assert (await supervisor.answer({"do": "cable", "node": "metrakilate", "to": to}))["cable"] == to
    await supervisor.answer({"do": "power", "node": "metrakilate", "to": "reset"})
    assert (await supervisor.answer({"do": "power", "node": "metrakilate", "to": "off"}))["power"] == "off"
    assert events(tmp_path) == ["power-on", "kernel", "cable-out", "cable-in", "reset", "power-off"]
    assert b"9.9-stand-in" in plan.screen(tmp_path, "metrakilate").read_bytes()


async def test_one_that_does_not_start_says_why_and_is_off(qemu: Path, supervisor: Supervisor, tmp_path: Path) -> None:
    qemu.write_text("#!/bin/sh\necho 'qemu: warning: never mind' >&2\necho 'qemu: no such machine' >&2\nexit 1\n")
    with pytest.raises(MetalBootFailed, match="metrakilate did not come up: qemu: no such machine") as caught:
        await supervisor.answer({"do": "power", "node": "metrakilate", "to": "on"})
    assert str(plan.screen(tmp_path, "metrakilate")) in str(caught.value)
    assert events(tmp_path) == ["power-on", "power-off"]
    assert (await supervisor.answer({"do": "status"}))["nodes"][1]["power"] == "off"


async def test_one_that_cannot_be_executed(
    qemu: Path, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu.write_text("no program\n")
    monkeypatch.setenv("PATH", str(qemu.parent))
    with pytest.raises(MetalBootFailed):
        await supervisor.answer({"do": "power", "node": "metrakilate", "to": "on"})


async def test_mcii_without_its_image(qemu: Path, supervisor: Supervisor, tmp_path: Path) -> None:
    assert qemu.exists()
    wanted = plan.Plan("/nonexistent/kernel", ["/nonexistent/root"], "/nonexistent/server", "/nonexistent/netroot", "d")
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(wanted))
    plan.own_archive(tmp_path).write_bytes(b"")
    with pytest.raises(MetalImageFailed, match="/nonexistent/root: No such file"):
        await supervisor.answer({"do": "power", "node": "mCii", "to": "on"})
    assert not list(tmp_path.glob("*.img"))


async def test_frames_to_a_machine_that_is_off_are_lost_and_stop_nobody(supervisor: Supervisor) -> None:
    wire = supervisor.slots["mCii"]._wire
    for _frame in range(500):
        while True:
            try:
                os.write(wire.descriptor, bytes(1500))
                break
            except BlockingIOError:
                await asyncio.sleep(0)  # its turn to throw them away


@pytest.mark.parametrize("request_", [{"do": "power", "node": "nobody", "to": "on"}, {"do": "dance", "node": "mCii"}, {}])
async def test_what_makes_no_sense(supervisor: Supervisor, request_: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        await supervisor.answer(request_)


async def test_by_its_socket_with_several_at_one_console(qemu: Path, tmp_path: Path) -> None:
    assert qemu.exists()
    ready = asyncio.Event()
    (tmp_path / "metal.json").write_bytes(msgspec.json.encode(plan.MetalState("t", "boot", 1)))
    task = asyncio.create_task(supervise(tmp_path, ready.set))
    await ready.wait()

    async def ask(**request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, dict[str, object]]:
        reader, writer = await asyncio.open_unix_connection(plan.control(tmp_path))
        writer.write(json.dumps(request).encode() + b"\n")
        return reader, writer, json.loads(await reader.readline())

    attached = [await ask(do="console", node="metrakilate") for _ in range(2)]
    _reader, writer, found = await ask(do="power", node="metrakilate", to="on")
    assert found["power"] == "on"
    for reader, watcher, _found in attached:
        assert b"9.9-stand-in" in await reader.readline()
        watcher.close()
        await watcher.wait_closed()
    _reader, other, refused = await ask(do="dance", node="mCii")
    assert refused["error"] == "UsageError"
    for one in (writer, other):
        one.close()
        await one.wait_closed()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events(tmp_path)[-1] == "power-off"

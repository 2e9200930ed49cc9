"""The application in a real browser: guests look, who has the secret acts."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from browsers import chromium
from recordings import recorded

from omtools.cluster.load import BLOCK
from omtui.simulated import SimulatedAgent
from omtui.world import World

MOMENT = re.compile(r"(\d\d:\d\d:)(\d\d)")


class Served(NamedTuple):
    agent: SimulatedAgent
    process: asyncio.subprocess.Process
    said: list[str]

    @property
    def look(self) -> str:
        return self.said[0].split()[4]

    @property
    def act(self) -> str:
        return self.said[1].split()[-1]

    def blocked(self) -> bool:
        return bool(self.agent.world.nodes[1].status & BLOCK)


async def serve(run: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "omtui.main", "--web", "127.0.0.1:0", *options,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OPENMOSIX_RUN": str(run), "LANG": "C.UTF-8"},
    )  # fmt: skip


async def lines(process: asyncio.subprocess.Process, count: int) -> list[str]:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return [(await process.stdout.readline()).decode().strip() for _line in range(count)]


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out + err).decode()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with SimulatedAgent(World(8, 40), tmp_path / "agent.sock", tick=None) as agent:
        process = await serve(tmp_path)
        try:
            yield Served(agent, process, await lines(process, 3))
        finally:
            assert await ended(process) == (0, "")


async def test_guests_look_and_who_has_the_secret_acts(served: Served, tmp_path: Path) -> None:
    assert served.said[2] == "Only this machine reaches it. Ctrl-C ends it."
    async with chromium(tmp_path / "browser") as browser:
        guest = await browser.open(served.look)
        await guest.shows("metrakilate")
        await guest.shows("READ-ONLY")
        assert await guest.colours() > 10
        await guest.press("b")
        await guest.shows("`mosctl block` was not done")
        assert not served.blocked()
        await guest.close()
        teacher = await browser.open(served.act)
        await teacher.shows("metrakilate")
        assert "READ-ONLY" not in teacher.text
        await teacher.press("b")
        await teacher.shows("block is on")
        assert served.blocked()
        assert {url.split("/")[2] for url in browser.requests if not url.startswith("data:")} == {served.look.split("/")[2]}


async def test_what_browsers_do_not_say(served: Served) -> None:
    async with aiohttp.ClientSession() as session:
        for address, headers, status in (
            (served.look, {}, 200),
            (served.look + "?fontsize=²", {}, 200),
            (served.act + "x", {}, 403),
            (served.look, {"Host": "evil.example"}, 403),
            (served.look + "ws", {"Origin": "http://evil.example"}, 403),
            (served.look + "ws/x", {}, 403),
            (served.look + "static/../../server.py", {}, 404),
            (served.look + "nothing", {}, 404),
        ):
            async with session.get(address, headers=headers) as response:
                assert response.status == status, (address, headers)
        async with session.ws_connect(served.look + "ws?width=1000000&height=x") as socket:
            for said in ("", "x", "[]", "[1]", '["stdin"]', '["resize", {"width": -1}]', '["resize", {}]', '["quit"]'):
                await socket.send_str(said)
            await socket.send_str('["ping", 7]')
            answer: object = None
            while answer is None:
                message = await socket.receive(60)
                assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)
                answer = message.json() if message.type == aiohttp.WSMsgType.TEXT else None
            assert answer == ["pong", 7]


async def test_a_recording_for_a_classroom(tmp_path: Path) -> None:
    process = await serve(tmp_path, "--recording", str(tmp_path / "none"))
    assert (await process.wait(), (await process.communicate())[1].count(b"\n")) == (120, 1)
    recorded(tmp_path / "r", 30)
    process = await serve(tmp_path, "--recording", str(tmp_path / "r"))
    look = (await lines(process, 3))[0].split()[4]
    seen = b""
    async with aiohttp.ClientSession() as session, session.ws_connect(look + "ws?width=100&height=30") as socket:
        async with asyncio.timeout(60):
            while b"PAST" not in seen or b"calakmul" not in seen:
                message = await socket.receive()
                seen += message.data if message.type == aiohttp.WSMsgType.BINARY else b""
    assert await ended(process) == (0, "")


async def test_a_recording_in_a_browser(tmp_path: Path) -> None:
    recorded(tmp_path / "r", 30)
    process = await serve(tmp_path, "--recording", str(tmp_path / "r"))
    try:
        said = await lines(process, 3)
        async with chromium(tmp_path / "browser") as browser:
            for address in (said[0].split()[4], said[1].split()[-1]):  # in the past the teacher does not act either
                page = await browser.open(address)
                await page.shows("calakmul")
                await page.shows("PAST")
                before = MOMENT.search(page.text)
                assert before is not None
                await page.press(",")
                await page.shows(f"{before[1]}{int(before[2]) - 1:02}")
                await page.press("2")
                await page.shows("COMMAND")
                await page.press("b")
                await page.shows("was not done")
                await page.close()
    finally:
        assert await ended(process) == (0, "")


async def test_a_taken_port_is_one_sentence(served: Served, tmp_path: Path) -> None:
    port = served.look.split(":")[-1].strip("/")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "omtui.main", "--web", port,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OPENMOSIX_RUN": str(tmp_path)},
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 125
    assert out == b""
    assert err.decode().startswith(f"main: Nothing can listen at 127.0.0.1:{port}: Address already in use. ")
    assert "Traceback" not in err.decode()


async def test_read_only_for_everybody(tmp_path: Path) -> None:
    async with SimulatedAgent(World(2, 2), tmp_path / "agent.sock", tick=None):
        process = await serve(tmp_path, "--read-only")
        said = await lines(process, 2)
        assert "token" not in " ".join(said)
        assert await ended(process) == (0, "")

"""The source of a running cluster, asked and answered over the real API."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omtools.agent import api
from omtools.errors import AgentVersion, AtHomeAlready, NoSuchProcess, OmError
from omtui import actions
from omtui.keys import own_keys
from omtui.local import ThisMachine
from omtui.simulated import SimulatedAgent, SimulatedMachine
from omtui.source import Source
from omtui.world import World


def source_of(agent: SimulatedAgent) -> Source:
    return Source(agent.socket, machine=SimulatedMachine(agent))


async def running(source: Source) -> asyncio.Task[None]:
    heard = asyncio.Event()
    source.listen(heard.set)
    task = asyncio.create_task(source.run())
    await heard.wait()
    source.forget(heard.set)
    return task


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_actions_and_what_comes_of_them(agent: SimulatedAgent) -> None:
    source = source_of(agent)
    source.want_processes, source.want_report = True, ""
    task = await running(source)
    mine = next(process for process in source.state.processes if not process.migrated)
    assert (await source.do(actions.migrate(mine.pid, "2"))).startswith(f"Process {mine.pid} moved from mCii to metrakilate")
    await source.do(actions.migrate(mine.pid, "home"))
    with pytest.raises(AtHomeAlready):
        await source.do(actions.migrate(mine.pid, "home"))
    assert "went home" in await source.do(actions.expel())
    assert "went home" in await source.do(actions.bring())
    assert await source.do(actions.signal(mine.pid, "STOP")) == f"SIGSTOP was sent to process {mine.pid}."
    with pytest.raises(NoSuchProcess):
        await source.do(actions.signal(4_000_000, "CONT"))
    assert (await source.report_of("3")).name == "ixchel"
    await stop(task)


async def test_questions_do_not_wait_for_each_other(agent: SimulatedAgent) -> None:
    source = source_of(agent)
    task = await running(source)
    reports = await asyncio.gather(*(source.report_of(str(number)) for number in range(1, 9)))
    assert [report.number for report in reports] == list(range(1, 9))
    await stop(task)


async def test_an_agent_that_goes_away_fails_what_was_asked_and_is_found_again(agent: SimulatedAgent) -> None:
    source = source_of(agent)
    task = await running(source)
    await agent.stop()
    with pytest.raises(OmError):
        await source.do(actions.set_speed(7))
    source.nudge()
    await asyncio.sleep(0)
    await source.refresh()
    assert "No omagentd answers" in source.state.trouble
    assert len(source.state.nodes) == 8
    await agent.start()
    await source.refresh()
    assert source.state.trouble == ""
    await stop(task)


async def test_more_processes_than_a_line_can_hold() -> None:
    world = World(20, 9000, most_away=9000)
    assert len(api.line_of(api.Answer(1, world.listing()))) > api.MAX_LINE
    async with SimulatedAgent(world, tick=None) as agent:
        source = source_of(agent)
        source.want_processes = True
        task = await running(source)
        assert source.state.trouble == ""
        assert len(source.state.infos) == len(world.listing().processes)
        assert len(source.state.processes) == 9000
        await stop(task)


async def test_events_of_a_moment_are_told_at_once_and_soon(agent: SimulatedAgent) -> None:
    source = Source(agent.socket, interval=600.0, machine=SimulatedMachine(agent))
    source.want_processes = True
    task = await running(source)
    told: list[int] = []
    heard = asyncio.Event()

    def hear() -> None:
        told.append(len(source.state.happened))
        heard.set()

    source.listen(hear)
    before = source.state.processes
    pids = [process.pid for process in before if not process.migrated][:5]
    for pid in pids:
        agent.tell(agent.world.migrate(pid, "3")[1])
    await asyncio.wait_for(heard.wait(), 60)
    assert told == [5]
    assert source.state.processes is not before
    assert {process.pid for process in source.state.processes if process.node == 3} >= set(pids)
    await stop(task)


@pytest.mark.parametrize("line", [b"garbage\n", b"", api.line_of(api.Hello(99)), b"x" * 100])
async def test_something_else_than_an_agent(tmp_path: Path, line: bytes) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line)
        writer.close()

    server = await asyncio.start_unix_server(talk, tmp_path / "s")
    source = Source(tmp_path / "s", machine=ThisMachine())
    await source.refresh()
    assert source.state.trouble
    if line.startswith(b"{"):
        assert source.state.trouble == str(AgentVersion(theirs=99, ours=api.VERSION))
    server.close()


def test_this_machine() -> None:
    machine = ThisMachine()
    child = subprocess.Popen([sys.executable, "-c", "input()", "a\x1b[2Jb"], stdin=subprocess.PIPE)
    try:
        first = {process.pid: process for process in machine.processes()}
        again = {process.pid: process for process in machine.processes()}
        assert first[child.pid].ppid == os.getpid()
        assert first[child.pid].command == again[child.pid].command
        assert "\x1b" not in first[child.pid].command
        machine.renice(child.pid, 5)
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == 5
        machine.signal(child.pid, "KILL")
    finally:
        child.kill()
        child.wait()
        child.stdin.close()  # type: ignore[union-attr]  # it is a pipe
    with pytest.raises(NoSuchProcess):
        machine.renice(child.pid, 5)
    with pytest.raises(NoSuchProcess):
        machine.signal(child.pid, "STOP")


def test_own_keys(tmp_path: Path) -> None:
    path = tmp_path / "omtui-keys.toml"
    assert own_keys(path) == {}
    path.write_text('"processes.migrate" = "f6"\n')
    assert own_keys(path) == {"processes.migrate": "f6"}
    for text in ('"a" = 1\n', '"a" = ""\n', "a b c\n", '"a" = "\udcff"'):
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(OmError, match="omtui-keys"):
            own_keys(path)

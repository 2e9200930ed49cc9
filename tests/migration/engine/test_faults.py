"""Links that are cut and processes that are killed at every step: never two copies, never none without a word."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from omtools.linux import proc
from omtools.migration.orders import Bring

from . import counting
from .journey import LIMIT, build, line, running, tell, until
from .nest import FINAL, Keeper, Nest
from .wire import DIRECTIONS, Direction, Fault

Process = asyncio.subprocess.Process


class Stage:
    """A counting process, and what is known of it before anything happens to it."""

    def __init__(self, nest: Nest, process: Process) -> None:
        self.nest = nest
        self.process = process
        self.said = ""
        self.descriptors = _descriptors(process.pid)
        self.maps = _maps(process.pid)
        self.remotes: set[int] = set()

    async def hear(self, lines: int = 1) -> None:
        for _line in range(lines):
            self.said += await line(self.process) + "\n"

    def know(self, guest: Keeper) -> None:
        """Remember what the guest's keeper says of its remote."""
        self.remotes |= {state.local_pid for state in guest.seen if state.local_pid}

    async def judge(self) -> str:
        """Wait for its end: "right" if it ran on as if nothing had been, "killed" if its parent sees that."""
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            tell(self.process)
        async with asyncio.timeout(LIMIT):
            self.said += (await self.process.stdout.read()).decode()
            status = await self.process.wait()
        for remote in self.remotes:
            await until(lambda pid=remote: _gone(pid), f"remote {remote} gone")  # type: ignore[misc]
        lines = self.said.count("\n")
        if status == 7:
            assert self.said == counting.steady(lines - 1)
            return "right"
        assert status == -signal.SIGKILL
        assert counting.steady(lines + 1).startswith(self.said)
        return "killed"

    def unharmed(self) -> None:
        """It is at home and nothing of us is left in it."""
        pid = self.process.pid
        assert _descriptors(pid) == self.descriptors
        assert "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text()
        now = _maps(pid)
        assert [region for region in now if region not in self.maps] == []


def _descriptors(pid: int) -> list[tuple[str, str]]:
    folder = f"/proc/{pid}/fd"
    return sorted((name, os.readlink(f"{folder}/{name}")) for name in os.listdir(folder))


def _maps(pid: int) -> list[str]:
    """Where its memory is, but for its stack, which may have grown."""
    mappings = proc.mappings(pid)
    stack = next(mapping for mapping in mappings if mapping.name == "[stack]")
    return [
        f"{mapping.start:x}-{mapping.end:x} {mapping.protection} {mapping.name}"
        for mapping in mappings
        if stack.start not in (mapping.start, mapping.end) and stack.end != mapping.start
    ]


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@contextlib.asynccontextmanager
async def staged(nest: Nest, workshop: Path):  # type: ignore[no-untyped-def]  # noqa: ANN201
    program = build("steady", workshop)
    async with running(program) as process:
        first = await line(process)
        stage = Stage(nest, process)
        stage.said = first + "\n"
        nest.wired = True
        yield stage


async def _final(keeper: Keeper) -> str:
    """The phase in which it ends; "lost" if it is killed before."""
    try:
        return (await keeper.until(*FINAL)).phase
    except EOFError:
        return "lost"


async def _lengths(stage: Stage) -> dict[str, dict[Direction, int]]:
    """Bytes that the way there, and the way back, take in an undisturbed move; the process is home again."""
    moved = await stage.nest.away(stage.process.pid)
    wire = stage.nest.wires[-1]
    there = dict(wire.passed)
    assert (await moved.home()).phase == "home"
    await moved.guest.end()
    return {"going": there, "coming": {way: wire.passed[way] - there[way] for way in DIRECTIONS}}


def _places(total: int) -> list[int]:
    """Byte counts at which to try: the first few thousand closely, the bulk here and there, the end closely."""
    return sorted({
        *range(1, min(total, 2400), 240), *(total * part // 8 for part in range(1, 8)),
        *(max(1, total - back) for back in (1, 30, 60, 90, 120)),
    })  # fmt: skip


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("fault", ["cut", "spoil"])
@pytest.mark.parametrize("way", DIRECTIONS)
async def test_link_lost_while_going(
    nest: Nest, workshop: Path, way: Direction, fault: Fault, part: int
) -> None:
    async with staged(nest, workshop) as stage:
        lengths = await _lengths(stage)
        guests = []
        for place in _places(lengths["going"][way])[part::3]:
            deputy, guest = await _send(stage, (way, place, fault))
            guests.append(guest)
            try:
                phase = await asyncio.wait_for(deputy.until("away", *FINAL), 1.5)
            except TimeoutError:  # a length was spoiled: one side waits for what never comes
                nest.wires[-1].cut()
                phase = await deputy.until("away", *FINAL)
            if phase.phase == "away":  # it was too late to be noticed before the commit
                stage.know(guest)
                break
            assert phase.phase == "failed", place
            assert phase.error is not None
            stage.unharmed()
            await stage.hear()
        # One whose caller could not show who it is waits for another until its patience ends: they do so together.
        for guest in guests if phase.phase == "failed" else guests[:-1]:
            await guest.end()
            stage.know(guest)
        outcome = await stage.judge()
        assert outcome == ("right" if phase.phase == "failed" else "killed")


@pytest.mark.parametrize("place", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("fault", ["cut", "spoil"])
@pytest.mark.parametrize("way", DIRECTIONS)
async def test_link_lost_while_coming(
    nest: Nest, workshop: Path, way: Direction, fault: Fault, place: float
) -> None:
    async with staged(nest, workshop) as stage:
        lengths = await _lengths(stage)
        moved = await nest.away(stage.process.pid)
        stage.know(moved.guest)
        await stage.hear()
        wire = nest.wires[-1]
        wire.at = (way, wire.passed[way] + 1 + int(lengths["coming"][way] * place), fault)
        moved.deputy.tell(Bring())
        phase = await _final(moved.deputy)
        assert await stage.judge() == ("right" if phase == "home" else "killed")


async def _send(stage: Stage, at: tuple[Direction, int, Fault]) -> tuple[Keeper, Keeper]:
    """Order the move by way of a wire with something in store."""
    nest = stage.nest
    before = len(nest.wires)

    async def arm() -> None:
        while len(nest.wires) == before:
            await asyncio.sleep(0)
        nest.wires[-1].at = at

    task = asyncio.create_task(arm())
    try:
        return await nest.send(stage.process.pid)
    finally:
        await task


VICTIMS = ["deputy keeper", "guest keeper", "process", "remote"]


def _victim(name: str, stage: Stage, deputy: Keeper, guest: Keeper) -> int:
    stage.know(guest)
    if name == "process":
        return stage.process.pid
    if name == "remote":
        stage.remotes |= _traced_by(guest.pid)
        return max(stage.remotes)
    keeper = deputy if name == "deputy keeper" else guest
    return keeper.pid


def _traced_by(tracer: int) -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and f"TracerPid:\t{tracer}\n" in _status(int(name)):
                found.add(int(name))
    return found


@pytest.mark.parametrize("place", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("victim", VICTIMS)
async def test_killed_while_going(nest: Nest, workshop: Path, victim: str, place: float) -> None:
    async with staged(nest, workshop) as stage:
        lengths = await _lengths(stage)
        deputy, guest = await _send(stage, ("there", int(lengths["going"]["there"] * place), "hold"))
        async with asyncio.timeout(LIMIT):
            await nest.wires[-1].happened.wait()
        os.kill(_victim(victim, stage, deputy, guest), signal.SIGKILL)
        nest.wires[-1].cut()  # as the kernel does for a keeper that is killed
        phase = await _final(deputy)
        assert phase in (("lost",) if victim == "deputy keeper" else ("failed", "ended"))
        await _final(guest)
        if victim == "process":
            assert await stage.judge() == "killed"
            return
        await until(lambda: "TracerPid:\t0" in _status(stage.process.pid), "let go")
        await stage.hear()
        if victim != "deputy keeper":  # who dies in the midst of it leaves its scratch area
            stage.unharmed()
        assert await stage.judge() == "right"


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("victim", VICTIMS)
async def test_killed_while_away(nest: Nest, workshop: Path, victim: str) -> None:
    async with staged(nest, workshop) as stage:
        moved = await nest.away(stage.process.pid)
        await stage.hear()
        os.kill(_victim(victim, stage, moved.deputy, moved.guest), signal.SIGKILL)
        assert await stage.judge() == "killed"
        await _final(moved.deputy)
        await _final(moved.guest)


@pytest.mark.parametrize("place", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("victim", VICTIMS)
async def test_killed_while_coming(nest: Nest, workshop: Path, victim: str, place: float) -> None:
    async with staged(nest, workshop) as stage:
        lengths = await _lengths(stage)
        moved = await nest.away(stage.process.pid)
        await stage.hear()
        wire = nest.wires[-1]
        wire.at = ("back", wire.passed["back"] + 1 + int(lengths["coming"]["back"] * place), "hold")
        moved.deputy.tell(Bring())
        async with asyncio.timeout(LIMIT):
            await wire.happened.wait()
        os.kill(_victim(victim, stage, moved.deputy, moved.guest), signal.SIGKILL)
        wire.cut()
        assert await stage.judge() == "killed"
        await _final(moved.deputy)
        await _final(moved.guest)

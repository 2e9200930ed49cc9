"""omtui on a node of a real lab: every action on real processes. Run by test_in_a_lab.py on mCii."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from pilots import piloted, screen_text, until  # noqa: E402
from textual.pilot import Pilot  # noqa: E402

from omtools.cluster.load import BLOCK  # noqa: E402
from omtui.app import Omtui  # noqa: E402
from omtui.model import Process  # noqa: E402
from omtui.processes.page import ProcessesPage  # noqa: E402
from omtui.source import Source  # noqa: E402

_WORK = "import os\nwhile True: os.getppid(); sum(range(1000)); os.stat('/')"


def found(app: Omtui, pid: int) -> Process | None:
    return next((process for process in app.feed.state.processes if process.pid == pid), None)


async def at(pilot: Pilot[int], app: Omtui, pid: int, node: int) -> None:
    def there() -> bool:
        process = found(app, pid)
        return process is not None and process.node == node and process.phase in ("", "home", "away")

    await until(pilot, there)


async def processes(pilot: Pilot[int], app: Omtui, pid: int) -> None:
    await pilot.press("2")
    assert isinstance(app.page, ProcessesPage)
    sheet = app.page.sheet
    await until(pilot, lambda: sheet.go_to(pid))
    await until(pilot, lambda: "it can migrate" in screen_text(app))
    await until(pilot, lambda: sum(node.up for node in app.feed.state.nodes.values()) == 2)  # the menu has both
    await pilot.press("m", "down", "enter")
    await at(pilot, app, pid, 2)
    await until(pilot, lambda: "moved from mCii to metrakilate" in app.said.sentence)
    assert app.said.command == f"migrate {pid} 2"
    await pilot.press("4")
    await until(pilot, lambda: f"Process {pid} runs on metrakilate" in screen_text(app))
    await until(pilot, lambda: f"process {pid}: " in screen_text(app))
    assert "newfstatat" in screen_text(app)
    await pilot.press("2", "h")
    await at(pilot, app, pid, 0)
    await pilot.press("L")
    await until(pilot, lambda: "leaves process" in app.said.sentence)
    await pilot.press("s", "y")
    await until(pilot, lambda: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
    await pilot.press("c", "n", "7", "enter")
    await until(pilot, lambda: os.getpriority(os.PRIO_PROCESS, pid) == 7)


async def migmon(pilot: Pilot[int], app: Omtui, pid: int) -> None:
    await pilot.press("3")
    assert app.page is not None
    app.page.filter_by(str(pid))
    await until(pilot, lambda: "1 mCii" in screen_text(app))
    await pilot.press("right", "down", "down", "enter")
    await at(pilot, app, pid, 2)
    await until(pilot, lambda: "·" in screen_text(app))


async def cluster(pilot: Pilot[int], app: Omtui, pid: int) -> None:
    await pilot.press("1", "B", "y")
    await until(pilot, lambda: "1 processes went home" in app.said.sentence)
    assert app.said.command == "mosctl bring"
    await pilot.press("l", "b")
    await until(pilot, lambda: bool(app.feed.state.nodes[1].view.status & BLOCK))
    await pilot.press("b")
    await until(pilot, lambda: not app.feed.state.nodes[1].view.status & BLOCK)
    await pilot.press("colon", *"mosctl setspeed 4321", "enter")
    await until(pilot, lambda: app.feed.state.nodes[1].view.speed == 4321)
    await pilot.press("down", "b")
    await until(pilot, lambda: bool(app.feed.state.nodes[2].view.status & BLOCK))
    assert app.said.command == "mosctl block --on 2"
    await pilot.press("E", "y")
    await until(pilot, lambda: "0 processes went home" in app.said.sentence)
    await pilot.press("2")
    await at(pilot, app, pid, 0)
    await pilot.press("X", "y")


async def main() -> None:
    worker = subprocess.Popen([sys.executable, "-c", _WORK])
    try:
        app = Omtui(Source())
        async with piloted(app, (120, 40)) as pilot:
            await processes(pilot, app, worker.pid)
            await migmon(pilot, app, worker.pid)
            await cluster(pilot, app, worker.pid)
            assert await asyncio.to_thread(worker.wait, 60) == -15
    finally:
        worker.kill()
        worker.wait()
    print("all done")


if __name__ == "__main__":
    asyncio.run(main())

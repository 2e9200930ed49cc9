"""A real lab is recorded, and looked at afterwards, when the lab is no more."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.labs import labs_of
from pilots import screen_text

from omtui.app import Omtui
from omtui.history import History

pytestmark = pytest.mark.alone  # what is recorded each second needs agents that answer each second

PROGRAM = Path(__file__).with_name("recorded_in_a_lab.py")


@pytest.fixture
def recorded_lab(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    for lab in labs_of("root" if os.geteuid() == 0 else "self"):
        del lab.environment["OMLAB_AGENT"]
        lab.ok("up")
        *_said, pid, copy = lab.ok("exec", "mCii", "--", sys.executable, str(PROGRAM)).split()
        lab.ok("down")
        (tmp_path / "copy").write_bytes(base64.b64decode(copy))
        yield tmp_path / "copy", int(pid)


async def test_a_lab_that_is_gone_is_seen_in_every_screen(recorded_lab: tuple[Path, int]) -> None:
    path, pid = recorded_lab
    history = History(None, path)
    history.open()
    app = Omtui(history, page="processes")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("left_curly_bracket")
        then = {one.pid: one for one in history.state.processes}
        assert (then[pid].node, then[pid].phase) == (2, "away")
        assert "python" in then[pid].command
        await pilot.press("v")
        assert str(pid) in screen_text(app)
        await pilot.press("1")
        assert "2 of 2 nodes up" in screen_text(app)
        await pilot.press("3")
        assert "2 metrakilate" in screen_text(app)
        await pilot.press("4")
        assert f"Process {pid} runs on metrakilate" in screen_text(app)
        await pilot.press("5")
        assert "2 metrakilate: load" in screen_text(app)
        await pilot.press("0", "4")
        assert f"Process {pid} runs at home again" in screen_text(app)
    there = History(None, path, node=2)
    there.open()
    there.skip_to_mark(-1)
    guests = [one for one in there.state.processes if one.guest]
    assert [(one.home, one.known) for one in guests] == [(1, True)]
    there.close()

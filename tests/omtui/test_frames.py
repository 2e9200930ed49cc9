"""How often screens are drawn: in a program of its own, for Textual reads it as it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import sys
import omtui.main, omtui.mosmon.main
from omtui.frames import draw_in_time
assert "textual.constants" not in sys.modules
draw_in_time()
from textual.screen import UPDATE_PERIOD
print(round(1 / UPDATE_PERIOD))
"""


def frames(**more: str) -> int:
    known = {name: value for name, value in os.environ.items() if name != "TEXTUAL_FPS"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**known, **more}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_not_more_often_than_the_eye_asks_for() -> None:
    assert frames() == 30
    assert frames(TEXTUAL_FPS="7") == 7

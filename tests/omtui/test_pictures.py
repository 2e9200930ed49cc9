"""The screens look as they did. `python -m omtui.screenshots --text tests/omtui/pictures` makes them anew."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from omtui.commandline import PAGES
from omtui.screenshots import VARIANTS, Variant, shots

TIMES = ("", "past-")  # of a screen: now, and in a recording
PICTURES = Path(__file__).with_name("pictures")


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: str(variant.name))
async def test_screens_look_as_they_did(variant: Variant) -> None:
    seen = []
    async for shot in shots(variant):
        seen.append(shot.name)
        assert shot.text == (PICTURES / f"{shot.name}.txt").read_text(encoding="utf-8"), shot.name
        assert ElementTree.fromstring(shot.svg).tag.endswith("svg")
        assert ("#121212" in shot.svg) == (variant.theme == "textual-dark")  # that theme's background
    assert seen == [f"{when}{page}-{variant.name}" for when in TIMES for page in PAGES]


def test_no_picture_is_left_over() -> None:
    wanted = {f"{when}{page}-{variant.name}.txt" for when in TIMES for page in PAGES for variant in VARIANTS}
    assert {path.name for path in PICTURES.iterdir()} == wanted

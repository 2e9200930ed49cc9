"""The screens look as they did. `python -m omtui.screenshots --text tests/omtui/pictures` makes them anew."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from omtui.commandline import PAGES
from omtui.screenshots import README, README_SCREENS, VARIANTS, Variant, shots

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


def test_the_pictures_of_the_readme_are_there() -> None:
    """`make pictures` makes them."""
    root = Path(__file__).parents[2]
    shown = set(re.findall(r"\]\((docs/pictures/[^)]+)\)", (root / "README.md").read_text(encoding="utf-8")))
    assert shown == {f"docs/pictures/{path.name}" for path in (root / "docs/pictures").iterdir()}
    assert {f"{screen}-{README.name}" for screen in README_SCREENS} == {Path(path).stem for path in shown}
    for path in shown:
        assert ElementTree.parse(root / path).getroot().tag.endswith("svg")
        assert (root / path).stat().st_size < 100_000

"""Pictures of all screens with a made-up cluster: ``python -m omtui.screenshots DIRECTORY``.

SVG (``make pictures`` renews those of the README), with ``--text`` as plain text: what tests compare with,
and what shows in a review what a change does to the screens.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import NamedTuple

from textual.pilot import Pilot

from omtools import i18n
from omtools.i18n import _
from omtui.app import Omtui
from omtui.commandline import PAGES
from omtui.history import History
from omtui.model import State
from omtui.recording.invented import invent
from omtui.recording.recorder import Recorder
from omtui.simulated import SimulatedAgent, SimulatedMachine
from omtui.source import Source
from omtui.world import World

_BEGUN = 1_763_880_000_000  # milliseconds since the epoch: when the recorded past begins
_ROUNDS = 5  # looks that must be alike
_STEP = 0.02  # seconds between two looks whether all is there


class Variant(NamedTuple):
    """How a screen is shown.

    Attributes:
        name: part of the file's.
        size: columns and lines.
        theme: Textual's name of it.
        language: of all texts.
    """

    name: str
    size: tuple[int, int]
    theme: str = "textual-dark"
    language: str = "en"


VARIANTS = (
    Variant("80x24", (80, 24)),
    Variant("120x40", (120, 40)),
    Variant("light", (80, 24), theme="textual-light"),
    Variant("es", (80, 24), language="es"),
)


README = Variant("readme", (96, 24))
README_SCREENS = ("cluster", "processes", "migmon", "live", "past-analyzer")


class Shot(NamedTuple):
    """A picture of a screen.

    Attributes:
        name: of the screen and the variant.
        svg: with colours.
        text: without.
    """

    name: str
    svg: str
    text: str


async def shots(variant: Variant) -> AsyncIterator[Shot]:
    """All screens in one variant; the same ones each time."""
    before, zone = i18n.languages(), os.environ.get("TZ")
    i18n.speak([variant.language])
    _tell_time_of("UTC")
    try:
        async with SimulatedAgent(World(8, 60), tick=None) as agent:
            source = Source(agent.socket, interval=60.0, machine=SimulatedMachine(agent))
            app = Omtui(History(source, _past(agent)), theme=variant.theme)
            async with app.run_test(size=variant.size) as pilot:
                for page in PAGES:
                    await _settled(pilot, app, page)
                    yield Shot(f"{page}-{variant.name}", app.export_screenshot(title="omtui"), _text(app))
                app.feed.skip_to_mark(-1)
                for page in PAGES:
                    app.action_go(page)
                    await _still(pilot, app)
                    yield Shot(
                        f"past-{page}-{variant.name}", app.export_screenshot(title="omtui"), _text(app)
                    )
    finally:
        _tell_time_of(zone)
        i18n.speak(before)


def _tell_time_of(zone: str | None) -> None:
    """As of that zone, None: of this machine's."""
    if zone is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = zone
    time.tzset()


def _past(agent: SimulatedAgent) -> Path:
    """A recording of another such cluster, always the same."""
    path = agent.socket.with_name("recording.sqlite")
    recorder = Recorder(path)
    try:
        invent(recorder, World(8, 60), _BEGUN, 3600, 10)
        recorder.checkpoint(_BEGUN + 1_500_000, "kernel 6.18")
    finally:
        recorder.close()
    return path


async def _settled(pilot: Pilot[int], app: Omtui, page: str) -> None:
    """Show a screen and wait until nothing on it changes any more."""
    state = app.feed.state
    app.action_go(page)
    if page == "cluster":
        await _heard(pilot, state, 1)
        app.feed.nudge()  # the report of the node under the cursor comes with the next picture
    await _heard(pilot, state, 2 if page == "cluster" else 3)
    if page == "processes":
        while _("it can migrate") not in _text(app):
            if not await _to_one_at_home(pilot, app):
                break
    await _still(pilot, app)


async def _still(pilot: Pilot[int], app: Omtui) -> None:
    """Wait until everything has got its size and is drawn in it."""
    seen: list[str] = []
    while len(seen) < _ROUNDS or len(set(seen[-_ROUNDS:])) > 1:
        await pilot.pause(_STEP)
        seen.append(_text(app))


async def _heard(pilot: Pilot[int], state: State, count: int) -> None:
    """Wait for so many pictures; more do not come by themselves."""
    while state.heard < count:
        await pilot.pause(_STEP)


async def _to_one_at_home(pilot: Pilot[int], app: Omtui) -> bool:
    """The cursor to a process of which the agent can say that it may go."""
    assert app.page is not None
    sheet = app.page.first_focus()
    chosen = app.page.chosen
    if sheet is None:
        return False
    if not chosen or chosen[0].migrated or chosen[0].pid % 7 == 0:
        await pilot.press("down")
    await pilot.pause(_STEP)
    return True


def _text(app: Omtui) -> str:
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips) + "\n"


async def _all(variants: Iterable[Variant]) -> list[Shot]:
    return [shot for variant in variants async for shot in shots(variant)]


def main() -> int:
    """Write them all."""
    options = argparse.ArgumentParser(prog="python -m omtui.screenshots", allow_abbrev=False)
    options.add_argument("directory", type=Path)
    options.add_argument("--text", action="store_true", help="as plain text")
    options.add_argument("--readme", action="store_true", help="only those that README.md shows")
    given = options.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    wanted = {f"{screen}-{README.name}" for screen in README_SCREENS}
    for shot in asyncio.run(_all([README] if given.readme else VARIANTS)):
        if given.readme and shot.name not in wanted:
            continue
        path = given.directory / f"{shot.name}.{'txt' if given.text else 'svg'}"
        path.write_text(shot.text if given.text else shot.svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

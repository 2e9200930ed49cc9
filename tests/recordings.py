"""Recordings of a made-up cluster, made as fast as they can be written."""

from __future__ import annotations

from pathlib import Path

from omtui.recording.picture import Picture, by_key
from omtui.recording.recorder import Recorder
from omtui.world import World

BEGUN = 1_700_000_000_000 // 600_000 * 600_000  # milliseconds since the epoch


def picture_of(world: World) -> Picture:
    views, listing = world.views(), world.listing()
    local = {process.pid: process for process in world.local()}
    return Picture(views.own, {v.number: v for v in views.nodes}, {1: by_key(listing.processes)}, local)


def record(recorder: Recorder, world: World, seconds: int, begun: int = BEGUN) -> list[Picture]:
    """So many seconds of the world, one picture each; returns them."""
    pictures = []
    for second in range(seconds):
        at = begun + 1000 * second
        events = [(at, 1, event) for event in world.step()]
        pictures.append(picture_of(world))
        recorder.write(at, pictures[-1], [1], events)
    return pictures


def recorded(path: Path, seconds: int = 300, nodes: int = 8, processes: int = 40) -> Path:
    """A recording of so many seconds, with a checkpoint in its middle."""
    recorder = Recorder(path)
    try:
        record(recorder, World(nodes, processes), seconds)
        recorder.checkpoint(BEGUN + 500 * seconds, "the middle")
    finally:
        recorder.close()
    return path

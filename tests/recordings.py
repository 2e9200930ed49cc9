"""Recordings of a made-up cluster."""

from __future__ import annotations

from pathlib import Path

from omtui.recording.invented import invent
from omtui.recording.picture import Picture
from omtui.recording.recorder import Recorder
from omtui.world import World

BEGUN = 1_700_000_000_000 // 600_000 * 600_000  # milliseconds since the epoch


def record(recorder: Recorder, world: World, seconds: int, begun: int = BEGUN) -> list[Picture]:
    """So many seconds of the world, one picture each; returns them."""
    return invent(recorder, world, begun, seconds)


def recorded(path: Path, seconds: int = 300, nodes: int = 8, processes: int = 40) -> Path:
    """A recording of so many seconds, with a checkpoint in its middle."""
    recorder = Recorder(path)
    try:
        record(recorder, World(nodes, processes), seconds)
        recorder.checkpoint(BEGUN + 500 * seconds, "the middle")
    finally:
        recorder.close()
    return path

"""A recording of a made-up cluster, as fast as it can be written: for demonstrations, pictures and tests."""

from __future__ import annotations

from omtui.recording.picture import Picture, by_key
from omtui.recording.recorder import Recorder
from omtui.world import OWN, World


def picture_of(world: World) -> Picture:
    """The world at this moment, as it is seen from its node 1."""
    views, listing = world.views(), world.listing()
    local = {process.pid: process for process in world.local()}
    return Picture(
        views.own, {view.number: view for view in views.nodes}, {OWN: by_key(listing.processes)}, local
    )


def invent(recorder: Recorder, world: World, begun: int, seconds: int, step: int = 1) -> list[Picture]:
    """Let a world live and record it.

    Args:
        recorder: writes it.
        world: goes on from where it is.
        begun: milliseconds since the epoch of the first picture.
        seconds: that pass in the world.
        step: seconds from one picture to the next.

    Returns:
        The pictures.
    """
    pictures = []
    for second in range(0, seconds, step):
        events = [
            (begun + 1000 * (second + index), OWN, event) for index in range(step) for event in world.step()
        ]
        pictures.append(picture_of(world))
        recorder.write(begun + 1000 * (second + step - 1), pictures[-1], [OWN], events)
    return pictures

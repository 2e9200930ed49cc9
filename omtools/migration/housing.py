"""Which cage a guest gets: one with this node's files in it, if it comes to work on them."""

from __future__ import annotations

from omtools.errors import OmError
from omtools.image import cage
from omtools.image.cage_files import usable
from omtools.migration import own_tree
from omtools.migration.log import Log
from omtools.migration.orders import GuestOrder


def house(order: GuestOrder, ahead: cage.Clocks, places: list[str], log: Log) -> cage.Cage:
    """Build it; `places` are where the process is at work. Raises OmError, OSError."""
    tree = own_tree.choose(places, order.reach, order.home, order.node) if places and usable() else None
    try:
        return cage.build(order.pid, order.hostname, ahead, tree)
    except (OmError, OSError) as error:
        if tree is None:
            raise
        log.warning(f"no files of its own: {error}")
    return cage.build(order.pid, order.hostname, ahead)

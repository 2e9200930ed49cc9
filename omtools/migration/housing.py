"""Which cage a guest gets: one with this node's files in it, if it comes to work on them."""

from __future__ import annotations

from collections.abc import Collection

from omtools.errors import OmError
from omtools.image import cage
from omtools.image.cage_files import usable
from omtools.image.twins import opened
from omtools.migration import own_tree
from omtools.migration.log import Log
from omtools.migration.orders import GuestOrder
from omtools.migration.remote import Remote


def house(order: GuestOrder, ahead: cage.Clocks, places: list[str], log: Log) -> Remote:
    """The stub in its cage; `places` are where the process is at work. Raises OmError, OSError."""
    with opened(order.twins) as files:
        return Remote(_cage(order, ahead, places, files.values(), log), files)


def _cage(
    order: GuestOrder, ahead: cage.Clocks, places: list[str], files: Collection[int], log: Log
) -> cage.Cage:
    reach = order.reach.within(order.access)
    tree = own_tree.choose(places, reach, order.home, order.node) if places and usable() else None
    try:
        return cage.build(order.pid, order.hostname, ahead, tree, files)
    except (OmError, OSError) as error:
        if tree is None:
            raise
        log.warning(f"no files of its own: {error}")
    return cage.build(order.pid, order.hostname, ahead, None, files)

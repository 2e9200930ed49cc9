"""The cluster as this node knows it: from its agent, or without one from the map file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.agent import api
from omtools.agent.client import talk
from omtools.agent.paths import SYSTEM_CONFIG, config_dir, run_dir
from omtools.errors import BadConfiguration, NoAgent, UnknownNode
from omtools.i18n import _

if TYPE_CHECKING:
    from omtools.cluster.map import Map

NOBODY = 0  # what openMosix took for the number of a node that is not configured


def known_cluster(name: str) -> api.NodeList:
    """The whole map and this node's number (0: it is none of them).

    Args:
        name: of the command that asks.

    Raises:
        BadConfiguration: no agent answers, and there is no map.
        BadMap: no agent answers, and the map has an error.
    """
    try:
        return talk(name, lambda cluster: cluster.map())
    except NoAgent:
        return _from_file()


def _from_file() -> api.NodeList:
    # Seldom without an agent.
    from omtools.agent.config import (  # noqa: PLC0415
        configured_number,
        discovered,
        has_map,
        read_map,
        read_settings,
    )

    directory = _directory()
    settings = read_settings(directory / "openmosix.config")
    if settings.discover or not has_map(directory):
        found, node = discovered(directory, run_dir(), settings)
        return node_list(found, node.number)
    found = read_map(directory)
    return node_list(found, own_number(found, configured_number(directory, settings), directory))


def _directory() -> Path:
    """The configuration of this user, else the system's: whichever has a map, or belongs to a cluster."""
    own = config_dir()
    if _tells(own) or "OPENMOSIX_CONFIG" in os.environ:
        return own
    return SYSTEM_CONFIG if _tells(SYSTEM_CONFIG) else own


def _tells(directory: Path) -> bool:
    """Whether a map or a cluster's key is there."""
    from omtools.agent.config import map_places  # noqa: PLC0415

    return (directory / "cluster.json").exists() or any(place.exists() for place in map_places(directory))


def own_number(found: Map, configured: int, directory: Path) -> int:
    """This node's number in the map, 0 if it is none or several of them.

    Args:
        found: the map.
        configured: the number that it was given, 0 if none.
        directory: where the map is from.
    """
    from omtools.agent.config import find_own  # noqa: PLC0415

    try:
        return found.number(configured).number if configured else find_own(found, directory).number
    except (BadConfiguration, UnknownNode):
        return NOBODY


def node_list(found: Map, own: int) -> api.NodeList:
    """A map as an agent would tell it."""
    return api.NodeList(
        own,
        [api.MapRange(entry.first, entry.host, entry.count) for entry in found.ranges],
        [
            api.NodeName(node.number, node.name, node.address, list(node.aliases))
            for node in found.nodes.values()
        ],
    )


def report(nodes: api.NodeList) -> list[str]:
    """What openMosix's init script printed: this node's number, the ranges, how many there are."""
    family = "10 (AF_INET6)" if any(":" in entry.host for entry in nodes.ranges) else "2 (AF_INET)"
    lines = [
        _("This is openMosix node #{number}").format(number=nodes.own),
        _("Network protocol: {family}").format(family=family),
    ]
    for entry in nodes.ranges:
        numbers = f"{entry.first}-{entry.first + entry.count - 1}"
        begins = _("openMosix range     {numbers:<7} begins at {host}")
        lines.append(begins.format(numbers=numbers, host=entry.host))
    return [*lines, _("Total configured: {n}").format(n=len(nodes.nodes))]

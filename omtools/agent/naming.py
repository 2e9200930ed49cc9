"""The nodes of the map, as the API names them."""

from __future__ import annotations

from omtools.agent import api
from omtools.agent.config import Configuration
from omtools.cluster.map import Node


def named(node: Node) -> api.NodeName:
    """Number, name and addresses of a node."""
    return api.NodeName(node.number, node.name, node.address, list(node.aliases))


def node_list(configuration: Configuration) -> api.NodeList:
    """The whole map."""
    found = configuration.map
    return api.NodeList(
        configuration.node.number,
        [api.MapRange(r.first, r.host, r.count) for r in found.ranges],
        [named(node) for node in found.nodes.values()],
    )

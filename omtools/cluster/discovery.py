"""Discovery, the deciding part: what announcements say, and whom to believe; pure.

An announcement on the wire proves nothing: anybody can send one. It only says where to *look*. A node gets
into the map when it has shown, at that address, a host certificate of this cluster for its number (`prove`
in the events below is the caller's to do). So a liar can cost a connection, never a place in the map; and an
announcement that contradicts the map moves nothing until the new place has been proven.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import NamedTuple

import msgspec

from omtools.cluster.map import MAX_NUMBER, Node

VERSION = "1"
SERVICE = "_openmosix._tcp.local."
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_CLUSTER = re.compile(r"[A-Za-z0-9+/]{43}")  # a SHA-256 fingerprint as SSH prints it
_MOST = 4096  # announcements remembered; more are somebody's flood
_AGAIN_S = 10.0  # before a place that could not be proven is tried again, doubled each time
_LONGEST_S = 600.0


class Announcement(NamedTuple):
    """What a node says of itself on the wire.

    Attributes:
        cluster: fingerprint of its cluster's key, without "SHA256:".
        called: what people call that cluster.
        number: of the node.
        name: of the node.
        port: of its agent.
        join: port where newcomers may ask to join, 0: it has not the cluster's key.
        addresses: the first is where its agent answers, the others are its aliases.
    """

    cluster: str
    called: str
    number: int
    name: str
    port: int
    join: int
    addresses: tuple[str, ...]


def text_of(one: Announcement) -> dict[str, str]:
    """The TXT record of an announcement (RFC 6763, section 6)."""
    return {
        "v": VERSION, "cluster": one.cluster, "called": one.called, "id": str(one.number),
        "name": one.name, "join": str(one.join),
        "at": ",".join(address.partition("%")[0] for address in one.addresses),
    }  # fmt: skip


def announcement_of(text: Mapping[str, str], port: int) -> Announcement | None:
    """What a TXT record says, None if it makes no sense to this version."""
    name, cluster, called = text.get("name", ""), text.get("cluster", ""), text.get("called", "")
    number, join = _number(text.get("id", ""), MAX_NUMBER), _number(text.get("join", "0"), 65535)
    addresses = tuple(word for word in text.get("at", "").split(",") if _is_address(word))[:6]
    sound = _NAME.fullmatch(name) and _CLUSTER.fullmatch(cluster) and (_NAME.fullmatch(called) or not called)
    if text.get("v") != VERSION or not sound or number is None or number < 1 or join is None:
        return None
    if not addresses or not 1 <= port <= 65535:
        return None
    return Announcement(cluster, called, number, name, port, join, addresses)


def _number(word: str, most: int) -> int | None:
    return int(word) if re.fullmatch(r"[0-9]{1,5}", word) and int(word) <= most else None


def _is_address(word: str) -> bool:
    if ":" in word:
        try:
            found = IPv6Address(word)
        except ValueError:
            return False
        # Zones are the hearer's own business (`with_zone`).
        nobodys = found.is_loopback or found.is_multicast or found.is_unspecified
        return found.scope_id is None and not nobodys
    parts = word.split(".")
    return len(parts) == 4 and all(re.fullmatch(r"[0-9]{1,3}", part) and int(part) <= 255 for part in parts)


def with_zone(one: Announcement, interface: str) -> Announcement:
    """The same with link-local addresses as they are meant here, where it was heard on that interface."""
    return one._replace(addresses=tuple(_with_zone(word, interface) for word in one.addresses))


def _with_zone(address: str, interface: str) -> str:
    link_local = ":" in address and interface and IPv6Address(address).is_link_local
    return f"{address}%{interface}" if link_local else address


class Place(NamedTuple):
    """Where a node may be, to be proven."""

    number: int
    name: str
    address: str
    port: int
    aliases: tuple[str, ...]


class Known(msgspec.Struct, frozen=True):
    """A node that was proven to be there."""

    number: int
    name: str
    address: str
    aliases: tuple[str, ...] = ()


class Roll:
    """Which nodes there are, on one node.

    Attributes:
        cluster: fingerprint of the own cluster.
        own: number of this node.
        nodes: those that were proven, by number; this one is not among them.
    """

    def __init__(self, cluster: str, own: int, known: list[Known] | None = None) -> None:
        self.cluster = cluster
        self.own = own
        self.nodes: dict[int, Known] = {one.number: one for one in known or [] if one.number != own}
        self._heard: dict[str, Announcement] = {}  # by service name
        self._patience: dict[tuple[int, str], tuple[float, float]] = {}  # place -> not before, next pause

    def heard(self, service: str, one: Announcement) -> bool:
        """An announcement arrived; returns whether it is of this cluster."""
        if one.cluster != self.cluster or one.number == self.own:
            self._heard.pop(service, None)
            return False
        if service not in self._heard and len(self._heard) >= _MOST:
            return False
        if self._heard.get(service) != one:
            self._patience.pop((one.number, one.addresses[0]), None)
        self._heard[service] = one
        return True

    def left(self, service: str) -> None:
        """It is announced no more. It stays in the map: whether it is up, gossip knows."""
        self._heard.pop(service, None)

    def holders(self) -> list[tuple[str, int]]:
        """Address and port of who has the cluster's key, as announced: to be asked, not to be believed."""
        return [(one.addresses[0], one.join) for one in self._heard.values() if one.join]

    def to_prove(self, now: float) -> list[Place]:
        """Places where a look is due: announced, and not what the map says already."""
        places = []
        for one in self._heard.values():
            known = self.nodes.get(one.number)
            wanted = Known(one.number, one.name, one.addresses[0], one.addresses[1:])
            not_before, _pause = self._patience.get((one.number, one.addresses[0]), (0.0, 0.0))
            if known != wanted and now >= not_before:
                places.append(Place(one.number, one.name, one.addresses[0], one.port, one.addresses[1:]))
        return places

    def failed(self, now: float, place: Place) -> None:
        """Nobody of that number could be found there."""
        key = (place.number, place.address)
        _not_before, pause = self._patience.get(key, (0.0, _AGAIN_S / 2))
        pause = min(2 * pause, _LONGEST_S)
        if len(self._patience) >= _MOST:
            self._patience.clear()
        self._patience[key] = (now + pause, pause)

    def proven(self, place: Place) -> bool:
        """The node is there; returns whether the map changed."""
        names = {known.name.casefold() for number, known in self.nodes.items() if number != place.number}
        name = place.name if place.name.casefold() not in names else f"node{place.number}"
        found = Known(place.number, name, place.address, place.aliases)
        # Whoever had that address before is not there any more.
        nodes = {number: one for number, one in self.nodes.items() if one.address != place.address}
        nodes[place.number] = found
        changed = nodes != self.nodes
        self.nodes = dict(sorted(nodes.items()))
        self._patience.pop((place.number, place.address), None)
        return changed


def nodes_of(known: Mapping[int, Known]) -> list[Node]:
    """As the map has them."""
    return [Node(one.number, one.name, one.address, one.aliases) for one in known.values()]

"""The cluster's map: which nodes there are and where, in the syntax of openMosix's map file.

    # first number   host or address   how many consecutive nodes
    1                192.168.1.1       4        # nodes 1 to 4: 192.168.1.1 to 192.168.1.4
    9                metrakilate       1
    4                192.168.10.10     ALIAS    # another address of node 4

A range longer than one counts up the last byte of an address. Everything here is pure: text in, `Map` out.

Names: where the second column is a name, it is the node's name. Where it is an address, an optional file
``names`` beside the map says more (``number name`` on each line); a node nobody named is called ``nodeN``.
Nothing is looked up backwards in the DNS: the map is the same on all nodes, and so are the names.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from omtools.errors import BadMap, UnknownNode
from omtools.i18n import _

MAX_NUMBER = 65535
MAX_LINES = 256

_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_NUMBER = re.compile(r"[0-9]{1,9}")
_WORDS = ("home", "balance")  # what `migrate` takes in place of a node
_ALIAS = ("ALIAS", "0")  # openMosix took a range of length 0 for an alias too


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the cluster.

    Attributes:
        number: 1 to 65535.
        name: what people call it.
        address: an IP address, or a host name that resolves to one.
        aliases: its other addresses.
    """

    number: int
    name: str
    address: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """One line of the map that makes nodes: `count` of them from `first` on, beginning at `host`."""

    first: int
    host: str
    count: int


@dataclass
class Map:
    """All nodes, found by number, name or address. Discovery replaces them in place, for all who have it.

    Attributes:
        nodes: by number, in ascending order.
        ranges: the lines they come from, in the file's order.
    """

    nodes: dict[int, Node]
    ranges: tuple[Range, ...] = ()
    _by_word: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index names and addresses; a node's own name or address goes before another's alias."""
        self._by_word.clear()
        for node in self.nodes.values():
            for alias in node.aliases:
                self._by_word[alias.casefold()] = node.number
        for node in self.nodes.values():
            self._by_word[node.address.casefold()] = node.number
        for node in self.nodes.values():
            self._by_word[node.name.casefold()] = node.number

    def replace(self, others: Iterable[Node], own: Node) -> list[int]:
        """Take other nodes than before; returns the numbers of those that are not where they were.

        Args:
            others: all but this node; what contradicts `own` is left out.
            own: this node, which stays as it is.
        """
        before = dict(self.nodes)
        found = {node.number: node for node in others if node.name.casefold() != own.name.casefold()}
        found[own.number] = own
        self.nodes.clear()
        self.nodes.update(sorted(found.items()))
        self.ranges = tuple(Range(node.number, node.address, 1) for node in self.nodes.values())
        self.__post_init__()
        return [number for number, node in before.items() if found.get(number) != node]

    @property
    def numbers(self) -> dict[str, int]:
        """All numbers by name."""
        return {node.name: node.number for node in self.nodes.values()}

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self.nodes)

    def number(self, number: int) -> Node:
        """The node of that number.

        Raises:
            UnknownNode: there is none.
        """
        try:
            return self.nodes[number]
        except KeyError:
            raise UnknownNode(node=number) from None

    def find(self, word: str) -> Node:
        """The node that `word` means: its number, name, address or one of its other addresses.

        Raises:
            UnknownNode: it means none.
        """
        if _NUMBER.fullmatch(word) and int(word) in self.nodes:
            return self.nodes[int(word)]
        number = self._by_word.get(word.casefold())
        if number is None:
            raise UnknownNode(node=word)
        return self.nodes[number]

    def name(self, number: int) -> str:
        """The name of that node, or its number where the map does not know it."""
        node = self.nodes.get(number)
        return node.name if node else str(number)


def parse_map(text: str, path: str = "openmosix.map", names: dict[int, str] | None = None) -> Map:
    """Read a map.

    Args:
        text: the file's content.
        path: its name, for error messages.
        names: names of nodes whose line has an address only (see `parse_names`).

    Raises:
        BadMap: with the line and what is wrong with it.
    """
    reader = _Reader(path, names or {})
    lines = [(number, fields) for number, fields in _lines(text) if fields]
    if len(lines) > MAX_LINES:
        raise BadMap(
            path=path, line=lines[MAX_LINES][0], why=_("a map has at most {n} lines").format(n=MAX_LINES)
        )
    for number, fields in lines:
        reader.read(number, fields)
    return reader.finish()


def parse_names(text: str, path: str = "names") -> dict[int, str]:
    """Read the names file: ``number name`` per line, comments as in the map.

    Raises:
        BadMap: with the line and what is wrong with it.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    for line, fields in _lines(text):
        if not fields:
            continue
        if len(fields) != 2:
            raise BadMap(path=path, line=line, why=_("a line is a node's number and its name"))
        number = _node_number(fields[0], path, line)
        name = fields[1]
        if not _HOST.fullmatch(name) or _NUMBER.fullmatch(name) or name.casefold() in _WORDS:
            raise BadMap(path=path, line=line, why=_("“{name}” cannot be a node's name").format(name=name))
        if number in names or name.casefold() in taken:
            raise BadMap(
                path=path,
                line=line,
                why=_("“{name}” is named twice").format(name=name if name.casefold() in taken else number),
            )
        names[number] = name
        taken.add(name.casefold())
    return names


class _Reader:
    """Builds a map line by line."""

    def __init__(self, path: str, names: dict[int, str]) -> None:
        self.path = path
        self.names = names
        self.nodes: dict[int, Node] = {}
        self.ranges: list[Range] = []
        self.aliases: list[tuple[int, int, str]] = []  # line, number, address
        self.owner: dict[str, int] = {}  # address -> number
        self.taken: dict[str, int] = {}  # name -> number

    def read(self, line: int, fields: list[str]) -> None:
        if len(fields) != 3:
            raise self.bad(
                line,
                _("a line is a number, a host and how many nodes (or ALIAS), not {n} words").format(
                    n=len(fields)
                ),
            )
        first = _node_number(fields[0], self.path, line)
        host, count = fields[1], fields[2]
        if not _is_address(host) and not self.is_name(host):
            raise self.bad(line, _("“{host}” is neither a host name nor an address").format(host=host))
        if count.upper() in _ALIAS:
            self.aliases.append((line, first, host))
            return
        if not _NUMBER.fullmatch(count):
            raise self.bad(line, _("“{word}” is neither a number of nodes nor ALIAS").format(word=count))
        self.add(line, Range(first, host, int(count)))

    @staticmethod
    def is_name(host: str) -> bool:
        # All digits and dots but no address: a slip of the pen, not a name.
        return (
            bool(_HOST.fullmatch(host))
            and not re.fullmatch(r"[0-9.]+", host)
            and host.casefold() not in _WORDS
        )

    def add(self, line: int, entry: Range) -> None:
        if entry.first + entry.count - 1 > MAX_NUMBER:
            raise self.bad(line, _("node numbers go up to {n}").format(n=MAX_NUMBER))
        if entry.count > 1 and not _is_address(entry.host):
            raise self.bad(
                line, _("a range of nodes needs an address, not the name {host}").format(host=entry.host)
            )
        last_byte = int(ipaddress.ip_address(entry.host).packed[-1]) if _is_address(entry.host) else 0
        if last_byte + entry.count - 1 > 255:
            raise self.bad(
                line,
                _("{n} nodes from {host} on do not fit: the last byte ends at 255").format(
                    n=entry.count, host=entry.host
                ),
            )
        for offset in range(entry.count):
            self.add_node(line, entry.first + offset, _counted(entry.host, offset))
        self.ranges.append(entry)

    def add_node(self, line: int, number: int, host: str) -> None:
        if number in self.nodes:
            raise self.bad(line, _("node {n} is in the map twice").format(n=number))
        default = f"node{number}" if _is_address(host) else host
        name = self.names.get(number, default)
        address = _canonical(host)
        if address.casefold() in self.owner:
            raise self.bad(
                line, _("{host} is node {n} already").format(host=host, n=self.owner[address.casefold()])
            )
        if name.casefold() in self.taken:
            raise self.bad(
                line, _("node {n} is called {name} already").format(n=self.taken[name.casefold()], name=name)
            )
        self.owner[address.casefold()] = self.taken[name.casefold()] = number
        self.nodes[number] = Node(number, name, address)

    def finish(self) -> Map:
        for line, number, host in self.aliases:
            node = self.nodes.get(number)
            if node is None:
                raise self.bad(line, _("an ALIAS needs a line of its own for node {n}").format(n=number))
            address = _canonical(host)
            if self.owner.get(address.casefold(), number) != number:
                raise self.bad(
                    line, _("{host} is node {n} already").format(host=host, n=self.owner[address.casefold()])
                )
            self.owner[address.casefold()] = number
            self.nodes[number] = replace(node, aliases=(*node.aliases, address))
        return Map(dict(sorted(self.nodes.items())), tuple(self.ranges))

    def bad(self, line: int, why: str) -> BadMap:
        return BadMap(path=self.path, line=line, why=why)


def _lines(text: str) -> list[tuple[int, list[str]]]:
    # Only the newline ends a line (splitlines would also split at form feeds and the like).
    return [(number, line.partition("#")[0].split()) for number, line in enumerate(text.split("\n"), 1)]


def _node_number(word: str, path: str, line: int) -> int:
    if not _NUMBER.fullmatch(word) or not 1 <= int(word) <= MAX_NUMBER:
        raise BadMap(
            path=path,
            line=line,
            why=_("“{word}” is no node number (1 to {n})").format(word=word, n=MAX_NUMBER),
        )
    return int(word)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _canonical(host: str) -> str:
    return str(ipaddress.ip_address(host)) if _is_address(host) else host


def _counted(host: str, offset: int) -> str:
    if offset == 0:
        return host
    return str(ipaddress.ip_address(host) + offset)

"""What /omfs looks like. Pure.

    /omfs/2          the files of node 2
    /omfs/mCii       a symbolic link to the number of the node of that name
    /omfs/here       a symbolic link to the node where the asking process runs now
    /omfs/home       … to its home node
    /omfs/lastexec   … to the node where it last executed a program
    /omfs/selected   … to the node that it, or an ancestor, has chosen
    /omfs/select     a file: a process writes the number or name of a node into it to choose that, 0 for none
    /omfs/magic      a directory: what is created in it is created where the process runs, all else is
                     looked for on the node where it last created something through here

The names that depend on who asks are links, as /proc/self is: a directory cannot have two places in the
kernel's cache of names, and `pwd -P` tells the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

MAGIC_NAME = b"magic"
SELECT_NAME = b"select"


class ProcessFacts(Protocol):
    """What is known of the processes of this node; pid 0 stands for none of them: this node, then."""

    def here(self, pid: int) -> int:
        """Number of the node where it runs now."""

    def home(self, pid: int) -> int:
        """Number of its home node."""

    def lastexec(self, pid: int) -> int:
        """Number of the node where it last executed a program."""

    def selected(self, pid: int) -> int | None:
        """Number of the node that it or an ancestor has chosen; None: none."""

    def select(self, pid: int, node: int | None) -> None:
        """It chooses that node, or none."""

    def magic(self, pid: int) -> int | None:
        """Number of the node where it last created something through `magic`; None: it has not."""

    def set_magic(self, pid: int, node: int) -> None:
        """It has just done so."""


class Kind(Enum):
    """What a name at the top is."""

    NODE = "a node's files"
    LINK = "a symbolic link"
    MAGIC = "the magic directory"
    SELECT = "the file that chooses a node"


@dataclass(frozen=True, slots=True)
class Name:
    """One name at the top.

    Attributes:
        name: as it is listed.
        kind: what it is.
        node: the node's number, of `NODE` and of links to a fixed node; else 0.
    """

    name: bytes
    kind: Kind
    node: int = 0


PERSONAL = (b"here", b"home", b"lastexec", b"selected")
"""Links whose target depends on the asking process."""


class ClusterTree:
    """The top of /omfs.

    Args:
        nodes: names by number, as the cluster's map has them. A name that is a number or one of the special
            names is not shown: those mean what they mean everywhere.
    """

    def __init__(self, nodes: Mapping[int, str]) -> None:
        found = {b"%d" % number: Name(b"%d" % number, Kind.NODE, number) for number in sorted(nodes)}
        for name in PERSONAL:
            found[name] = Name(name, Kind.LINK)
        found[MAGIC_NAME] = Name(MAGIC_NAME, Kind.MAGIC)
        found[SELECT_NAME] = Name(SELECT_NAME, Kind.SELECT)
        for number, word in sorted(nodes.items()):
            raw = word.encode(errors="surrogateescape")
            if raw and b"/" not in raw and raw not in {b".", b".."} and not raw.isdigit():
                found.setdefault(raw, Name(raw, Kind.LINK, number))
        self._names = found
        self._numbers = frozenset(nodes)

    @property
    def names(self) -> tuple[Name, ...]:
        """All names: numbers first, in their order."""
        return tuple(self._names.values())

    def find(self, name: bytes) -> Name | None:
        """What that name at the top is; None: there is none such."""
        return self._names.get(name)

    def has(self, node: int) -> bool:
        """That node is in the cluster."""
        return node in self._numbers

    def choice(self, word: bytes) -> int | None:
        """The node that somebody chooses by its number or name, None for none (0); ValueError."""
        word = word.strip()
        if word == b"0":
            return None
        found = self.find(word)
        if found is None or not found.node:
            raise ValueError(word)
        return found.node

    @staticmethod
    def target(link: Name, facts: ProcessFacts, pid: int) -> int | None:
        """Number of the node that a link leads this process to; None: nowhere."""
        if link.node:
            return link.node
        ask = {
            b"here": facts.here, b"home": facts.home,
            b"lastexec": facts.lastexec, b"selected": facts.selected,
        }[link.name]  # fmt: skip
        return ask(pid)

    @staticmethod
    def magic_nodes(facts: ProcessFacts, pid: int) -> tuple[int, int]:
        """For this process: the node where `magic` creates, and the one where it looks."""
        here = facts.here(pid)
        return here, facts.magic(pid) or here

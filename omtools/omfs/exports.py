"""What a node offers of its files: directories, each with its rights, as one tree. Pure.

    # directory         options
    /home               rw
    /srv/data           ro,onefs      # onefs: what is mounted below it is not entered
    "/opt/two words"    rw

Options are separated by commas: `rw` or `ro` (the default), `onefs`. The tree is seen as on the machine
itself: directories above the exported ones are there, empty but for the way down, and cannot be changed. An
export inside another one goes by its own options.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from omtools.errors import BadExports
from omtools.i18n import _

_OPTIONS = ("rw", "ro", "onefs")


@dataclass(frozen=True, slots=True)
class Export:
    """One directory that is offered.

    Attributes:
        path: absolute, without "." and "..", as bytes like all names.
        read_only: nothing in it can be changed.
        one_file_system: what is mounted below it is not entered.
    """

    path: bytes
    read_only: bool = True
    one_file_system: bool = False


@dataclass(slots=True, eq=False)
class Point:
    """A place of the tree where an export begins, or that leads to one.

    Attributes:
        path: absolute.
        export: what begins here; None: it only leads further down.
        children: points below, by name.
    """

    path: bytes
    export: Export | None = None
    children: dict[bytes, Point] = field(default_factory=dict)

    def walk(self) -> Iterator[Point]:
        """This point and all below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Exports:
    """All that a node offers.

    Attributes:
        entries: in the order they were written.
        at_top: the first (and only) one is the top of the tree itself, wherever it lies on the machine.
    """

    entries: tuple[Export, ...]
    at_top: bool = False

    def tree(self) -> Point:
        """The exports as a tree from "/" down."""
        if self.at_top:
            return Point(self.entries[0].path, self.entries[0])
        top = Point(b"/")
        for entry in self.entries:
            point = top
            for name in filter(None, entry.path.split(b"/")):
                point = point.children.setdefault(name, Point(posixpath.join(point.path, name)))
            point.export = entry
        return top


def parse_exports(text: str, path: str = "exports") -> Exports:
    """Read a list of exports.

    Args:
        text: the file's content, in the syntax above.
        path: its name, for error messages.

    Raises:
        BadExports: with the line and what is wrong with it.
    """
    entries: list[Export] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise BadExports(path=path, line=number, why=_("a quotation mark is not closed")) from error
        if not words:
            continue
        entry = _entry(words, path, number)
        if any(other.path == entry.path for other in entries):
            raise BadExports(
                path=path, line=number, why=_("{directory} is listed twice").format(directory=words[0])
            )
        entries.append(entry)
    return Exports(tuple(entries))


def _entry(words: list[str], path: str, line: int) -> Export:
    if len(words) > 2:
        raise BadExports(
            path=path, line=line, why=_("a line is a directory and its options, quote names with spaces")
        )
    directory = words[0]
    if not directory.startswith("/") or "\0" in directory:
        raise BadExports(
            path=path, line=line, why=_("“{directory}” is no absolute path").format(directory=directory)
        )
    if any(part in {".", ".."} for part in directory.split("/")):
        raise BadExports(
            path=path, line=line, why=_("“{directory}” has “.” or “..” in it").format(directory=directory)
        )
    options = words[1].split(",") if len(words) == 2 else []
    for option in options:
        if option not in _OPTIONS:
            raise BadExports(
                path=path, line=line,
                why=_("“{option}” is none of rw, ro, onefs").format(option=option),
            )  # fmt: skip
    if "rw" in options and "ro" in options:
        raise BadExports(path=path, line=line, why=_("it cannot be both rw and ro"))
    normal = b"/" + b"/".join(filter(None, directory.encode(errors="surrogateescape").split(b"/")))
    return Export(normal, "rw" not in options, "onefs" in options)


def everything(read_only: bool = False) -> Exports:
    """All that the machine has."""
    return Exports((Export(b"/", read_only),))


def only(path: str | bytes, read_only: bool = False) -> Exports:
    """One directory, shown as the top of the tree."""
    raw = path if isinstance(path, bytes) else path.encode(errors="surrogateescape")
    return Exports((Export(raw, read_only),), at_top=True)

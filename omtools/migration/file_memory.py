"""Memory of a guest that maps a file at home, and here only holds what was in it: pure.

Here it is anonymous memory. What tells a program the difference is giving pages back, after which those of a
file have the file's content again, and stretching or moving the mapping. For that it goes home.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from omtools.i18n import _
from omtools.image.model import Image
from omtools.linux.seccomp import Rule

MREMAP, MADVISE = 25, 28  # <asm/unistd_64.h>
# MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTNEED_LOCKED of <asm-generic/mman-common.h>
_GIVE_BACK = (4, 8, 9, 24)
_PAGE = 4096
TRAPPED: Mapping[int, tuple[Rule, ...]] = {
    MREMAP: ((),),
    MADVISE: tuple(((2, 0xFFFFFFFF, advice),) for advice in _GIVE_BACK),
}
"""Calls that the filter must trap though the node's own kernel does them, see `compile_filter`."""


class FileMemory:
    """Where that memory is.

    Attributes:
        ranges: first address and the one behind the last, in order.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self.ranges: list[tuple[int, int]] = []
        for start, end in sorted(ranges):
            if self.ranges and start <= self.ranges[-1][1]:
                self.ranges[-1] = self.ranges[-1][0], max(end, self.ranges[-1][1])
            else:
                self.ranges.append((start, end))

    @classmethod
    def of(cls, image: Image) -> FileMemory:
        """Of a guest that is built from this image."""
        new = [(one.start, one.end) for one in image.regions if one.file and not one.twin]
        return cls([*image.mapped, *new])

    @property
    def trapped(self) -> Mapping[int, tuple[Rule, ...]]:
        """What the filter must trap for its sake."""
        return TRAPPED if self.ranges else {}

    def reason(self, nr: int, args: tuple[int, ...]) -> str:
        """Why the call has to be made at home, "" if it need not be."""
        if nr == MADVISE and self._holds(args[0], args[1]):
            return _("it gives back memory that maps a file")
        if nr == MREMAP and self._holds(args[0], args[1] or args[2]):
            return _("it moves or stretches memory that maps a file")
        return ""

    def _holds(self, start: int, length: int) -> bool:
        end = start + (length + _PAGE - 1) // _PAGE * _PAGE
        return any(first < end and start < last for first, last in self.ranges)

"""With whose rights a request is made: those of the process that asks, its group and further groups too."""

from __future__ import annotations

import collections
import hashlib
import os
import threading
from typing import NamedTuple

from omtools.omfs.descriptors import Descriptor

GROUPS_MAX = 8192
"""Who has so many groups that their line is longer counts as the user with his usual ones."""

_KEPT = 128  # processes whose status stays open
_STATUS = 1 << 11  # a status with its groups is mostly shorter
_GROUPS, _END = b"\nGroups:\t", b"\n"  # proc_pid_status(5)


class Rights(NamedTuple):
    """Whose rights.

    Attributes:
        uid: the user.
        gid: the group that new files get; None: the user's own where the files are, and `groups` too.
        groups: the further groups, as a line of numbers; "" if there are none, or if they do not matter.
    """

    uid: int
    gid: int | None = None
    groups: str = ""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The further groups, each once, in their order."""
        return tuple(sorted({int(word) for word in self.groups.split()}))

    def mark(self, gid: int, groups: list[int] | None) -> str:
        """What sets them apart from a user's usual ones (`gid` and `groups`); "" if nothing does."""
        mine = {*self.numbers, self.gid}
        if self.gid is None or (self.gid == gid and (groups is None or mine == {*groups, gid})):
            return ""
        digest = hashlib.blake2b(repr(self.numbers).encode(), digest_size=6).hexdigest()
        return f"{self.gid}-{digest}"


class Groups:
    """The further groups of processes of this machine; each is asked for them time and again.

    A status that stays open is its process's for ever: no later one's of the same number.
    """

    def __init__(self) -> None:
        self._open: collections.OrderedDict[int, Descriptor] = collections.OrderedDict()
        self._lock = threading.Lock()

    def of(self, pid: int) -> str | None:
        """As the line of numbers in its status; None if there is no such process to be seen."""
        known = self._open.get(pid)
        if known is not None:
            try:
                return self._read(known)
            except ProcessLookupError:
                pass  # the number is another's by now
        try:
            made = Descriptor(os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC))
            groups = self._read(made)
        except (FileNotFoundError, ProcessLookupError):
            return None
        with self._lock:
            self._open[pid] = made
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
        return groups

    @staticmethod
    def _read(status: Descriptor) -> str:
        size = _STATUS
        while True:
            text = os.pread(status.number, size, 0)
            begin = text.find(_GROUPS)
            end = text.find(_END, begin + len(_GROUPS))
            if begin >= 0 and end >= 0:
                return text[begin + len(_GROUPS) : end].decode().strip()
            if len(text) < size:
                return ""
            size *= 8

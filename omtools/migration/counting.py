"""What a guest reads and writes where it runs: whose files, which files.

The sums are the kernel's own: /proc/PID/io of the guest (rchar, wchar, syscr, syscw), which has all that the
node's kernel did for it, whether a keeper saw the call or not, and no call that its deputy did. Nothing is
paid per call: this is looked at when the keeper's figures are wanted, before a file that is open here is
closed by way of the keeper, and before the guest leaves or ends.

How much of a sum belongs to which file is inferred from what is open at that moment:

* a file whose position has moved on was read or written that far (backwards: from its beginning);
* whether it was read or written its flags tell, or where calls are trapped (a guest that does not open files
  by itself) the calls; of these, what pread(2) and pwrite(2) asked for counts too;
* what these account for is scaled down to the sum where it is more; what is left of the sum was read at
  chosen positions or from files that were opened and closed in between: where the guest opens files by
  itself these are this node's, else it is divided among the files that are open.

So bytes per node are exact, but for a guest that opens this node's files by itself and at the same time
reads another node's at chosen positions: these count as this node's. Mapped files, and what is done with
names alone (stat, unlink), count nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from omtools.linux import proc
from omtools.migration.counts import FileIo, Ledger, allot, named
from omtools.migration.direct import DirectFiles
from omtools.migration.openfiles import details

_MOST = 256  # descriptors that are looked at


@dataclass(slots=True)
class _Seen:
    """An open file, as it was when it was looked at last."""

    node: int
    path: str
    position: int
    reads: bool
    writes: bool
    wanted: int = 0


class Counting:
    """Keeps the books of one guest.

    Attributes:
        by_itself: tells the numbers of what it has opened by itself, if it does that.
        in_vain: calls since the last look that its kernel refused and the deputy did.
        ledger: what it has done so far, where it runs.
    """

    def __init__(self, pid: int, node: int, files: DirectFiles) -> None:
        self._pid, self._node, self._files = pid, node, files
        self._known: dict[object, _Seen] = {}
        self._before = proc.Io()
        self.by_itself: Callable[[], list[int]] | None = None
        self.in_vain = 0
        self.ledger = Ledger()

    def begin(self) -> None:
        """The guest is built: what was done to it so far does not count."""
        self._before = self._totals()
        self._known = self._look()

    def look(self) -> None:
        """Bring the ledger up to date."""
        totals = self._totals()
        delta = totals.minus(self._before)
        if not delta:
            return
        self._before = totals
        calls, self.in_vain = max(0, delta.calls - self.in_vain), 0
        now = self._look()
        moved = {key: _advance(self._known.get(key), seen) for key, seen in now.items()}
        self._known = now
        reads = self._divided(delta.read, {key: moved[key] for key, seen in now.items() if seen.reads})
        writes = self._divided(delta.written, {key: moved[key] for key, seen in now.items() if seen.writes})
        amounts = {key: reads.get(key, 0) + writes.get(key, 0) for key in {*reads, *writes}}
        keys = sorted(amounts, key=repr)
        shares = allot(calls, [amounts[key] for key in keys])
        for key, count in zip(keys, shares, strict=True):
            seen = now.get(key)
            node, path = (seen.node, seen.path) if seen is not None else (self._node, "")
            self.ledger.add(FileIo(node, path, reads.get(key, 0), writes.get(key, 0), count))

    def _totals(self) -> proc.Io:
        try:
            return proc.io(self._pid)
        except (OSError, ValueError):
            return self._before  # it has just ended

    def _divided(self, total: int, moved: dict[object, int]) -> dict[object, int]:
        """A sum by file; the key None is for those that are not open now."""
        explained = min(total, sum(moved.values()))
        keys = list(moved)
        found = dict(zip(keys, allot(explained, list(moved.values())), strict=True))
        rest = total - explained
        if rest and self.by_itself is None and keys:
            for key, more in zip(keys, allot(rest, [moved[key] or 1 for key in keys]), strict=True):
                found[key] += more
        elif rest:
            found[None] = rest
        return {key: amount for key, amount in found.items() if amount}

    # -- what is open

    def _look(self) -> dict[object, _Seen]:
        found: dict[object, _Seen] = {}
        for file in self._files.all():
            opened = file.opened
            seen = _seen(file.node, named(opened.path), file.position, opened.flags)
            if self.by_itself is None:
                seen.reads, seen.writes = file.reads > 0, file.writes > 0
            seen.wanted = file.wanted
            file.reads = file.writes = file.wanted = 0
            found[id(file)] = seen
        for number in self.by_itself()[:_MOST] if self.by_itself is not None else ():
            try:
                path = os.readlink(f"/proc/{self._pid}/fd/{number}")
                flags, position = details(self._pid, number)
            except (OSError, ValueError):
                continue
            found[number, path] = _seen(self._node, named(path), position, flags)
        return found


def _seen(node: int, path: str, position: int, flags: int) -> _Seen:
    way = flags & os.O_ACCMODE
    return _Seen(node, path, position, way != os.O_WRONLY, way != os.O_RDONLY)


def _advance(before: _Seen | None, now: _Seen) -> int:
    """Bytes that were moved since, as far as one can tell."""
    begun = before.position if before is not None else 0
    return now.wanted + (now.position - begun if now.position >= begun else now.position)

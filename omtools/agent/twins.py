"""Which files of this node other nodes have too: digests, each taken once (see `omtools.image.twins`)."""

from __future__ import annotations

import os
from collections.abc import Iterable

from omtools.image.twins import Identity, Offer, Twin, mapped_files, read_digest, trusted

_MOST = 4096  # files of which the digests are kept


class Twins:
    """The digests of one agent. All methods read files: they are for threads of their own."""

    def __init__(self) -> None:
        self._digests: dict[Identity, bytes] = {}

    def of_process(self, pid: int, uid: int) -> tuple[list[Offer], list[Twin]]:
        """What another node is to be asked about a process of that owner; the same files as they are here."""
        offers, twins = [], []
        for path in mapped_files(pid):
            known = self._digest(path, uid)
            if known is not None:
                identity, digest = known
                offers.append(Offer(path, identity.size, digest))
                twins.append(Twin(path, identity))
        return offers, twins

    def here(self, offers: Iterable[Offer], uid: int) -> list[tuple[int, Twin]]:
        """Those of another node's files that are here too, with their places in the list."""
        found = []
        for at, offer in enumerate(offers):
            known = self._digest(offer.path, uid, offer.size)
            if known is not None and known[1] == offer.digest:
                found.append((at, Twin(offer.path, known[0])))
        return found

    def _digest(self, path: str, uid: int, size: int | None = None) -> tuple[Identity, bytes] | None:
        """What the file is and its digest; None: no twin, or not of that size."""
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return None
        if not trusted(found, uid) or (size is not None and found.st_size != size):
            return None
        identity = Identity.of(found)
        digest = self._digests.get(identity)
        if digest is not None:
            return identity, digest
        read = read_digest(path, uid)
        if read is None:
            return None
        if len(self._digests) >= _MOST:
            self._digests.clear()
        self._digests[read[0]] = read[1]
        return read

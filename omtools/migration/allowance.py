"""How a guest's files may be reached at present: as its host's and its home's switches stand."""

from __future__ import annotations

from omtools.migration.reach import Access, Reach


class Allowance:
    """Kept by its keeper.

    Attributes:
        access: how its host's switches stand.
        home: its home lets it open files where it runs.
    """

    def __init__(self, whole: Reach, access: Access) -> None:
        self._whole = whole
        self.access, self.home = access, True

    @property
    def reach(self) -> Reach:
        """What there is of it."""
        return self._whole.within(self.access) if self.home else Reach()

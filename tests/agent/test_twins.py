"""omtools.agent.twins: each file is read once, and only what is equal is a twin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from settled import settled_file

from omtools.agent import twins as module
from omtools.agent.twins import Twins
from omtools.image import twins
from omtools.image.twins import Identity, Offer, Twin


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settled_file(tmp_path / "lib.so", monkeypatch)


def test_own_files_are_all_here() -> None:
    here, there = Twins(), Twins()
    offers, own = here.of_process(os.getpid(), os.getuid())
    assert offers
    assert [one.path for one in offers] == [one.path for one in own]
    assert there.here(offers, os.getuid()) == list(enumerate(own))


def test_other_content_and_other_sizes(library: Path) -> None:
    read = twins.read_digest(str(library), os.getuid())
    assert read is not None
    same = Offer(str(library), twins.LEAST, read[1])
    other = Offer(str(library), twins.LEAST, bytes(32))
    longer = Offer(str(library), twins.LEAST + 1, read[1])
    assert Twins().here([other, longer, same], os.getuid()) == [
        (2, Twin(str(library), Identity.of(library.stat())))
    ]


def test_a_file_is_read_once(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    real = twins.read_digest

    def read(path: str, uid: int) -> tuple[Identity, bytes] | None:
        reads.append(path)
        return real(path, uid)

    monkeypatch.setattr(module, "read_digest", read)
    found = Twins()
    offer = Offer(str(library), twins.LEAST, bytes(32))
    for _time in range(3):
        assert found.here([offer], os.getuid()) == []
    assert reads == [str(library)]
    os.utime(library)
    found.here([offer], os.getuid())
    assert reads == 2 * [str(library)]

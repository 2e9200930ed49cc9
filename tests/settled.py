"""A file as libraries are: large enough to be worth a comparison, and old enough to be believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from omtools.image import twins


def settled_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make one; its age is not asked for until `monkeypatch` is undone."""
    monkeypatch.setattr(twins, "_UNSETTLED_NS", 0)
    path.write_bytes(os.urandom(twins.LEAST))
    path.chmod(0o755)
    return path

"""Directories whose paths are short enough for unix sockets, named after the worker that made them.

As an ordinary user all workers of pytest-xdist mount in the same namespace: by its path a mount tells whose
test it belongs to.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path


def _worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "")


def short_directory() -> Path:
    """A new directory; whoever asks removes it."""
    return Path(tempfile.mkdtemp(prefix=f"om{_worker()}-", dir="/tmp"))


def of_another_worker(mount: str) -> bool:
    """Whether a line of /proc/self/mountinfo is about a directory that another worker's test made."""
    found = re.search(r"/(?:om|popen-)(gw\d+)[-/]", mount)
    return found is not None and found[1] != _worker()

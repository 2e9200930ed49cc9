"""Each call of `omfs.posix_table` does on a mount what it does on a plain directory, and leaves the same behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from linux.fuse_support import ended, forked, needs_root, own_mounts

from omfs.fuse_support import USER, Place, outcome, place, snapshot
from omfs.posix_table import TABLES, furnish

pytestmark = needs_root
_AT_ONCE = 40  # trees
_RIGHTS = ("EACCES", "EPERM")


@pytest.fixture(scope="module")
def both() -> Iterator[Place]:
    with own_mounts(), place("users") as made:
        yield made


def told_as(uid: int, rows: dict[str, Any], top: Path, said: Path) -> dict[str, list[Any]]:
    """All outcomes of all rows, by a process of that user's."""

    def ask(call: Callable[..., Any], tree: str, names: tuple[str, ...]) -> Any:
        try:
            return outcome(lambda: call(*[f"{tree}/{name}" for name in names]))
        except (ValueError, OverflowError) as error:
            return "value", type(error).__name__

    def body() -> None:
        into = os.fdopen(os.open(said, os.O_WRONLY | os.O_TRUNC), "w")
        os.umask(0o022)
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        found = {
            name: [ask(call, f"{top}/{number}", names) for names in on]
            for number, (name, (call, on)) in enumerate(rows.items())
        }
        json.dump(found, into, default=str)
        into.close()

    said.touch()
    assert ended(forked(body)) == 0
    found: dict[str, list[Any]] = json.loads(said.read_text())
    return found


def agree(plain: Any, on_mount: Any) -> bool:
    """The same; or the mount names another of two errors, for rights are judged last (see `omtools.omfs.fuse`)."""
    return bool(plain == on_mount or (plain[0] == on_mount[0] == "errno" and plain[1] in _RIGHTS))


def differences(both: Place, uid: int, rows: dict[str, Any], said: Path) -> list[Any]:
    tops = [both.plain / "table", both.back / "table"]
    try:
        for top in tops:
            top.mkdir()
            for number in range(len(rows)):
                furnish(top / str(number))
        plain = told_as(uid, rows, both.plain / "table", said)
        on_mount = told_as(uid, rows, both.mount / "table", said)
        found: list[Any] = []
        for number, (name, (_call, on)) in enumerate(rows.items()):
            answers = zip(on, plain[name], on_mount[name], strict=True)
            found += [(name, names, *pair) for names, *pair in answers if not agree(*pair)]
            left = [snapshot(top / str(number)) for top in tops]
            found += [(name, path, [each.get(path) for each in left]) for path in {**left[0], **left[1]} if left[0].get(path) != left[1].get(path)]
        return found
    finally:
        for top in tops:
            shutil.rmtree(top, ignore_errors=True)


@pytest.mark.parametrize("uid", [0, USER], ids=["root", "user"])
@pytest.mark.parametrize("table", TABLES)
def test_the_same_as_on_a_plain_directory(both: Place, table: str, uid: int, tmp_path: Path) -> None:
    rows = list(TABLES[table].items())
    if uid == 0:
        rows = rows[::3]  # whom rights do not keep from anything
    for at in range(0, len(rows), _AT_ONCE):
        assert differences(both, uid, dict(rows[at : at + _AT_ONCE]), tmp_path / "said") == []

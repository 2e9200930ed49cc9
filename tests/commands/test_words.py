from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

from omtools.commands import _words as words
from omtools.commands._common import as_whole, parser, parser_of
from omtools.errors import UsageError


def test_did_you_mean() -> None:
    assert words.did_you_mean("statsu", ["stay", "status"]) == " Did you mean `status`?"
    assert words.did_you_mean("MCI", ["mCii", "metrakilate"]) == " Did you mean `mCii`?"
    assert words.did_you_mean("zzz", ["stay", "status"]) == ""


def test_tables() -> None:
    rows = [["1", "mCii", "up"], ["12", "ñandú", "down"]]
    assert words.table(["N", "NAME", "STATE"], rows, frozenset({1})) == [
        " N  NAME   STATE", " 1  mCii      up", "12  ñandú   down",
    ]  # fmt: skip
    assert words.table(["N", "NAME", "STATE"], rows, frozenset({1}), 12) == [" N  NAME", " 1  mCii", "12  ñandú"]


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=9), min_size=3, max_size=3), st.integers(20, 80))
def test_a_table_fits_its_room(row: list[str], room: int) -> None:
    for line in words.table(["A", "B", "C"], [row], frozenset(), room):
        assert words.width(line) <= room


@pytest.mark.parametrize("word", ["", "x", "-1", "101", "1e3", "٣", "9" * 30, "--"])
def test_numbers_out_of_range(word: str) -> None:
    with pytest.raises(UsageError):
        as_whole(0, 100)(word)


def test_numbers_in_range() -> None:
    assert [as_whole(-1, 100)(word) for word in ("-1", "0", "100")] == [-1, 0, 100]


@pytest.mark.parametrize("word", ["0", "never", "-1", "nan"])
def test_watch_needs_seconds(word: str) -> None:
    with pytest.raises(UsageError):
        words.as_seconds(word)
    assert words.as_seconds("0.5") == 0.5


def test_the_parser_of_a_command() -> None:
    def main(arguments: list[str]) -> int:
        parser("trial", "A trial.").parse_args(arguments)
        return 0

    found = parser_of(main)
    assert found is not None
    assert found.prog == "trial"
    assert parser_of(lambda _arguments: 0) is None
    assert main([]) == 0
    with pytest.raises(UsageError, match="Did you mean `--debug`"):
        main(["--debgu"])


@pytest.mark.parametrize(("variable", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_obey(variable: dict[str, str], coloured: bool) -> None:
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    code = "from omtools.commands._words import paint; print(paint('x', 'red'), flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=follower, env={**environment, "TERM": "xterm", **variable}
    )
    assert process.wait(20) == 0
    os.close(follower)
    assert (os.read(leader, 100) == b"\x1b[31mx\x1b[0m\r\n") is coloured
    os.close(leader)

from __future__ import annotations

import itertools
import shlex
import subprocess

from hypothesis import given, strategies as st

from omtools.shell.marks import Mark, MarkFilter, as_input, bash_command

TOKEN = "0123456789abcdef"


def mark(status: int, jobs: int, directory: str) -> bytes:
    return f"\x1b]7701;{TOKEN};{status};{jobs};{directory}\x07".encode()


def feed(data: bytes, cuts: list[int]) -> tuple[bytes, list[Mark]]:
    marks, shown, filtering = [], b"", MarkFilter(TOKEN)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(places):
        for piece in filtering.feed(data[begin:end]):
            if isinstance(piece, Mark):
                marks.append(piece)
            else:
                shown += piece
    return shown, marks


pieces = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"\x1b", b"\x1b]7701;", b"\x1b]7701;0123", b"\x07", b"\x1b]0;title\x07"]),
    st.tuples(st.integers(0, 255), st.integers(0, 9), st.sampled_from(["/", "/tmp/a;b", "/ä ö"])),
)


@given(st.lists(pieces), st.lists(st.integers(0, 200)))
def test_marks_are_found_however_the_output_is_cut(parts: list[bytes | tuple[int, int, str]], cuts: list[int]) -> None:
    data = b"".join(part if isinstance(part, bytes) else mark(*part) for part in parts) + b"$"
    expected = [Mark(*part) for part in parts if not isinstance(part, bytes)]
    rest = b"".join(part for part in parts if isinstance(part, bytes)) + b"$"
    assert feed(data, cuts) == (rest, expected)


def test_what_only_looks_like_a_mark_is_shown() -> None:
    for fake in (
        b"\x1b]7701;other;0;0;/\x07",
        f"\x1b]7701;{TOKEN};x;0;/\x07".encode(),
        f"\x1b]7701;{TOKEN};0\x07".encode(),
        f"\x1b]7701;{TOKEN};".encode() + b"y" * 9000,
    ):
        shown, marks = feed(fake + b"end", [])
        assert (shown, marks) == (fake + b"end", [])


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=80))
def test_any_line_is_one_complete_command(line: str) -> None:
    sent = as_input(line).decode()
    assert sent.endswith("\n")
    assert shlex.split(sent) == ["eval", line]


def test_the_command_line_is_good_for_any_shell() -> None:
    command = bash_command(TOKEN)
    assert shlex.split(command)[:2] == ["bash", "-c"]
    done = subprocess.run(["sh", "-n", "-c", command], check=False, capture_output=True)
    assert done.returncode == 0

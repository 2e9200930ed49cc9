from __future__ import annotations

import pytest
from hypothesis import given, settings as effort, strategies as st

from omtui.terminal.emulator import Cells, Emulator


def test_what_is_written_is_read_with_its_looks() -> None:
    emulator = Emulator(20, 3)
    emulator.feed(b"")
    assert emulator.feed(b"plain \x1b[1;31mred\x1b[0m\r\n\x1b[7mback") == {0, 1}
    assert emulator.text() == "plain red\nback"
    first = emulator.line(0)
    assert first[:2] == [Cells("plain "), Cells("red", fg="red", bold=True)]
    assert emulator.line(1)[0] == Cells("back", reverse=True)
    assert emulator.cursor == (4, 1)
    assert emulator.line(3) == []


def test_a_program_may_hide_the_cursor() -> None:
    emulator = Emulator(20, 3)
    emulator.feed(b"\x1b[?25l")
    assert emulator.cursor is None


def test_letters_that_come_in_pieces() -> None:
    emulator = Emulator(20, 3)
    for byte in "ñ→".encode():
        emulator.feed(bytes([byte]))
    assert emulator.text() == "ñ→"


def test_the_program_may_ask_where_the_cursor_is() -> None:
    said: list[bytes] = []
    emulator = Emulator(20, 5, said.append)
    emulator.feed(b"abc\r\nde\x1b[6n")
    assert said == [b"\x1b[2;3R"]


@pytest.mark.parametrize(
    ("key", "character", "sent"),
    [
        ("a", "a", b"a"),
        ("ñ", "ñ", "ñ".encode()),
        ("enter", "\r", b"\r"),
        ("ctrl+c", "\x03", b"\x03"),
        ("ctrl+z", "\x1a", b"\x1a"),
        ("escape", "\x1b", b"\x1b"),
        ("up", None, b"\x1b[A"),
        ("alt+h", None, b"\x1bh"),
        ("f1", None, b"\x1b[[A"),
        ("ctrl+shift+f9", None, b""),
    ],
)
def test_keys(key: str, character: str | None, sent: bytes) -> None:
    assert Emulator(20, 3).key(key, character) == sent


def test_arrows_of_applications_and_pasting() -> None:
    emulator = Emulator(20, 3)
    assert emulator.paste("a\nb\x1b[201~c\x03") == b"a\rb[201~c"
    emulator.feed(b"\x1b[?1h\x1b[?2004h")
    assert emulator.key("up", None) == b"\x1bOA"
    assert emulator.paste("a\x1b[201~") == b"\x1b[200~a[201~\x1b[201~"


@effort(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\x1b[", b"\x1b]0;", b"\x1b(0", b"\x9b", b"\x1b[999999999A", b"\x1b[?", b"9;9H"])), max_size=12),
       st.integers(1, 30), st.integers(1, 10))  # fmt: skip
def test_no_program_can_break_it(pieces: list[bytes], columns: int, lines: int) -> None:
    emulator = Emulator(columns, lines)
    for piece in pieces:
        emulator.feed(piece)
        emulator.resize(lines, columns)
        emulator.resize(columns, lines)
    assert emulator.size == (columns, lines)
    for y in range(lines):
        emulator.line(y)
    x, y = emulator.cursor or (0, 0)
    assert 0 <= x < columns
    assert 0 <= y < lines

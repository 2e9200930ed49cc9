"""omtools.linux.names: names that are no text."""

from __future__ import annotations

import os

from hypothesis import given, strategies as st

from omtools.linux.names import as_text, is_text


@given(st.binary())
def test_any_bytes_can_be_told_for_people(raw: bytes) -> None:
    name = os.fsdecode(raw)
    told = as_text(name).encode()  # does not raise
    assert is_text(name) == (told == raw)


def test_a_letter_and_half_a_letter() -> None:
    assert (is_text("ñ"), as_text("ñ")) == (True, "ñ")
    half = os.fsdecode("ñ".encode()[:1])
    assert (is_text(half), as_text(half)) == (False, "\N{REPLACEMENT CHARACTER}")

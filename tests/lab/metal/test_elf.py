from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from omtools.lab.metal import elf


def interpreter() -> bytes:
    return Path(os.path.realpath(sys.executable)).read_bytes()


def test_a_real_program() -> None:
    data = interpreter()
    assert elf.is_elf(data)
    assert {".text", ".dynstr", ".dynamic"} <= set(elf.sections(data))
    assert "libc.so.6" in elf.needed(data)


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(100)])
def test_what_is_none(data: bytes) -> None:
    assert not elf.is_elf(data)
    with pytest.raises(ValueError, match="no ELF file"):
        elf.sections(data)


def test_a_file_that_was_cut_off() -> None:
    with pytest.raises(ValueError, match="outside"):
        elf.sections(interpreter()[:1000])

"""omtools.image.platform: what two machines must have in common."""

from __future__ import annotations

import os

import msgspec
import pytest

from omtools.errors import KernelDiffers, OmError, ProcessorLacks
from omtools.image.platform import Platform, this_platform

HOME = Platform("6.18.1", "x86_64", ("abm", "avx2", "bmi1", "fpu", "sse2"), 4096)


def other(**changes: object) -> Platform:
    return msgspec.structs.replace(HOME, **changes)


@pytest.mark.parametrize(
    ("guest", "kind", "words"),
    [
        (other(machine="aarch64"), KernelDiffers, "aarch64"),
        (other(page_size=65536), KernelDiffers, "65536"),
        (other(cpu_flags=("avx2", "bmi1", "fpu", "sse2")), ProcessorLacks, "lacks abm,"),
        (other(cpu_flags=()), ProcessorLacks, "abm bmi1"),
    ],
)
def test_every_reason(guest: Platform, kind: type[OmError], words: str) -> None:
    refusal = guest.check_guest_of(HOME, "mCii")
    assert type(refusal) is kind
    assert refusal is not None
    assert words in str(refusal)
    assert "mCii" in str(refusal)


@pytest.mark.parametrize(
    "guest",
    [
        HOME,
        other(release="6.12.9"),
        other(cpu_flags=("abm", "amx_tile", "avx2", "bmi1", "fpu", "sse2")),  # more than home has
        other(cpu_flags=("abm", "bmi1", "fpu", "sse2")),  # without what a process would be told of at once
    ],
)
def test_what_does_not_matter(guest: Platform) -> None:
    assert guest.check_guest_of(HOME, "mCii") is None


def test_by_itself_nothing_goes_where_anything_is_lacking() -> None:
    refusal = other(cpu_flags=("abm", "bmi1", "fpu")).check_guest_of(HOME, "mCii", by_itself=True)
    assert type(refusal) is ProcessorLacks
    assert "lacks avx2 sse2," in str(refusal)


def test_flags_that_programs_cannot_see_do_not_matter() -> None:
    virtual = other(cpu_flags=(*HOME.cpu_flags, "hypervisor", "constant_tsc"))
    assert HOME.check_guest_of(virtual, "metal") is None


def test_both_kernels_are_named() -> None:
    refusal = other(machine="i686", release="6.1.0").check_guest_of(HOME, "mCii")
    assert "6.1.0" in str(refusal)
    assert "6.18.1" in str(refusal)


def test_this_machine_fits_itself() -> None:
    mine = this_platform()
    assert mine == this_platform()
    assert mine.check_guest_of(mine, "self") is None
    assert mine.machine == os.uname().machine
    assert mine.cpu_flags


def test_it_travels() -> None:
    mine = this_platform()
    assert msgspec.json.decode(msgspec.json.encode(mine), type=Platform) == mine

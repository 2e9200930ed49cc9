from __future__ import annotations

import stat

import pytest
from hypothesis import given, strategies as st

from omtools.agent.hpc.tree import (
    DIRECTORIES,
    FILES,
    NUMBERED,
    ROOT,
    Group,
    Spot,
    find,
    fixed_names,
    name_of,
    spot_of,
)

KEYS = st.integers(1, 1 << 22)


def every_spot(key: int) -> list[Spot]:
    keyed = set(NUMBERED.values())
    places = [Spot(group, key if group in keyed else 0) for group in Group]
    return places + [Spot(place.group, place.key, name) for place in places for name in FILES[place.group]]


@given(KEYS)
def test_a_number_says_what_it_stands_for(key: int) -> None:
    spots = every_spot(key)
    assert [spot_of(spot.number) for spot in spots] == spots
    assert len({spot.number for spot in spots}) == len(spots)
    assert ROOT.number == 1


@given(KEYS)
def test_everything_is_found_by_its_name_in_its_directory(key: int) -> None:
    for spot in every_spot(key):
        if spot != ROOT:
            assert find(spot.directory, name_of(spot)) == spot


@given(st.integers(9 << 40, 1 << 63) | st.integers(2, (1 << 40) - 1))
def test_a_number_of_nothing_is_refused(number: int) -> None:
    with pytest.raises(KeyError):
        spot_of(number)


@pytest.mark.parametrize("name", ["", "0", "01", "-1", "1x", "٣", "9" * 10, "Admin", "..", "lock"])
def test_no_such_name_at_the_top(name: str) -> None:
    assert find(ROOT, name) is None


def test_the_top_is_as_it_was() -> None:
    assert sorted(map(name_of, fixed_names(ROOT))) == ["admin", "decay", "nodes", "remote", "self"]
    assert {name_of(Spot(group)) for group in DIRECTORIES.values()} == set(DIRECTORIES)
    assert stat.S_ISLNK(Spot(Group.TOP, 0, "self").mode)
    assert set(FILES[Group.PROCESS]) == {
        "cantmove", "goto", "lock", "nmigs", "where", "migrate", "selected", "migfilter", "mignodes", "migpolicy",
    }  # fmt: skip
    assert not Spot(Group.PROCESS, 1, "where").writable
    assert Spot(Group.PROCESS, 1, "lock").writable

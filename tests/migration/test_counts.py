"""Who has read how much of what: the arithmetic."""

from __future__ import annotations

from hypothesis import given, strategies as st

from omtools.migration.counts import LARGEST, FileIo, Ledger, allot, by_node, named, since, sum_of

ENTRIES = st.builds(
    FileIo, st.integers(1, 4), st.sampled_from(["", *(f"/f{number}" for number in range(90))]),
    st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**6),
)  # fmt: skip


@given(st.lists(ENTRIES, max_size=200))
def test_nothing_is_lost_however_many_files_there_are(entries: list[FileIo]) -> None:
    ledger = Ledger()
    ledger.add_all(entries)
    told = ledger.told()
    assert by_node(told) == by_node(entries)
    assert sum(bool(one.path) for one in told) <= LARGEST
    assert len({(one.node, one.path) for one in told}) == len(told)
    assert sum_of(told) == told


def test_the_largest_keep_their_names() -> None:
    many = [FileIo(1, f"/f{number}", number, 0, 1) for number in range(1000)]
    told = sum_of(many)
    assert [one.path for one in told[:LARGEST]] == [f"/f{number}" for number in range(999, 999 - LARGEST, -1)]
    assert told[LARGEST:] == [FileIo(1, "", sum(range(1000 - LARGEST)), 0, 1000 - LARGEST)]


@given(st.integers(0, 10**15), st.lists(st.integers(0, 10**12), min_size=1, max_size=40))
def test_what_is_allotted_is_all_and_to_whom_it_belongs(total: int, weights: list[int]) -> None:
    shares = allot(total, weights)
    assert len(shares) == len(weights)
    assert sum(shares) == (total if any(weights) else 0)
    assert all(share >= 0 for share in shares)
    assert all(not share for share, weight in zip(shares, weights, strict=True) if not weight)


def test_only_what_is_new_counts() -> None:
    now, new = since({}, [FileIo(2, "/a", 5, 1), FileIo(3, "", 7)])
    assert new == now == {2: 6, 3: 7}
    assert since(now, [FileIo(2, "", 10), FileIo(3, "", 1)])[1] == {2: 4, 3: 0}


def test_any_name_can_be_told() -> None:
    assert named("/a\udcff") == "/a�"
    assert len(named("/" + "x" * 4000)) < 600

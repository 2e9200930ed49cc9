from __future__ import annotations

import json
import multiprocessing
import resource
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from omtools.shell.progress import At, Change, Forget, Keep, Progress, StepRecord, Store, apply, result, write

DONE = StepRecord("2026-01-01T00:00:00+00:00", 3.5, 2, True, {"a.ms": 37.0})


def test_it_is_kept_and_read(tmp_path: Path) -> None:
    store = Store("lab", tmp_path / "new" / "place")
    assert store.read() == Progress()
    kept = store.update((At("ssi", "node"), Keep("ssi", "node", DONE)))
    assert kept == store.read() == Progress(lesson="ssi", step="node", records={"ssi": {"node": DONE}})
    assert kept.figures("ssi") == {"a.ms": 37.0}
    assert store.update((Forget("ssi", ("node", "other")),)).records == {"ssi": {}}


def test_an_unreadable_file_is_put_aside(tmp_path: Path) -> None:
    store = Store("lab", tmp_path)
    store.path.write_text('{"version": 1, "les')
    assert store.read() == Progress()
    assert (tmp_path / "lab.unreadable").read_text() == '{"version": 1, "les'
    assert store.update((Keep("ssi", "node", DONE),)).solved("ssi", "node")


def _solve(directory: Path, steps: list[str]) -> None:
    store = Store("lab", directory)
    for step in steps:
        store.update((Keep("ssi", step, DONE),))


def test_two_at_once_add_to_one_record(tmp_path: Path) -> None:
    halves = [[f"{half}{n}" for n in range(40)] for half in "ab"]
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_solve, args=(tmp_path, half)) for half in halves]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    assert set(Store("lab", tmp_path).read().records["ssi"]) == {*halves[0], *halves[1]}
    multiprocessing.resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]  # it outlives them


def test_where_there_is_no_room_the_old_one_stays(tmp_path: Path) -> None:
    store = Store("lab", tmp_path)
    before = store.update((Keep("ssi", "one", DONE),))
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            store.update((Keep("ssi", "two", DONE),))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (_soft, hard))
    assert store.read() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lab.json", "lab.lock"]


def test_write_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(OSError, match="directory"):
        write(tmp_path / "there", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_the_result_file() -> None:
    progress = apply(Progress(), Keep("ssi", "one", DONE))
    found = json.loads(result(progress, "lab", {"ssi": ("one", "two"), "limits": ("three",)}))
    assert found["steps"] == {"ssi": 2, "limits": 1}
    assert found["solved"] == {"ssi": 1, "limits": 0}
    assert found["records"]["ssi"]["one"]["hints"] == 2
    assert {"version", "user", "lab", "written"} <= set(found)


names = st.sampled_from(["a", "b"])
changes: st.SearchStrategy[Change] = st.one_of(
    st.builds(At, names, names),
    st.builds(Keep, names, names, st.sampled_from([DONE, StepRecord(), StepRecord(hints=1)])),
    st.builds(Forget, names, st.lists(names).map(tuple)),
)


@given(st.lists(changes))
def test_solved_stays_solved_until_forgotten(sequence: list[Change]) -> None:
    progress, solved = Progress(), set[tuple[str, str]]()
    for change in sequence:
        progress = apply(progress, change)
        if isinstance(change, Keep) and change.record.solved:
            solved.add((change.lesson, change.step))
        elif isinstance(change, Forget):
            solved -= {(change.lesson, step) for step in change.steps}
        for lesson in "ab":
            for step in "ab":
                assert progress.solved(lesson, step) == ((lesson, step) in solved)

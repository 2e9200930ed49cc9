"""The course as a playbook: events in, names of actions out."""

from __future__ import annotations

from hypothesis import given, strategies as st

from omtools.shell import events as ev
from omtools.shell.course import Course
from omtools.shell.progress import Keep, Progress, StepRecord, apply
from omtools.shell.registry import Finding

from .samples import lesson

GOOD, BAD = Finding(True, "x", "x"), Finding(False, "x", "y")
LESSONS = [lesson("one", "two"), lesson("three", identity="later", number=2)]


def course(progress: Progress | None = None) -> Course:
    return Course(LESSONS, progress or Progress())


def names(actions: list[ev.Action]) -> list[str]:
    return [type(action).__name__ for action in actions if not isinstance(action, ev.Save)]


def found(lesson_id: str, step: str, *findings: Finding, asked: bool = False) -> ev.Found:
    return ev.Found(lesson_id, step, findings or (GOOD,), {f"{step}.word": "xx", "other.figure": 1.0}, asked)


def play(one: Course, *moves: ev.Event) -> list[str]:
    """Names of all actions; the n-th move happens at second n."""
    return [name for second, move in enumerate(moves) for name in names(one.handle(move, float(second)))]


def test_from_the_beginning_to_the_end() -> None:
    one = course()
    assert play(one, ev.Begin()) == ["Introduce", "Prepare", "Present"]
    assert play(one, found("sample", "one")) == ["StopWatching", "Celebrate"]
    assert one.step is not None
    assert one.step.id == "one"  # nobody is pushed on
    assert play(one, ev.Next()) == ["Prepare", "Present"]
    assert play(one, found("sample", "two")) == ["StopWatching", "Celebrate"]
    assert play(one, ev.Next()) == ["StopWatching", "LessonDone"]
    assert one.lesson.id == "sample"  # not into the next lesson either
    assert play(one, ev.Next()) == ["Introduce", "Prepare", "Present"]
    assert one.lesson.id == "later"
    assert play(one, found("later", "three"), ev.Next()) == ["StopWatching", "Celebrate", "StopWatching", "LessonDone"]
    assert play(one, ev.Next()) == ["Tell"]
    assert one.progress.solved("sample", "one")


def test_an_unsolved_step_is_left_only_when_asked_twice() -> None:
    one = course()
    assert play(one, ev.Begin(), ev.Next())[-1] == "Tell"
    assert play(one, ev.Hint(), ev.Next()) == ["TellHint", "Tell"]  # something else between: asked anew
    assert play(one, found("sample", "one", BAD), ev.Next()) == ["Prepare", "Present"]
    assert not one.progress.solved("sample", "one")


def test_who_found_the_solution_is_not_shown_it_again() -> None:
    for typed, known in (
        (("ls", "touch one", "mps", "echo x > one"), True),
        (("echo x > one", "touch one"), False),
        (("touch one; echo x > one",), False),
    ):
        one = course()
        play(one, ev.Begin())
        *_before, last = one.handle(ev.Found("sample", "one", (GOOD,), {}, typed=typed), 1.0)
        assert isinstance(last, ev.Celebrate)
        assert last.known == known


def test_hints_then_the_solution_and_what_is_noted() -> None:
    one = course()
    assert play(one, ev.Begin(), *[ev.Hint()] * 4)[3:] == ["TellHint"] * 3 + ["TellSolution"]
    record = one.progress.of("sample", "one")
    assert (record.hints, record.solution, record.solved) == (3, True, "")
    one.handle(found("sample", "one"), 61.0)
    record = one.progress.of("sample", "one")
    assert (record.hints, record.solution, record.seconds) == (3, True, 61.0)
    assert record.solved == "1970-01-01T00:01:01+00:00"
    assert record.figures == {"one.word": "xx"}  # its own, not those of other steps
    assert play(one, ev.Solution()) == ["TellSolution"]  # for comparison, costs nothing any more
    assert play(one, ev.Hint()) == ["TellSolution"]


def test_typing_goes_through_the_solution() -> None:
    one = course()
    one.handle(ev.Begin(), 0.0)
    typed = [action for _ in range(2) for action in one.handle(ev.TypeIt(), 0.0) if isinstance(action, ev.Type)]
    assert [(action.command, action.number, action.of) for action in typed] == [
        ("touch one", 1, 2), ("echo x > one", 2, 2),
    ]  # fmt: skip
    assert play(one, ev.TypeIt(), ev.TypeIt()) == ["Tell", "Type"]
    assert one.progress.of("sample", "one").solution


def test_findings_are_told_only_to_who_asked_and_late_ones_not_at_all() -> None:
    one = course()
    assert play(one, ev.Begin(), ev.Test())[-1] == "CheckNow"
    assert play(one, found("sample", "one", GOOD, BAD)) == []
    assert play(one, found("sample", "one", GOOD, BAD, asked=True)) == ["TellFindings"]
    assert play(one, found("sample", "two"), found("later", "one")) == []
    assert play(one, found("sample", "one", asked=True)) == ["StopWatching", "Celebrate"]  # what else is there to say
    assert play(one, found("sample", "one")) == []


def test_reset_asks_first() -> None:
    one = course()
    play(one, ev.Begin(), found("sample", "one"), ev.Next(), found("sample", "two"))
    assert play(one, ev.Reset("step")) == ["Ask"]
    assert play(one, ev.Reply(False)) == []
    assert one.progress.solved("sample", "two")
    assert play(one, ev.Reset("step"), ev.Reply(True)) == ["Ask", "Prepare", "Present"]
    assert not one.progress.solved("sample", "two")
    assert one.progress.solved("sample", "one")
    assert play(one, ev.Reset("lesson"), ev.Reply(True)) == ["Ask", "Prepare", "Present"]
    assert (one.at, one.progress.solved("sample", "one")) == (0, False)
    assert play(one, ev.Reset("lab"), ev.Reply(True)) == ["Ask", "StopWatching", "RebuildLab", "Prepare", "Present"]
    assert play(one, ev.Reply(True)) == []  # nothing was asked
    assert play(one, ev.Reset("lab"), ev.Show(), ev.Reply(True)) == ["Ask", "Present"]


def test_it_goes_on_where_it_was_left() -> None:
    one = course()
    play(one, ev.Begin(), found("sample", "one"), ev.Next(), ev.Hint())
    again = course(one.progress)
    assert play(again, ev.Begin()) == ["Prepare", "Present"]
    assert (again.lesson.id, again.at) == ("sample", 1)
    assert again.record.hints == 1
    solved = apply(one.progress, Keep("sample", "two", StepRecord("then")))
    assert play(course(solved), ev.Begin()) == ["Introduce", "Prepare", "Present"]  # all solved: from the start
    assert play(course(solved), ev.Begin("later")) == ["Introduce", "Prepare", "Present"]
    assert play(course(Progress(lesson="gone", step="too")), ev.Begin()) == ["Introduce", "Prepare", "Present"]
    assert play(course(Progress(lesson="sample", step="gone")), ev.Begin()) == ["Introduce", "Prepare", "Present"]


def test_sandbox_and_back() -> None:
    one = course()
    assert play(one, ev.Begin(), ev.Sandbox())[-2:] == ["StopWatching", "Tell"]
    assert play(one, found("sample", "one"), ev.Hint(), ev.Test()) == ["Tell", "Tell"]
    assert play(one, ev.Sandbox()) == ["Prepare", "Present"]
    assert play(one, ev.Contents(), ev.Quit()) == ["TellContents", "StopWatching", "Tell", "Leave"]


def test_going_somewhere() -> None:
    one = course()
    assert play(one, ev.Goto("sample", "two")) == ["Prepare", "Present"]
    (_save, prepare, _present) = one.handle(ev.Goto("sample", "two"), 0.0)
    assert isinstance(prepare, ev.Prepare)
    assert prepare.node == "mCii"


moves = st.one_of(
    st.builds(ev.Begin), st.builds(ev.Next), st.builds(ev.TypeIt), st.builds(ev.Hint), st.builds(ev.Solution),
    st.builds(ev.Test), st.builds(ev.Show), st.builds(ev.Contents), st.builds(ev.Sandbox),
    st.builds(ev.Goto, st.sampled_from(["sample", "later"])),
    st.builds(ev.Reset, st.sampled_from(["step", "lesson", "lab"])), st.builds(ev.Reply, st.booleans()),
    st.builds(found, st.sampled_from(["sample", "later"]), st.sampled_from(["one", "two", "three"]),
              st.sampled_from([GOOD, BAD]), asked=st.booleans()),
)  # fmt: skip


@given(st.lists(moves, max_size=40))
def test_whatever_happens_the_saved_changes_tell_all(sequence: list[ev.Event]) -> None:
    one, kept = course(), Progress()
    watching: tuple[str, str] | None = None
    for second, move in enumerate(sequence):
        solved_before = {(a, b) for a, steps in kept.records.items() for b in steps if kept.solved(a, b)}
        actions = one.handle(move, float(second))
        for action in actions:
            if isinstance(action, ev.Save):
                for change in action.changes:
                    kept = apply(kept, change)
            elif isinstance(action, ev.Prepare):
                watching = (action.lesson.id, action.step.id)
            elif isinstance(action, ev.StopWatching):
                watching = None
            elif isinstance(action, ev.Celebrate):
                assert isinstance(move, ev.Found)
                assert all(finding.ok for finding in move.findings)
        assert kept == one.progress
        if not isinstance(move, ev.Reply):  # only an agreed reset forgets
            assert solved_before <= {(a, b) for a, steps in kept.records.items() for b in steps if kept.solved(a, b)}
        if watching:
            assert one.step is not None
            assert watching == (one.lesson.id, one.step.id)

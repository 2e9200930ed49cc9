"""Recordings on a disk: written, thinned, resumed, read again, refused."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from recordings import BEGUN, record, recorded

from omtools.agent import api
from omtools.errors import BadRecording, CannotRecord, NoRecording, OmError, RecordedAlready
from omtui.model import used_memory
from omtui.recording import places
from omtui.recording.invented import picture_of
from omtui.recording.keeping import HOUR_MS, MINUTE_MS, Ages
from omtui.recording.picture import Picture, apply
from omtui.recording.places import alone, lock_of, recorded_by
from omtui.recording.reader import Recording
from omtui.recording.recorder import Recorder
from omtui.recording.replay import Replay
from omtui.recording.saving import save
from omtui.recording.schema import APPLICATION, VERSION
from omtui.world import World


def pictures_in(recording: Recording) -> dict[int, Picture]:
    found, picture = {}, Picture()
    for frame in recording.frames(0, 1 << 60):
        if frame.whole:
            picture = Picture()
        apply(picture, frame.change)
        found[frame.at] = Picture(picture.own, dict(picture.nodes), {n: dict(k) for n, k in picture.processes.items()}, dict(picture.local))
    return found


def test_what_was_written_is_read(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r")
    written = record(recorder, World(3, 20), 130)
    recording = Recording(tmp_path / "r")  # while it is being written
    assert recording.span() == (BEGUN, BEGUN + 129_000)
    assert recording.about() == {"own": "1", "name": "mCii", "begun": str(BEGUN)}
    assert list(pictures_in(recording).values()) == written
    assert sum(frame.whole for frame in recording.frames(0, 1 << 60)) == 3
    assert [recording.before(BEGUN + 1), recording.after(BEGUN + 1)] == [BEGUN, BEGUN + 1000]
    assert recording.before(BEGUN) is None
    assert recording.names() == {1: "mCii", 2: "metrakilate", 3: "ixchel"}
    recorder.checkpoint(BEGUN + 5, "it rains")
    assert recording.checkpoints() == [(BEGUN + 5, "it rains")]
    recording.close()
    recorder.close()


def test_sums_are_means_of_the_pictures(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r")
    written = record(recorder, World(2, 4, deaths=1e9), 60)
    recording = Recording(tmp_path / "r")
    first = next(one for one in recording.sums(BEGUN, BEGUN + 60_000, 10_000) if one.node == 2)
    loads = [picture.nodes[2].load for picture in written[:10]]
    assert first.load == pytest.approx(sum(loads) / 10)
    assert first.high == max(loads)
    assert first.used == pytest.approx(sum(used_memory(picture.nodes[2]) for picture in written[:10]) / 10)
    minute = [one for one in recording.sums(BEGUN, BEGUN + 60_000, MINUTE_MS) if one.node == 1]
    assert [one.at for one in minute] == [BEGUN]
    assert minute[0].load == pytest.approx(sum(picture.nodes[1].load for picture in written) / 60)
    recording.close()
    recorder.close()


def test_old_pictures_become_fewer_and_plots_stay(tmp_path: Path) -> None:
    ages = Ages(changes=2 * MINUTE_MS, whole=10 * MINUTE_MS, narrow=5 * MINUTE_MS, middle=HOUR_MS, all=HOUR_MS)
    recorder = Recorder(tmp_path / "r", ages)
    record(recorder, World(2, 4), 1500)
    recorder.thin(BEGUN + 1_500_000)
    recording = Recording(tmp_path / "r")
    times = [frame.at - BEGUN for frame in recording.frames(0, 1 << 60)]
    assert times[:4] == [0, 600_000, 900_000, 960_000]  # one in ten minutes, then one a minute
    assert times[-120:] == list(range(1_380_000, 1_500_000, 1000))  # and at last each
    assert {one.at for one in recording.sums(BEGUN, BEGUN + 1_500_000, 10_000)} == set(range(BEGUN, BEGUN + 1_500_000, MINUTE_MS))
    replay = Replay(recording)
    replay.go(BEGUN + 700_000)
    assert len(replay.state.nodes) == 2
    recording.close()
    recorder.close()


def test_no_more_than_was_allowed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r", limit=600_000)
    record(recorder, World(4, 30), 1200)
    assert recorder.used() < 700_000  # a minute's worth more, at most
    recording = Recording(tmp_path / "r")
    span = recording.span()
    assert span is not None
    assert span[1] == BEGUN + 1_199_000
    assert pictures_in(recording)[span[1]].nodes
    recording.close()
    recorder.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 6_000_000


def test_it_goes_on_after_a_stop_and_says_what_is_missing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r")
    record(recorder, World(2), 10)
    recorder.close()
    recorder = Recorder(tmp_path / "r")
    record(recorder, World(2), 10, BEGUN + HOUR_MS)
    recorder.write(BEGUN, picture_of(World(2)))  # the clock was set back
    recording = Recording(tmp_path / "r")
    assert recording.span() == (BEGUN, BEGUN + HOUR_MS + 9001)
    gap = recording.gap_at(BEGUN + MINUTE_MS)
    assert gap == (BEGUN + 9000, BEGUN + HOUR_MS, "omcollector did not run")
    replay = Replay(recording)
    replay.go(BEGUN + MINUTE_MS)
    assert replay.state.trouble == "Nothing was recorded then: omcollector did not run."
    replay.go(BEGUN + 5000)
    assert replay.state.trouble == ""
    recording.close()
    recorder.close()


_KILLED = """
import os, sys
from pathlib import Path
from recordings import record
from omtui.recording.recorder import Recorder
from omtui.world import World
recorder = Recorder(Path(sys.argv[1]))
record(recorder, World(3, 20), 70)
recorder._database.execute("BEGIN IMMEDIATE")
recorder._database.execute("DELETE FROM picture")
os.kill(os.getpid(), 9)
"""


def test_a_crash_loses_nothing_that_was_written(tmp_path: Path) -> None:
    path = ":".join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path / "r")], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == -9
    recording = Recording(tmp_path / "r")
    assert len(pictures_in(recording)) == 70
    recording.close()
    recorder = Recorder(tmp_path / "r")
    recorder.write(BEGUN + 80_000, picture_of(World(3, 20)))
    recorder.close()


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r")
    world = World(3, 20)
    written = record(recorder, world, 5)
    (pages,) = recorder._database.execute("PRAGMA page_count").fetchone()
    recorder._database.execute(f"PRAGMA max_page_count = {pages}")  # SQLite answers as it does where a disk is full
    big = picture_of(World(200, 400))
    for _attempt in range(2):
        with pytest.raises(CannotRecord, match=r"the disk is full.*kept"):
            recorder.write(BEGUN + 6000, big, [1], [(BEGUN, 1, api.SwitchChanged(1, 3))])
    recording = Recording(tmp_path / "r")
    assert list(pictures_in(recording).values()) == written
    before = len(recording.events(0, 1 << 60))
    recorder._database.execute("PRAGMA max_page_count = 1000000")
    recorder.write(BEGUN + 7000, big, [1], [(BEGUN + 7000, 1, api.SwitchChanged(1, 3))])
    assert pictures_in(recording)[BEGUN + 7000] == big
    assert len(recording.events(0, 1 << 60)) == before + 1
    recording.close()
    recorder.close()


def test_a_copy_is_one_file_that_opens_anywhere(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r")
    written = record(recorder, World(2, 5), 30)
    save(tmp_path / "r", tmp_path / "copy")
    with pytest.raises(CannotRecord, match="there already"):
        save(tmp_path / "r", tmp_path / "copy")
    recorder.close()
    (tmp_path / "copy").chmod(0o444)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy", "r"]
    recording = Recording(tmp_path / "copy")
    assert list(pictures_in(recording).values()) == written
    recording.close()
    with pytest.raises(CannotRecord):
        save(tmp_path / "r", tmp_path / "nowhere" / "copy")


def test_a_file_that_somebody_removed_is_begun_anew(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r")
    world = World(2)
    record(recorder, world, 10)
    for path in tmp_path.iterdir():
        path.unlink()
    record(recorder, world, 130, BEGUN + 10_000)
    recorder.close()
    recording = Recording(tmp_path / "r")
    found = pictures_in(recording)
    assert len(found) >= 65
    assert max(found) == BEGUN + 139_000
    recording.close()


def test_what_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(NoRecording, match="omcollector -d"):
        Recording(tmp_path / "none")
    (tmp_path / "text").write_text("x" * 5000)
    (tmp_path / "empty").touch()
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    recorded(tmp_path / "later", 2)
    with sqlite3.connect(tmp_path / "later") as later:
        assert later.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
        later.execute(f"PRAGMA user_version = {VERSION + 1}")
    later.close()
    recorded(tmp_path / "torn", 300)
    size = (tmp_path / "torn").stat().st_size
    os.truncate(tmp_path / "torn", size // 2)
    for name in ("text", "empty", "other", "later", "torn", "."):
        with pytest.raises((BadRecording, NoRecording)):
            pictures_in(Recording(tmp_path / name))
    for name in ("text", "other", "later", "."):
        before = (tmp_path / name).stat().st_size
        with pytest.raises(OmError):
            Recorder(tmp_path / name)
        assert (tmp_path / name).stat().st_size == before
    with pytest.raises(CannotRecord):
        Recorder(tmp_path / "text" / "r")


def test_one_collector_per_file(tmp_path: Path) -> None:
    path = tmp_path / "r"
    assert recorded_by(path) == 0
    with alone(path):
        assert recorded_by(path) == os.getpid()
        with pytest.raises(RecordedAlready, match=str(os.getpid())), alone(path):
            pass
    assert recorded_by(path) == 0
    assert lock_of(path).read_bytes() == b""
    with pytest.raises(CannotRecord), alone(tmp_path / "r.lock" / "x"):
        pass


def test_who_has_no_recording_sees_the_system_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENMOSIX_RUN", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(places, "SYSTEM", tmp_path / "system")
    own, system = tmp_path / "state" / "openmosix" / places.NAME, tmp_path / "system" / places.NAME
    assert (places.default_file(), places.file_to_read()) == (own, own)
    Recorder(system).close()
    assert (places.default_file(), places.file_to_read()) == (own, system)
    Recorder(own).close()
    assert places.file_to_read() == own
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert places.default_file() == system
    monkeypatch.setenv("OPENMOSIX_RUN", str(tmp_path / "node"))
    assert places.file_to_read() == tmp_path / "node" / places.NAME


def test_the_past_is_what_it_was(tmp_path: Path) -> None:
    """What a moment of the recording shows is what was seen live then."""
    recorder = Recorder(tmp_path / "r")
    written = record(recorder, World(4, 30), 200)
    recorder.close()
    recording = Recording(tmp_path / "r")
    replay = Replay(recording)
    for second in (150, 151, 60, 199, 0, 45):  # forward by steps, and jumps
        replay.go(BEGUN + 1000 * second)
        state, then = replay.state, written[second]
        assert {number: node.view for number, node in state.nodes.items()} == then.nodes
        assert {p.pid: p.command for p in state.processes if p.command} == {p.pid: p.command for p in then.local.values()}
        assert {p.pid: p.node for p in state.processes if p.known} == {
            info.local_pid: 0 if info.where == 1 else info.where for info in then.processes[1].values()
        }
        loads = [picture.nodes[2].load if picture.nodes[2].state == "up" else 0.0 for picture in written[: second + 1]]
        assert list(state.nodes[2].loads) == loads[-60:]
        assert all(when <= state.now() for when, _node, _event in state.happened)
    recording.close()

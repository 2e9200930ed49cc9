"""omsh as a learner has it: a program on a pseudo-terminal, keys in, a screen out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omtools.lab.lab import Lab

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
_SGR = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


class Learner:
    """Somebody at a terminal that answers where its cursor is, as real ones do."""

    def __init__(self, state: Path, *arguments: str, rows: int = 30, columns: int = 90, **variables: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        environment = {**os.environ, "XDG_STATE_HOME": str(state), "TERM": "xterm", "LC_ALL": "C.UTF-8",
                       "PYTHONPATH": str(ROOT), "LANGUAGE": "en", **variables}  # fmt: skip
        environment.pop("NO_COLOR", None)
        environment.update(variables)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "omtools.commands.omsh", *arguments],
            stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - a test, without threads
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def expect(self, *wanted: str) -> str:
        """Wait until these were shown one after the other since the last call; returns what was."""
        order = re.compile(b".*?".join(re.escape(word.encode()) for word in wanted), re.DOTALL)
        deadline = time.monotonic() + PATIENCE
        while not order.search(_SGR.sub(b"", self.seen)):
            data = self._read(deadline)
            assert data, (wanted, self.seen.decode(errors="replace")[-3000:])
            self.seen += data
        shown, self.seen = _SGR.sub(b"", self.seen).decode(errors="replace"), b""
        return shown

    def _read(self, deadline: float) -> bytes:
        ready, _w, _x = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
        data = b""
        with contextlib.suppress(OSError):
            data = os.read(self.master, 65536) if ready else b""
        if b"\x1b[6n" in data:
            os.write(self.master, b"\x1b[5;1R" * data.count(b"\x1b[6n"))
        return data

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def end(self) -> int:
        """Read to the end; returns the exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        os.close(self.master)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def learner(lab: Lab, tmp_path: Path) -> Iterator[Learner]:
    assert lab.nodes
    made = Learner(tmp_path)
    yield made
    made.close()


def test_a_session(learner: Learner, tmp_path: Path) -> None:
    shown = learner.expect("Lesson 0", "Goal:", "mCii:~ 0.1 $", "q quit")
    assert shown.count("n next  r run  h hint  l list  c check  x reset  q quit") >= 1
    learner.type("\x1bh")
    learner.expect("Hint 1 of 3", "0.1 $")
    learner.type("\x1bc")
    learner.expect("seen: not yet", "0.1 $")
    learner.type("hostname\r")
    learner.expect("Solved", "The answer was mCii", "The solution is the same", "0.1 $")
    learner.type(":n\r")
    learner.expect("0.2 To the other node", "mCii:~ 0.2 $")
    learner.type(":r\r")
    learner.expect("on metrakilate hostname", "metrakilate", "Solved", "0.2 $")
    # The shell over there ends while the prompt here stands, as when its machine is switched off.
    learner.type("on metrakilate (sleep .5; kill -9 $$) &\r")
    learner.expect("[1] ", "0.2 $")
    learner.type('sleep 1.5; echo aw""ake\r')
    learner.expect("awake", "0.2 $")
    learner.type("on metrakilate echo six times seven is $((6 * 7))\r")
    learner.expect("six times seven is 42", "0.2 $")
    # It must not fork: a shell that is stopped while it vforks hangs, whoever its own shell is.
    learner.type("perl -e '$|=1; while (1) { print qq(ti).qq(ck\\n); select undef, undef, undef, .1 }'\r")
    learner.expect("tick")
    learner.type("\x1a")
    learner.expect("Stopped", "0.2 $")
    learner.type("fg\r")
    learner.expect("tick")
    learner.type("\x03")
    learner.expect("0.2 $")
    # It hears of its new size by a signal, whenever that comes.
    learner.type('echo be""gun; until [ "$(stty size)" = "24 50" ]; do sleep .1; done; echo resi""zed\r')
    learner.expect("begun")
    learner.resize(24, 50)
    learner.expect("resized", "0.2 $")
    learner.type("on metrakilate\r")
    learner.expect("metrakilate:~ 0.2 $")
    learner.type(":quit\r")
    assert learner.end() == 0
    kept = json.loads((tmp_path / "openmosix" / "workshop" / f"{os.environ['OMLAB_NAME']}.json").read_text())
    assert kept["records"]["omsh"]["where-am-i"]["hints"] == 1
    assert kept["records"]["omsh"]["other-node"]["solution"]
    assert (kept["lesson"], kept["step"]) == ("omsh", "other-node")


@pytest.mark.usefixtures("lab")
def test_a_closed_window_is_gone_on_from(tmp_path: Path) -> None:
    first = Learner(tmp_path)
    first.expect("0.1 $")
    first.type("hostname\r")
    first.expect("Solved")
    os.close(first.master)
    first.process.wait(PATIENCE)
    again = Learner(tmp_path)
    try:
        again.expect("0.2 To the other node", "0.2 $")
        again.type(":q\r")
        assert again.end() == 0
    finally:
        again.close()


def test_ctrl_c_ends_nothing_but_what_is_being_typed_or_asked(learner: Learner, tmp_path: Path) -> None:
    learner.expect("0.1 $")
    learner.type("hostna\x03")
    learner.expect("0.1 $")
    learner.type(":reset\r")
    learner.expect("[y/N]")
    learner.type("\x03")
    learner.expect("0.1 $")
    # Said by the very process that is to end: a shell that is about to start it would take Ctrl-C for itself.
    learner.type("perl -e '$|=1; print \"be\",\"gun\"; sleep 1000'\r")
    learner.expect("begun")
    learner.type("\x03")
    learner.expect("0.1 $")
    learner.type("hostname\r")
    learner.expect("Solved", "0.1 $")
    learner.type(":q\r")
    assert learner.end() == 0
    assert (tmp_path / "openmosix" / "workshop").is_dir()


def test_two_at_once_on_one_lab_keep_what_both_solve(learner: Learner, tmp_path: Path) -> None:
    learner.expect("0.1 $")
    done = omsh(tmp_path, "--plain", "--lang", "en", stdin=":go 0 question\n:2\n")
    assert "Now you know" in done.stdout
    learner.type("hostname\r")
    learner.expect("Solved", "0.1 $")
    learner.type(":q\r")
    assert learner.end() == 0
    assert omsh(tmp_path, "--result", str(tmp_path / "r.json")).returncode == 0
    assert json.loads((tmp_path / "r.json").read_text())["solved"]["omsh"] == 2


@pytest.mark.usefixtures("lab")
def test_a_lesson_that_is_not_written_well_is_named_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    good = (ROOT / "lessons" / "en" / "00-omsh.md").read_text()
    (tmp_path / "en" / "00-omsh.md").write_text(good)
    (tmp_path / "en" / "01-broken.md").write_text(good.replace('id = "omsh"', 'id = "x"').replace("```solution", "```sol", 1))
    done = omsh(tmp_path, "--plain", stdin="hostname\n", OMSH_LESSONS=str(tmp_path))
    assert done.returncode == 53
    assert re.fullmatch(r"omsh: .*01-broken\.md, line \d+: .*\n", done.stderr), done.stderr
    assert done.stdout == ""


@pytest.mark.usefixtures("lab")
def test_forty_columns_no_colours_no_unicode_spanish(tmp_path: Path) -> None:
    one = Learner(tmp_path, "--lang", "es", columns=40, NO_COLOR="1", LC_ALL="C")
    try:
        one.expect("0.1 $")
        one.type("hostname\r")
        shown = one.expect("* Resuelto", "0.1 $")
        assert shown.isascii()
        assert b"\x1b[3" not in one.seen
        one.type("\x04")
        assert one.end() == 0
    finally:
        one.close()


def omsh(state: Path, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_STATE_HOME": str(state), "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **variables}
    return subprocess.run(
        [sys.executable, "-m", "omtools.commands.omsh", *arguments], input=stdin, env=environment, text=True,
        capture_output=True, check=False, timeout=PATIENCE,
    )  # fmt: skip


@pytest.mark.usefixtures("lab")
def test_lines_from_a_pipe_and_the_result(tmp_path: Path) -> None:
    lines = "hostname\n:next\n:next\n:nonsense\n:list\n:go 2 node\n:go 99\n:go 0 question\n:1\n:2\n:sandbox\necho $((6*7))\n"
    done = omsh(tmp_path, "--plain", "--lang", "en", stdin=lines)
    assert done.returncode == 0, done.stderr
    for wanted in ("The answer was mCii", "0.2 To the other node", "no `:nonsense`",
                   "13 Pull the cable (0/5)", "2.5 The node", "no lesson 99", "“1”, and that is not it", "Now you know",
                   "Sandbox", "42"):  # fmt: skip
        assert wanted in done.stdout, wanted
    assert "\x1b" not in done.stdout
    assert omsh(tmp_path, "--result", str(tmp_path / "r.json")).returncode == 0
    assert json.loads((tmp_path / "r.json").read_text())["solved"]["omsh"] == 2


@pytest.mark.usefixtures("lab")
def test_a_full_disk_is_told_and_the_course_goes_on() -> None:
    done = omsh(Path("/proc/nowhere"), "--plain", "--lang", "en", stdin="hostname\n")
    assert done.returncode == 0
    assert "Your progress could not be kept" in done.stdout
    assert "Solved" in done.stdout


def test_mistakes_on_the_command_line(tmp_path: Path) -> None:
    for arguments, status, words in (
        (["--lang", "xx"], 2, "none in xx"),
        (["--lesson", "99", "--play", "all"], 54, "no lesson 99"),
        (["host", "--play", "all"], 2, "for the lab"),
    ):
        done = omsh(tmp_path, *arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (status, False)
        assert words in done.stderr
    assert omsh(tmp_path, "--list", "--lang", "es").stdout.split("\n")[0].split() == ["0", "omsh", "Cómo", "se", "usa", "esto"]


def test_the_lab_is_killed_under_it(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMLAB_NAME", f"k{os.getpid()}")
        one = Learner(tmp_path, "--lang", "en")
        try:
            one.expect("A lab is up", "0.1 $")
            assert Lab.down()
            one.expect("mCii is gone", "Start a fresh lab?")
            one.type("y\r")
            one.expect("A fresh lab is up", "0.1 $")
            one.type("hostname\r")
            one.expect("Solved")
            one.type(":q\r")
            assert one.end() == 0
        finally:
            one.close()
            Lab.down()

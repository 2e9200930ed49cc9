from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.labs import Omlab, until


@pytest.fixture
def lab(omlab: Omlab) -> Omlab:
    omlab.ok("up")
    return omlab


def test_exit_status(lab: Omlab) -> None:
    for status in (0, 1, 7, 255):
        assert lab("exec", "mCii", "--", "sh", "-c", f"exit {status}").returncode == status
    for name in ("KILL", "TERM", "SEGV", "INT"):
        done = lab("exec", "mCii", "--", "sh", "-c", f"kill -{name} $$")
        assert done.returncode == 128 + signal.Signals[f"SIG{name}"]


def test_without_the_dashes_and_by_number(lab: Omlab) -> None:
    assert lab.ok("exec", "2", "hostname") == "metrakilate\n"
    assert lab.ok("exec", "MCII", "echo", "--", "-x") == "-- -x\n"


def test_standard_files(lab: Omlab) -> None:
    done = lab("exec", "mCii", "--", "sh", "-c", "cat; echo err >&2", stdin="one\ntwo\n")
    assert (done.stdout, done.stderr) == ("one\ntwo\n", "err\n")


def test_a_closed_pipe_ends_a_program_as_usual(lab: Omlab) -> None:
    process = lab.popen("exec", "mCii", "--", "yes", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "y\n"
    process.stdout.close()
    assert process.wait(20) == 128 + signal.SIGPIPE


def test_programs_that_are_not_there(lab: Omlab) -> None:
    done = lab("exec", "mCii", "--", "no-such-program")
    assert done.returncode == 127
    assert done.stderr.startswith("omlab: no-such-program: ")
    assert lab("exec", "mCii", "--", "/etc/passwd").returncode == 126


def test_unknown_node_and_nothing_to_run(lab: Omlab) -> None:
    done = lab("exec", "nowhere", "--", "true")
    assert done.returncode == 42
    assert "mCii, metrakilate" in done.stderr
    assert lab("exec", "mCii").returncode == 2
    assert lab("exec").returncode == 2
    assert lab("shell", "3").returncode == 42
    assert lab("env", "3").returncode == 42


def test_no_lab(my_omlab: Omlab) -> None:
    for command in (["exec", "mCii", "true"], ["shell", "mCii"], ["env", "mCii"], ["list"]):
        done = my_omlab(*command)
        assert done.returncode == 41
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "USR1"])
def test_signals_are_forwarded(lab: Omlab, name: str) -> None:
    script = f"trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.05; done"
    with lab.popen("exec", "mCii", "--", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.Signals[f"SIG{name}"])
        assert process.stdout.read() == "got\n"
        assert process.wait() == 9


def test_killed_helper_takes_its_program_along(lab: Omlab) -> None:
    script = "echo up; exec sleep 1000"
    with lab.popen("exec", "mCii", "--", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
        assert process.stdout.read() == ""  # nobody has it open any more
    processes = lab.ok("exec", "mCii", "--", "ps", "-A", "-o", "args=")
    assert "sleep 1000" not in processes


def test_background_processes_stay_and_are_reaped_by_the_node(lab: Omlab) -> None:
    lab.ok("exec", "mCii", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & (true &)")
    states = lab.ok("exec", "mCii", "--", "ps", "-A", "-o", "stat=,args=")
    assert "sleep 1000" in states
    assert "Z" not in re.findall(r"^\S+", states, re.MULTILINE)


def test_environment_and_directory(lab: Omlab) -> None:
    printed = lab.ok("exec", "mCii", "--", "env")
    values = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    assert values["OPENMOSIX_CONFIG"] == str(lab.directory / "mCii" / "etc")
    assert values["OPENMOSIX_RUN"] == str(lab.directory / "mCii" / "run")
    assert values["HOME"] == str(lab.directory / "mCii" / "home")
    assert values["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert values["OMLAB_NODE"] == "mCii"
    elsewhere = ["sh", "-c", 'cd /usr && exec "$@"', "-", sys.executable, "-m", "omtools.commands.omlab"]
    argv = lab.argv("exec", "mCii", "--", "pwd", program=elsewhere)
    done = subprocess.run(argv, env=lab.environment, capture_output=True, text=True, check=True)
    assert done.stdout == "/usr\n"


def test_env_prints_exports_that_a_shell_takes(lab: Omlab) -> None:
    exports = lab.ok("env", "metrakilate")
    script = f"{exports}\necho $OMLAB_NODE:$OPENMOSIX_RUN:$HOME"
    printed = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    base = lab.directory / "metrakilate"
    assert printed == f"metrakilate:{base}/run:{base}/home"


class Terminal:
    """A user at a terminal who types and reads."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, {**environment, "TERM": "dumb"})
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, pattern: str) -> str:
        deadline = time.monotonic() + 20
        while not (match := re.search(pattern, self.seen)):
            ready, _w, _x = select.select([self.fd], [], [], deadline - time.monotonic())
            assert ready, (pattern, self.seen)
            self.seen += os.read(self.fd, 4096).decode()
        self.seen = self.seen[match.end() :]
        return match.group()

    def end(self) -> int:
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return status


@pytest.fixture
def terminal(lab: Omlab) -> Terminal:
    return Terminal(lab.argv("shell", "mCii"), lab.environment)


def test_shell_with_job_control(terminal: Terminal) -> None:
    terminal.expect(r"mCii:~[#$] ")
    terminal.type("hostname; tty\n")
    terminal.expect(r"mCii\r\n/dev/pts/\d+\r\n")
    # it speaks up when it goes on: only then has the shell handed its terminal over
    program = r"""perl -e '$| = 1; $SIG{CONT} = sub { print "goes on\n" }; print "runs\n"; sleep 100 while 1'"""
    terminal.type(f"{program}\n")
    terminal.expect(r"\nruns\r\n")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("jobs -l; fg\n")
    terminal.expect(r"Stopped.*perl -e(.|\n)*\ngoes on\r\n")
    terminal.type("\x03")
    terminal.expect(r"mCii:~[#$] ")
    terminal.type("echo still here\n")
    terminal.expect("\nstill here")
    terminal.expect(r"mCii:~[#$] ")
    terminal.type("stty size; exit 5\n")
    terminal.expect(r"\d+ \d+")
    assert terminal.end() == 5


def test_shell_that_is_killed(terminal: Terminal) -> None:
    terminal.expect(r"mCii:~[#$] ")
    terminal.type("kill -9 $$\n")
    assert terminal.end() == 137


def test_shell_without_a_terminal_reads_a_script(lab: Omlab) -> None:
    done = lab("shell", "mCii", stdin="hostname\nexit 4\n")
    assert (done.stdout, done.returncode) == ("mCii\n", 4)


def test_ptrace_reaches_every_process_of_the_node(lab: Omlab) -> None:
    lab.ok("exec", "mCii", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $! > /tmp/pid")
    seize = (
        "import ctypes; c=ctypes.CDLL(None, use_errno=True); pid=int(open('/tmp/pid').read());"
        "print(c.ptrace(0x4206, pid, None, None))"  # PTRACE_SEIZE: linux/ptrace.h
    )
    assert lab.ok("exec", "mCii", "--", sys.executable, "-c", seize).strip() == "0"
    until(lambda: "sleep" in lab.ok("exec", "mCii", "--", "ps", "-A", "-o", "args="), "it lives on")

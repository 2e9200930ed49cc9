"""A shell on a node of a real lab."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from lab.labs import until

from omtools.errors import NodeShellError
from omtools.lab.lab import Lab
from omtools.shell.node_shell import NodeShell, on_lab_node


@pytest.fixture
def shell(lab: Lab) -> Iterator[NodeShell]:
    made = on_lab_node(lab, "mCii", (30, 100))
    yield made
    made.close()


def output(shell: NodeShell, line: str) -> str:
    return shell.run(line, 30).output


def test_lines_statuses_and_what_stays(shell: NodeShell) -> None:
    assert output(shell, "hostname; cd /tmp; x='a  b'") == "mCii\n"
    assert shell.directory == "/tmp"
    assert output(shell, 'echo "$x"; false') == "a  b\n"
    assert shell.status == 1
    assert output(shell, "echo $?") == "1\n"
    assert shell.run("sh -c 'exit 7'", 30).status == 7
    assert output(shell, "for i in 1 2\ndo\n  echo $i\ndone") == "1\n2\n"
    assert output(shell, f"echo {'x' * 9000} | wc -c") == "9001\n"
    ran = shell.run("echo 'open", 30)
    assert ran.status != 0
    assert "unexpected EOF" in ran.output


def test_the_terminal_is_a_real_one(shell: NodeShell) -> None:
    assert output(shell, "stty size; tty -s && echo yes") == "30 100\nyes\n"
    shell.resize(20, 40)
    assert output(shell, "stty size") == "20 40\n"
    assert {"echo", "icanon", "isig"} <= set(output(shell, "stty -a").split())


def read_until(shell: NodeShell, wanted: bytes) -> None:
    shown = b""
    while wanted not in shown:
        piece, ran = shell.read()
        shown += piece
        assert ran is None


def finish(shell: NodeShell) -> int:
    while True:
        _piece, ran = shell.read()
        if ran is not None:
            return ran.status


@pytest.fixture
def blocking(shell: NodeShell) -> NodeShell:
    os.set_blocking(shell.fileno(), True)
    return shell


def test_interrupt_stop_and_foreground(blocking: NodeShell) -> None:
    shell = blocking
    # It must not fork: a shell that is stopped while it vforks hangs, whoever its own shell is.
    shell.begin("perl -e '$|=1; while (1) { print qq(ti).qq(ck\\n); select undef, undef, undef, .1 }'")
    read_until(shell, b"tick")
    shell.type(b"\x1a")
    assert finish(shell) == 128 + 20  # SIGTSTP
    assert shell.jobs == 1
    assert "Stopped" in output(shell, "jobs")
    shell.begin("fg")
    read_until(shell, b"tick")
    shell.type(b"\x03")
    assert finish(shell) == 128 + 2  # SIGINT
    assert shell.jobs == 0


def test_keys_reach_the_program_and_what_it_leaves_is_no_command(blocking: NodeShell) -> None:
    shell = blocking
    shell.begin("echo begun; read -r word; echo got $word; read -r last; touch ~/ready")
    read_until(shell, b"begun")
    shell.type(b"hello\n")
    read_until(shell, b"got hello")
    shell.type(b"one\necho never > ~/never\n")
    finish(shell)
    assert output(shell, "ls ~/ready; ls ~/never 2>&1 | tail -c 10").endswith("directory\n")


def test_the_end_of_the_shell_is_told(shell: NodeShell) -> None:
    with pytest.raises(NodeShellError, match="mCii"):
        shell.run("exit 3", 30)


def test_a_line_that_takes_too_long_is_interrupted(shell: NodeShell) -> None:
    with pytest.raises(TimeoutError):
        shell.run("sleep 1000", 0.3)


def test_jobs_end_with_the_shell(lab: Lab) -> None:
    shell = on_lab_node(lab, "mCii")
    pid = output(shell, "sleep 999 & echo $!").split()[-1]
    assert lab.node("mCii").outside(f"/proc/{pid}/stat").exists()
    shell.close()
    until(lambda: not lab.node("mCii").outside(f"/proc/{pid}/stat").exists(), "the job lives on")


def test_no_shell_on_a_node_that_is_not_there(lab: Lab) -> None:
    with pytest.raises(NodeShellError, match="no node nowhere"):
        on_lab_node(lab, "nowhere")

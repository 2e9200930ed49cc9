from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from omtools.commands import _probes as probes, omcheck

CHECKOUT = Path(__file__).resolve().parents[2]

# A program that forbids itself some system calls (they fail with EPERM) and then is another program.
FORBID = """
import ctypes, os, struct, sys
from omtools.linux.libc import syscall
from omtools.linux.namespaces import set_no_new_privs
numbers = [int(n) for n in sys.argv[1].split(",")]
code = struct.pack("<HBBI", 0x20, 0, 0, 0)
for at, nr in enumerate(numbers):
    code += struct.pack("<HBBI", 0x15, len(numbers) - at, 0, nr)
code += struct.pack("<HBBIHBBI", 6, 0, 0, 0x7FFF0000, 6, 0, 0, 0x00050001)
kept = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(kept)))
set_no_new_privs()
syscall(317, 1, 0, ctypes.addressof(program))
os.execvp(sys.argv[2], sys.argv[2:])
"""


def check(*before: str, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [*before, sys.executable, "-m", "omtools.commands.omcheck", *(["--json"] if before else [])]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), **env}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_here_everything_needed_is_present() -> None:
    done = check()
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert "NO " not in done.stdout
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_json_is_complete() -> None:
    found = json.loads(check("env").stdout)
    assert found["works"] is True
    assert [one["name"] for one in found["checks"]] == [one.name for one in omcheck.CHECKS]
    assert len({one.name for one in omcheck.CHECKS}) == len(omcheck.CHECKS)
    for one in found["checks"]:
        assert bool(one["cost"]) == bool(one["remedy"]) == (not one["present"])


@pytest.mark.parametrize(
    ("number", "names", "works"),
    [
        (101, ["ptrace_child", "rseq", "proc_mem", "ptrace_any"], False),  # ptrace
        (310, ["process_vm"], False),  # process_vm_readv
        (317, ["seccomp_notify", "seccomp_continue", "seccomp_sync", "seccomp_addfd"], False),  # seccomp
        (438, ["pidfd_getfd", "seccomp_notify"], False),  # pidfd_getfd
        (272, ["namespaces", "set_tid", "time_namespace", "lab_proc"], False),  # unshare
        (435, ["set_tid", "time_namespace"], False),  # clone3
        (165, ["namespaces", "lab_proc"], False),  # mount
        (319, ["memfd_exec"], False),  # memfd_create
        (322, ["memfd_exec"], False),  # execveat
        (157, ["set_mm_map"], False),  # prctl
        (323, ["userfaultfd"], True),  # userfaultfd
    ],
)
def test_what_a_sandbox_forbids_is_found_missing(number: int, names: list[str], works: bool) -> None:
    done = check(sys.executable, "-c", FORBID, str(number))
    found = json.loads(done.stdout)
    missing = {one["name"] for one in found["checks"] if not one["present"]}
    assert set(names) <= missing
    assert found["works"] is works
    assert done.returncode == (0 if works else 1)
    detail = next(one["detail"] for one in found["checks"] if one["name"] == names[0])
    assert "not permitted" in detail


def test_the_table_names_cost_and_remedy() -> None:
    argv = [sys.executable, "-c", FORBID, "272", sys.executable, "-m", "omtools.commands.omcheck"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "NO " in done.stdout
    text = " ".join(done.stdout.split())
    assert "takes no guests" in text
    assert "sysctl" in text
    assert "cannot migrate here" in text


def test_a_probe_may_hang_crash_and_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang() -> str:
        signal.pause()
        return ""

    def crash() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    def fail() -> str:
        raise PermissionError(1, "Operation not permitted")

    def leave_children() -> str:
        if os.fork() == 0:
            signal.pause()
        return "fine"

    monkeypatch.setattr(probes, "PATIENCE", 0.2)
    assert probes.attempt(hang) == (False, "the attempt was killed or hung")
    assert probes.attempt(crash) == (False, "the attempt was killed or hung")
    assert probes.attempt(fail) == (False, "Operation not permitted")
    assert probes.attempt(leave_children) == (True, "fine")


def test_limits() -> None:
    import resource

    assert probes.attempt(probes.limit(resource.RLIMIT_NOFILE, 1))[0]
    assert not probes.attempt(probes.limit(resource.RLIMIT_NOFILE, 1 << 60))[0]


def test_the_filter_is_what_its_comment_says() -> None:
    instructions = list(struct.iter_unpack("<HBBI", probes._FILTER))
    assert instructions[1] == (0x15, 0, 1, 110)
    assert len(instructions) == 4


def test_unknown_options() -> None:
    assert omcheck.main(["--frob"]) == 2

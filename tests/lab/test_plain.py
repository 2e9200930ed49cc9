from __future__ import annotations

import subprocess
import sys

import pytest

from lab.labs import HERE, NOBODY, Omlab, until

FORBID = (
    "import os, sys; from pathlib import Path; from omtools.linux.namespaces import *;"
    "u, g = os.getuid(), os.getgid(); unshare(Clone.NEWUSER);"
    "write_id_maps([IdRange(0, u)], [IdRange(0, g)]);"
    "[Path(f'/proc/sys/user/max_{kind}_namespaces').write_text('0') for kind in ('user', 'pid', 'net')];"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


def test_plain_lab(omlab: Omlab) -> None:
    omlab.ok("up", "--plain")
    found = omlab.status()
    assert found["mode"] == "plain"
    assert found["reason"] == ""
    addresses = [node["address"] for node in found["nodes"]]
    assert len(set(addresses)) == 2
    assert all(address.startswith("127.") for address in addresses)
    printed = omlab.ok("exec", "2", "--", "sh", "-c", "echo $OMLAB_NODE $TMPDIR $HOME")
    base = omlab.directory / "metrakilate"
    assert printed.split() == ["metrakilate", f"{base}/tmp", f"{base}/home"]
    assert omlab("exec", "2", "--", "sh", "-c", "exit 3").returncode == 3
    assert omlab.ok("up").count("mCii") == 2
    omlab.ok("exec", "mCii", "--", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &")
    assert any(omlab.processes())
    omlab.ok("down")
    assert omlab.processes() == []


def test_plain_lab_with_a_dead_agent(my_omlab: Omlab) -> None:
    my_omlab.ok("up", "--plain")
    before = my_omlab.status()["nodes"]
    subprocess.run(["kill", "-9", str(before[0]["agent_pid"])], check=True)
    until(lambda: not my_omlab.status()["nodes"][0]["agent"], "it ends")
    my_omlab.ok("up")
    assert my_omlab.status()["nodes"][0]["agent"]


def test_two_plain_labs_do_not_meet(my_omlab: Omlab) -> None:
    my_omlab.ok("up", "--plain")
    first = my_omlab.status()["nodes"][0]["address"]
    other = f"{my_omlab.name}b"
    try:
        assert my_omlab.ok("up", "--plain", OMLAB_NAME=other)
        assert first not in my_omlab.ok("list", OMLAB_NAME=other)
    finally:
        my_omlab("down", OMLAB_NAME=other)
    assert my_omlab("status").returncode == 0


def test_where_namespaces_are_forbidden_it_says_so(omlab: Omlab) -> None:
    if omlab.user == "root":
        pytest.skip("root is not forbidden anything")
    inner = [sys.executable, "-c", FORBID, sys.executable, "-m", "omtools.commands.omlab"]
    if omlab.user == "nobody":
        inner = [sys.executable, str(HERE / "as_nobody.py"), str(NOBODY), str(omlab.runtime), *inner]

    def forbidden(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*inner, *args], env=omlab.environment, capture_output=True, text=True, timeout=60, check=False
        )

    done = forbidden("up")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert "plain processes" in done.stderr
    assert forbidden("exec", "mCii", "--", "sh", "-c", "exit 6").returncode == 6
    assert forbidden("down").returncode == 0

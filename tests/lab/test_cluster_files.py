"""The files of all nodes on every node, in a real lab: oMFS, and DFSA by migrated processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lab.labs import Omlab, until

READER = """
import os, sys
print(os.getpid(), flush=True)
data = open("/omfs/metrakilate/tmp/data", "r+b", buffering=0)
own = open(os.environ["HOME"] + "/own", "w+b", buffering=0)
for word in sys.stdin:
    own.write(word.encode())
    print(word.strip(), data.read(10), data.tell(), own.tell(), flush=True)
own.seek(0)
print(own.read(), flush=True)
"""


@pytest.fixture
def cluster(my_omlab: Omlab) -> Iterator[Omlab]:
    """A lab with real agents."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this user may not open /dev/fuse")
    del my_omlab.environment["OMLAB_AGENT"]
    my_omlab.ok("up")
    yield my_omlab
    my_omlab.ok("down")


@pytest.mark.skipif(os.access("/dev/fuse", os.R_OK | os.W_OK) and os.geteuid() > 0, reason="FUSE is open to all")
def test_without_fuse_an_agent_serves_all_the_same(omlab: Omlab) -> None:
    del omlab.environment["OMLAB_AGENT"]
    omlab.ok("up")
    found = omlab("exec", "mCii", "--", "sh", "-c", f"{command('mosctl')} status; ls /omfs/2 /dev/fuse")
    assert "Status: 3 (CONF UP)" in found.stdout
    log = (omlab.directory / "mCii" / "agent.log").read_text()
    mounted = "the files of the cluster are mounted" in log
    assert mounted == (found.returncode == 0)
    assert mounted or "/dev/fuse may not be opened; as root: `chmod 666 /dev/fuse`" in log


def on(lab: Omlab, node: str, script: str) -> subprocess.CompletedProcess[str]:
    return lab("exec", node, "--", "sh", "-c", script)


def told(lab: Omlab, node: str, script: str) -> str:
    done = on(lab, node, script)
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout


def command(name: str) -> str:
    return f"{sys.executable} -m omtools.commands.{name}"


class Reader:
    """`READER` on mCii."""

    def __init__(self, lab: Omlab) -> None:
        self.lab = lab
        self.popen = lab.popen(
            "exec", "mCii", "--", sys.executable, "-c", READER, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pid = self.line()

    def line(self) -> str:
        assert self.popen.stdout is not None
        return str(self.popen.stdout.readline()).strip()

    def say(self, word: str) -> str:
        assert self.popen.stdin is not None
        self.popen.stdin.write(word + "\n")
        self.popen.stdin.flush()
        return self.line()

    def go(self, where: str) -> None:
        told(self.lab, "mCii", f"{command('migrate')} {self.pid} {where}")

    def end(self) -> str:
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        last = self.line()
        assert self.popen.wait(20) == 0
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        return last


def test_every_node_has_the_files_of_all(cluster: Omlab) -> None:
    listed = told(cluster, "mCii", "ls /omfs").split()
    assert {"1", "2", "mCii", "metrakilate", "here", "home", "magic"} <= set(listed)
    assert told(cluster, "metrakilate", "readlink /omfs/here /omfs/mCii").split() == ["2", "1"]
    told(cluster, "mCii", "echo first > /omfs/2/tmp/file && chmod 640 /omfs/2/tmp/file")
    assert told(cluster, "metrakilate", "cat /tmp/file; stat -c %a /tmp/file") == "first\n640\n"
    told(cluster, "metrakilate", "echo second >> /tmp/file; ln /tmp/file /tmp/other")
    assert told(cluster, "mCii", "cat /omfs/metrakilate/tmp/other; stat -c '%h %s' /omfs/2/tmp/file") == (
        "first\nsecond\n2 13\n"
    )
    assert on(cluster, "mCii", "cat /omfs/2/proc/self/status").returncode == 1
    assert on(cluster, "mCii", "ls /omfs/2/omfs/1").returncode == 2
    assert on(cluster, "mCii", "ls /omfs/3").returncode == 2


AS_OTHERS = """
import os, sys
top = sys.argv[1]
os.chmod(top, 0o777)
for uid, gid, groups in (1234, 4321, [5001]), (1234, 4321, [5002]), (0, 77, []):
    if os.fork() == 0:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        name = f"{top}/{uid}-{gid}-{groups}"
        open(name, "x").close()
        try:
            if groups:
                os.chown(name, -1, 5001)
        except PermissionError:
            pass
        made = os.stat(name)
        print(made.st_uid, made.st_gid, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def test_a_process_has_its_own_groups_everywhere(cluster: Omlab) -> None:
    if os.geteuid() != 0:
        pytest.skip("root is not forbidden anything, and only root becomes others")
    told(cluster, "metrakilate", "mkdir /tmp/there")
    for top in ("/omfs/2/tmp/there", "/omfs/1/tmp/here"):
        told(cluster, "mCii", "mkdir -p /tmp/here")
        done = cluster("exec", "mCii", "--", sys.executable, "-c", AS_OTHERS, top)
        assert done.stdout == "1234 5001\n1234 4321\n0 77\n", done.stderr


def test_a_process_and_its_children_select_a_node(cluster: Omlab) -> None:
    told(cluster, "metrakilate", "echo there > /tmp/file")
    script = "echo {} > /omfs/select && sh -c 'cat /omfs/select /omfs/selected/tmp/file'"
    assert told(cluster, "mCii", script.format("metrakilate")) == "2\nthere\n"
    assert told(cluster, "mCii", "cat /omfs/select; ls -d /omfs/selected/ || echo none") == "0\nnone\n"
    assert on(cluster, "mCii", "echo 3 > /omfs/select").returncode != 0


def test_files_are_opened_where_the_process_runs(cluster: Omlab) -> None:
    told(cluster, "metrakilate", "seq -w 1 200 | tr '\\n' ' ' > /tmp/data")
    reader = Reader(cluster)
    assert reader.say("one") == "one b'001 002 00' 10 4"
    reader.go("metrakilate")
    assert reader.say("two") == "two b'3 004 005 ' 20 8"
    opened = "for p in /proc/[0-9]*; do readlink $p/fd/3; done | grep -cx /tmp/data; true"
    assert told(cluster, "metrakilate", opened) == "1\n"
    reader.go("home")
    assert reader.say("three") == "three b'006 007 00' 30 14"
    reader.go("metrakilate")
    assert reader.say("four") == "four b'8 009 010 ' 40 19"
    assert reader.end() == "b'one\\ntwo\\nthree\\nfour\\n'"
    told(cluster, "mCii", f"{command('mosctl')} nodfsa")
    reader = Reader(cluster)
    reader.go("metrakilate")
    assert reader.say("one") == "one b'001 002 00' 10 4"
    assert told(cluster, "metrakilate", opened) == "0\n"
    assert reader.end() == "b'one\\n'"


def test_a_node_may_keep_its_files(cluster: Omlab) -> None:
    assert told(cluster, "mCii", "ls -d /omfs/2/tmp") == "/omfs/2/tmp\n"
    assert "nomfs" in told(cluster, "metrakilate", f"{command('mosctl')} nomfs; {command('mosctl')} --help")
    assert "NOMFS" in told(cluster, "mCii", f"{command('mosctl')} status 2")
    done = on(cluster, "mCii", "ls -d /omfs/2/tmp")
    assert "ermission denied" in done.stderr
    told(cluster, "metrakilate", f"{command('mosctl')} mfs")
    until(lambda: on(cluster, "mCii", "ls -d /omfs/2/tmp").returncode == 0, "it gives them again")


def test_a_server_that_dies_is_replaced_and_a_node_that_is_down_is_no_trap(cluster: Omlab) -> None:
    told(cluster, "metrakilate", "echo here > /tmp/file")
    assert told(cluster, "mCii", "cat /omfs/2/tmp/file") == "here\n"
    server = "ps axo pid,args | awk '/omfs.serving/ && !/awk/ {print $1}'"
    told(cluster, "metrakilate", f"kill -9 $({server})")
    until(lambda: on(cluster, "mCii", "cat /omfs/2/tmp/file").stdout == "here\n", "there is a new one")
    everything = "ps axo pid,args | awk '/omfs.serving|omagentd/ && !/awk/ {print $1}'"
    told(cluster, "metrakilate", f"kill -9 $({everything})")
    done = on(cluster, "mCii", "cat /omfs/2/tmp/file")
    assert "Host is down" in done.stderr or "error" in done.stderr
    cluster.ok("up")
    until(lambda: on(cluster, "mCii", "cat /omfs/2/tmp/file").stdout == "here\n", "it is back")


def test_the_mount_outlives_its_agent_when_somebody_needs_it(cluster: Omlab) -> None:
    told(cluster, "metrakilate", "seq -w 1 200 | tr '\\n' ' ' > /tmp/data")
    reader = Reader(cluster)
    reader.go("metrakilate")
    assert reader.say("one") == "one b'001 002 00' 10 4"
    for node in ("mCii", "metrakilate"):
        agent = "ps axo pid,args | awk '/omagentd/ && !/awk/ {print $1}'"
        told(cluster, node, f"kill $({agent})")
    assert reader.say("two") == "two b'3 004 005 ' 20 8"
    cluster.ok("up")
    assert reader.say("three") == "three b'006 007 00' 30 14"
    reader.go("home")
    assert reader.end() == "b'one\\ntwo\\nthree\\n'"


HUNGRY = """
import os
file = os.open("/omfs/2/tmp/big", os.O_RDONLY)
total = 0
while not os.path.exists("/tmp/enough"):
    for _turn in range(64):
        total += len(os.read(file, 1 << 16))
print(total)
"""


def test_a_process_goes_to_the_files_that_it_reads(cluster: Omlab) -> None:
    """It is at home, and another node's files pass through the mount; its own node has the same load."""
    told(cluster, "metrakilate", "truncate -s 4T /tmp/big")
    events = cluster.popen("exec", "mCii", "--", *command("mosctl").split(), "events", stdout=subprocess.PIPE)
    hungry = cluster.popen(
        "exec", "mCii", "--", *command("mosrun").split(), "-l", sys.executable, "-c", HUNGRY, stdout=subprocess.PIPE
    )
    assert events.stdout is not None
    assert hungry.stdout is not None
    try:
        event: dict[str, Any] = {}
        while event.get("what") != "move":
            event = json.loads(events.stdout.readline())
        assert (event["reason"], event["target"]) == ("files", 2)
        figures = event["figures"]
        assert figures["io_bytes_per_s"] > 64 << 10
        assert figures["stay_s"] > figures["go_s"]
        mps = f"{command('mps')} --io --json"
        until(lambda: _native_bytes(told(cluster, "mCii", mps)) > 8 << 20, "it reads there")
        until(lambda: _native_bytes(told(cluster, "metrakilate", f"{mps} --guests")) > 8 << 20, "its host knows")
        listed = told(cluster, "mCii", f"{command('mps')} --files").splitlines()
        assert listed[1].split()[1:3] == ["2", "2"]
        assert listed[1].endswith("/omfs/2/tmp/big")
    finally:
        told(cluster, "mCii", "touch /tmp/enough")
        events.terminate()
        events.communicate()
        assert int(hungry.communicate(timeout=30)[0]) % (1 << 22) == 0


def _native_bytes(listed: str) -> int:
    """What a process, the only one, has read of node 2's files."""
    return sum(one["read"] for info in json.loads(listed) for one in info["io"] if one["node"] == 2)

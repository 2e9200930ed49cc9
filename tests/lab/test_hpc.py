"""What was /proc/hpc, in a real lab: real processes are moved by echo."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from lab.labs import Omlab, until


@pytest.fixture
def cluster(my_omlab: Omlab) -> Iterator[Omlab]:
    """A lab with real agents."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this user may not open /dev/fuse")
    del my_omlab.environment["OMLAB_AGENT"]
    my_omlab.ok("up")
    yield my_omlab
    my_omlab.ok("down")


def told(lab: Omlab, node: str, script: str) -> str:
    done = lab("exec", node, "--", "bash", "-c", script)
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    return done.stdout.strip()


def test_a_process_is_moved_by_echo_and_by_itself(cluster: Omlab) -> None:
    mover = cluster.popen(
        "exec", "mCii", "--", "bash", "-c",
        # a shell that asks for its own move, and works on there: only builtins, for a fork brings it home
        "echo $$; read x; echo 2 > /hpc/self/goto; while read -r line; do eval $line; done",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert mover.stdin is not None
    assert mover.stdout is not None
    pid = int(mover.stdout.readline())
    mover.stdin.write("go\n")
    mover.stdin.flush()
    until(lambda: told(cluster, "mCii", f"cat /hpc/{pid}/where") == "2", "the shell has moved itself")
    (guest,) = told(cluster, "metrakilate", "ls /hpc/remote").split()
    of_guest = f"cd /hpc/remote/{guest}; cat from statm stats identity"
    home, statm, stats, identity = told(cluster, "metrakilate", of_guest).split("\n")
    assert (home, identity.split()[:2]) == ("1", [f"pid={pid}", "home=1"])
    assert int(statm.split()[1]) > 0
    assert stats.startswith("utime=")
    mover.stdin.write("read -r w < /hpc/$$/where; read -r s < /hpc/self/where; echo $w $s\n")
    mover.stdin.flush()
    assert mover.stdout.readline() == "2 2\n", "away, it reads the files of its home, as itself"
    mover.stdin.write("echo 1 > /hpc/decay/cpujob; read -r d < /hpc/decay/cpujob; echo $d\n")
    mover.stdin.flush()
    assert mover.stdout.readline() == "1\n"
    assert told(cluster, "mCii", "cat /hpc/decay/cpujob; ls /omfs/2/hpc") == "0", "it was the mover's own, and stays"
    told(cluster, "metrakilate", f"echo 1 > /hpc/remote/{guest}/goto")
    assert told(cluster, "mCii", f"cat /hpc/{pid}/where /hpc/{pid}/cantmove") == "0"
    told(cluster, "mCii", f"echo 1 > /hpc/{pid}/migfilter; echo 2 > /hpc/{pid}/selected")
    both = "echo 2 > /hpc/self/selected; readlink /omfs/selected; echo mCii > /omfs/select; cat /hpc/self/selected"
    assert told(cluster, "mCii", both) == "2\n1"
    mover.stdin.close()
    assert mover.wait(20) == 0
    mover.stdout.close()

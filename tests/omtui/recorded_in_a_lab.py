"""A process moves away and home while omcollector records. Run by test_recorded_in_a_lab.py on mCii."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from pathlib import Path

from omtools.agent import api
from omtools.agent.client import Client
from omtui.recording.places import default_file
from omtui.recording.reader import Recording

_PATIENCE = 30.0  # less than that of the command which runs this, so that it is this that says what is missing
_WORK = "n = 0\nwhile True: n += 1"


def collector(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "omtui.collector.main", *words], check=True, timeout=_PATIENCE)


def both_nodes_asked() -> None:
    """Until both nodes' processes have been listed: only from one list to the next is it seen who came."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        recording = Recording(default_file())
        asked = {node for frame in recording.frames(0, 1 << 60) for node in frame.change.asked}
        recording.close()
        if len(asked) == 2:
            return
        time.sleep(0.1)
    raise AssertionError(asked)


def seen(pid: int, phase: str, home: int) -> None:
    """Until both nodes' lists are recorded with the process in that phase, the other one's as a guest."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        recording = Recording(default_file())
        events = [one for one in recording.events(0, 1 << 60) if isinstance(one.event, api.ProcessChanged)]
        recording.close()
        found = {(one.node, one.event.process.phase, one.event.gone) for one in events
                 if isinstance(one.event, api.ProcessChanged) and one.event.process.pid == pid}  # fmt: skip
        own = any(node == home and found_phase == phase for node, found_phase, _gone in found)
        guest = any(node != home and gone == (phase == "home") for node, _phase, gone in found)
        if own and guest:
            return
        time.sleep(0.1)
    raise AssertionError((pid, phase, found))


def decided_elsewhere(home: int) -> None:
    """Until a decision of the other node's balancer is recorded, which no list shows."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        recording = Recording(default_file())
        found = [one for one in recording.events(0, 1 << 60) if isinstance(one.event, api.Decided)]
        recording.close()
        if any(one.node != home for one in found):
            return
        time.sleep(0.1)
    raise AssertionError(found)


def main() -> None:
    collector("-d")
    both_nodes_asked()
    worker = subprocess.Popen([sys.executable, "-c", _WORK])
    try:
        with Client(name="test") as agent:
            home = agent.hello.node
            agent.call(api.Migrate(worker.pid, "metrakilate"), api.Moved)
            seen(worker.pid, "away", home)
            decided_elsewhere(home)
            collector("-n", "it was away")
            agent.call(api.Migrate(worker.pid, "home"), api.Moved)
            seen(worker.pid, "home", home)
    finally:
        worker.kill()
        worker.wait()
    collector("-k")
    collector("--save", "/tmp/copy")
    print(worker.pid)
    print(base64.b64encode(Path("/tmp/copy").read_bytes()).decode())  # a node's /tmp is its own


if __name__ == "__main__":
    main()

"""The command `omlab` as tests run it, and the check that nothing of a lab remains."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from short import short_directory

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
NOBODY = 65534
_counter = itertools.count(1)
ORDINARY = "nobody" if os.geteuid() == 0 else "self"
an_ordinary_user_s = pytest.mark.parametrize("omlab", [ORDINARY], indirect=True)
"""The fixture `omlab` is that of an ordinary user only."""


class Omlab:
    """The command `omlab`, run by some user for a lab of its own name."""

    def __init__(self, user: str, runtime: Path) -> None:
        self.user = user
        self.runtime = runtime
        self.name = f"t{os.getpid()}-{next(_counter)}"
        self.environment = {
            **os.environ,
            "OMLAB_NAME": self.name,
            "OMLAB_AGENT": f"{sys.executable} {HERE / 'agent_stand_in.py'}",
            "PYTHONPATH": str(CHECKOUT),
            "XDG_RUNTIME_DIR": str(runtime),
            "SHELL": "/bin/bash",
        }
        for name in ("OMLAB_DIR", "OMLAB_NODE"):
            self.environment.pop(name, None)

    @property
    def directory(self) -> Path:
        base = Path("/run") if self.user == "root" else self.runtime
        return base / "omlab" / self.name

    def argv(self, *args: str, program: list[str] | None = None) -> list[str]:
        found = [*(program or [sys.executable, "-m", "omtools.commands.omlab"]), *args]
        if self.user == "nobody":
            found = [sys.executable, str(HERE / "as_nobody.py"), str(NOBODY), str(self.runtime), *found]
        return found

    def __call__(self, *args: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*args), input=stdin, env={**self.environment, **env}, text=True, capture_output=True,
            timeout=60, check=False,
        )

    def ok(self, *args: str, **more: str) -> str:
        done = self(*args, **more)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def popen(self, *args: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(self.argv(*args), env=self.environment, text=True, **more)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", "--json").stdout)
        return found

    def processes(self) -> list[int]:
        """Living processes that carry the lab's mark, or name its directory."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                text = b"".join(Path(f"/proc/{entry}/{name}").read_bytes() for name in ("environ", "cmdline"))
            except OSError:
                continue
            if os.fsencode(self.directory) in text:
                found.append(int(entry))
        return found


def until(true: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Wait for something that announces itself by nothing but being so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def _surroundings() -> tuple[str, list[str]]:
    links = [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    return Path("/proc/self/mountinfo").read_text(), sorted(links)


def labs_of(user: str) -> Iterator[Omlab]:
    # a short path: unix sockets are made below it
    runtime = short_directory()
    if user == "nobody":
        os.chown(runtime, NOBODY, NOBODY)
    lab = Omlab(user, runtime)
    before = _surroundings()
    try:
        yield lab
        lab.ok("down")
        assert not lab.directory.exists()
        until(lambda: not lab.processes(), "processes remain")
        assert _surroundings() == before
        assert not list(runtime.glob("omlab"))
    finally:
        lab("down")
        shutil.rmtree(runtime, ignore_errors=True)

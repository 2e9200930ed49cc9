"""MCii before omsh where it is this machine (`omlab up --metal=here`): its namespaces are entered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from omtools.lab.metal.lab import MetalLab
from omtools.lab.settings import PACKAGE_HOME, NodeFiles
from omtools.shell.entrance import MACHINE, TOOLS
from omtools.shell.node_shell import EnteredTerminal, NodeShell

_PATIENCE = 10.0


class HereMachine:
    """This machine as mCii.

    Args:
        lab: which is up.
        name: of the machine.
    """

    def __init__(self, lab: MetalLab, name: str) -> None:
        self._lab = lab
        self.name = name
        self.home = NodeFiles(lab.directory, name).home
        self._tools = _furnish(lab, name)

    @property
    def _pid(self) -> int:
        """Process 1 of it; raises MetalMachineOff."""
        return int(self._lab.powered(self.name)["pid"])

    def shell(self, size: tuple[int, int]) -> NodeShell:
        """Start a shell; raises NodeShellError or MetalMachineOff."""
        variables = {"OMLAB_NAME": self._lab.state.name, MACHINE: str(self._pid), TOOLS: str(self._tools)}
        return NodeShell(
            self.name, lambda command, window: EnteredTerminal(self.name, command, variables, window), size
        )

    def read(self, path: str) -> str | None:
        """A file as it is seen there; None if there is none. Raises MetalMachineOff."""
        pid = self._pid
        if path.startswith("~/"):
            place = self.home / path[2:]
        elif path.startswith("/proc/net/"):  # a link to who looks, and we are nobody in there
            place = Path(f"/proc/{pid}/net", path.removeprefix("/proc/net/"))
        else:
            place = Path(f"/proc/{pid}/root{path}")
        try:
            return place.read_text(errors="replace")
        except OSError:
            return None

    def run(self, command: str, given: str = "") -> str | None:
        """What a command prints; None if it fails."""
        paths = [str(PACKAGE_HOME), *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
        environment = {**os.environ, "OMLAB_NAME": self._lab.state.name, "PYTHONPATH": ":".join(paths)}
        argv = [sys.executable, "-m", "omtools.commands.omlab", "exec", self.name, "--", "sh", "-c"]
        try:
            done = subprocess.run(
                [*argv, f"cd; {command}"], env=environment, input=given, text=True, errors="replace",
                capture_output=True, check=False, timeout=_PATIENCE,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
        return done.stdout if done.returncode == 0 else None


def _furnish(lab: MetalLab, name: str) -> Path:
    """Names for what lessons use, if busybox can do it and no program of this machine. Raises OSError."""
    place = lab.directory / name / "busybox"
    place.mkdir(mode=0o700, exist_ok=True)
    busybox = shutil.which("busybox")
    if busybox is not None:
        listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=False).stdout
        for applet in listed.split():
            path = place / applet
            if shutil.which(applet) is None and not path.is_symlink():
                path.symlink_to(busybox)
    return place

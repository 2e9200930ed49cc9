"""A lab of machines in front of omsh: shells on them over SSH, and one on the machine where you sit.

That one is called ``here``. On it are the switches of the machines: ``power``, ``cable``, ``console``,
``events``; wherever the learner's shell is, these words mean the ones here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncssh

from omtools.errors import LabNotUp, LoginFailed, MetalMachineOff, NodeShellError, OmError
from omtools.i18n import _
from omtools.lab.metal import plan
from omtools.lab.metal.lab import MetalLab
from omtools.lab.metal.way import reach
from omtools.lab.settings import PACKAGE_HOME
from omtools.shell.cluster import listing
from omtools.shell.entrance import TOOLS
from omtools.shell.here import HereMachine
from omtools.shell.node_shell import EnteredTerminal, NodeShell
from omtools.shell.ssh import SshCluster, SshLoop

HERE = "here"
SWITCHES = ("power", "cable", "console", "events")

_SCRIPT = """\
#!{python}
import sys
sys.path.insert(0, {home!r})
from omtools.commands.omlab import main
sys.exit(main([{name!r}, *sys.argv[1:]]))
"""


def furnish(lab: MetalLab) -> Path:
    """Put the switches into a directory of the lab, for the PATH of the shell here. Raises OSError."""
    place = lab.directory / "bin"
    place.mkdir(mode=0o700, exist_ok=True)
    for name in SWITCHES:
        path = place / name
        if not path.exists():
            path.write_text(_SCRIPT.format(python=sys.executable, home=str(PACKAGE_HOME), name=name))
            path.chmod(0o700)
    return place


class MetalCluster(SshCluster):
    """The machines of a lab that is up.

    Args:
        lab: mCii has booted.
    """

    def __init__(self, lab: MetalLab) -> None:
        self.lab = lab
        self._tools = furnish(lab)
        self._loop = SshLoop()
        self._connections: dict[str, asyncssh.SSHClientConnection] = {}
        self._homes = {HERE: str(Path.home())}
        self._foreign: dict[str, set[str]] = {}
        self._commands: dict[str, list[str]] = {}
        machines = {node["name"]: node["address"] for node in lab.nodes()}
        self._server = next(iter(machines))
        self._here = HereMachine(lab, self._server) if lab.state.here else None
        self._nodes = {**machines, HERE: "127.0.0.1"}

    @property
    def elsewhere(self) -> Mapping[str, str]:
        """Commands that are always run on a certain node, whose name stands behind."""
        return dict.fromkeys(SWITCHES, HERE)

    async def _log_in(self, node: str) -> asyncssh.SSHClientConnection:
        found = self.lab.powered(node)
        options: dict[str, Any] = {
            "username": "root", "config": None, "client_keys": [str(plan.user_key(self.lab.directory))],
            "known_hosts": str(plan.known_hosts(self.lab.directory)), "agent_path": None,
            "x509_trusted_certs": None, "host_key_alias": node, "keepalive_interval": 3,
        }  # fmt: skip
        if self._here is not None:
            options["proxy_command"] = reach(self.lab.powered(self._server), found)
            return await asyncssh.connect(found["address"], 22, **options)
        if node == self._server:
            return await asyncssh.connect("127.0.0.1", found["ssh_port"], **options)
        server = self._connections.get(self._server)
        if server is None or server.is_closed():
            server = self._connections[self._server] = await self._log_in(self._server)
        return await asyncssh.connect(found["address"], 22, tunnel=server, **options)

    def shell(self, node: str, size: tuple[int, int]) -> NodeShell:
        """Start a shell; raises NodeShellError or LoginFailed."""
        if node != HERE:
            try:
                if self._here is not None and node == self._server:
                    return self._here.shell(size)
                return super().shell(node, size)
            except MetalMachineOff:
                raise NodeShellError(node=node, why=_("it is switched off")) from None
            except LoginFailed as error:
                why = _("it does not let us in ({why}); `console {node}` shows how far it is")
                raise NodeShellError(node=node, why=why.format(node=node, why=error.fields["why"])) from None
        variables = {"OMLAB_NAME": self.lab.state.name, TOOLS: str(self._tools)}
        return NodeShell(HERE, lambda command, window: EnteredTerminal("", command, variables, window), size)

    def read(self, node: str, path: str) -> str | None:
        """A file of a machine; None if there is none, or the machine does not say."""
        if self._here is not None and node == self._server:
            return self._here.read(path)
        return self.run(node, f"cat -- {path}")

    def run(self, node: str, command: str, given: str = "") -> str | None:
        """What a command on a machine prints; None if it fails."""
        if self._here is not None and node == self._server:
            return self._here.run(command, given)
        try:
            connection = self._connection(node)
            done = self._loop.run(connection.run(command, input=given, errors="replace"), 10.0)
        except (OSError, asyncssh.Error, TimeoutError, OmError):
            return None
        return str(done.stdout or "") if done.exit_status == 0 else None

    def _ask(self, node: str, command: str) -> str:
        """What a command prints; "" if it does not come to it soon."""
        if self._here is not None and node == self._server:
            return self._here.run(command) or ""
        return super()._ask(node, command)

    def entries(self, node: str, directory: str) -> list[str]:
        """The names in a directory."""
        if node == HERE:
            return listing(Path(directory or "/").expanduser())
        return super().entries(node, directory)

    def commands(self, node: str) -> list[str]:
        """The names of programs that a shell there finds."""
        if node == HERE and node not in self._commands:
            places = [str(self._tools), *os.environ.get("PATH", os.defpath).split(":")]
            found = {name for place in places for name in listing(Path(place)) if not name.endswith("/")}
            self._commands[node] = sorted(found)
        return super().commands(node)

    def substitute(self, node: str, line: str) -> str:  # noqa: ARG002 - the machines' /etc/hosts know all names
        """The line as it is."""
        return line

    def alive(self, node: str) -> bool:
        """Whether the lab is whole: machines that boot from mCii may be off, mCii itself may not."""
        try:
            return node != self._server or bool(self.lab.node(node)["booted"])
        except OmError:
            return False

    def status(self) -> str:
        """The machines, and how their switches stand."""
        try:
            return "  ".join(f"{node['name']} {node['power']}" for node in self.lab.nodes())
        except LabNotUp as error:
            return str(error)


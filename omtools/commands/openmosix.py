"""``openmosix start|stop|restart|status``: what openMosix's init script did, for one's own agent.

There is no file with a pid that could be out of date: who serves the agent's socket, the kernel says.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.agent.client import talk
from omtools.agent.cluster import Cluster
from omtools.agent.paths import SOCKET, config_dir, make_run_dir, run_dir
from omtools.cluster.load import BLOCK
from omtools.commands import _discovery
from omtools.commands._cluster import known_cluster, report
from omtools.commands._common import parser, print_json, run, say
from omtools.commands._progress import Progress, Waiting
from omtools.errors import (
    AgentStays,
    AtHomeAlready,
    NoSuchProcess,
    OmError,
    ProcessEnded,
    StillAway,
    ZombieProcess,
)
from omtools.i18n import _

if TYPE_CHECKING:
    import argparse

_PEERCRED = struct.Struct("3i")  # struct ucred, sys/socket.h
_SYSTEM_LOG = Path("/var/log/openmosix.log")
_PACKAGE_HOME = Path(__file__).resolve().parents[2]
_END_PATIENCE = 90.0  # seconds; an agent gives processes whose link ends with it 30 to come home
_ROUNDS = 3  # a process that is on its way when it is called home is called again


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_openmosix, arguments)


def _openmosix(arguments: list[str]) -> int:
    given = _options().parse_args(arguments)
    if given.verb == "start":
        return start(given.log)
    if given.verb == "stop":
        return stop(given.leave)
    if given.verb == "restart":
        return restart(given.log)
    return _status(given.json)


def _options() -> argparse.ArgumentParser:
    options = parser(
        "openmosix", _("Start and stop openMosix on this node: as root for all, else your own agent.")
    )
    verbs = options.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, what in (
        ("start", _("start the agent in the background; returns when it serves")),
        ("stop", _("move guests and own processes home, then end the agent")),
        ("restart", _("have the agent read its configuration anew; processes stay where they are")),
        ("status", _("which node this is and who belongs to its cluster (exit status 1: it does not run)")),
    ):
        sub = verbs.add_parser(verb, help=what, description=what, allow_abbrev=False)
        sub.add_argument("--debug", action="store_true", help=_("show tracebacks"))
        if verb in ("start", "restart"):
            sub.add_argument(
                "--log", metavar="FILE", help=_("write the log there (else: /var/log or the run directory)")
            )
        elif verb == "stop":
            sub.add_argument("--leave", action="store_true", help=_("leave processes where they are"))
        else:
            sub.add_argument("--json", action="store_true", help=_("answer as JSON"))
    return options


def serving_pid() -> int | None:
    """The pid of the agent that serves this user's own socket; None: nobody does, 0: it cannot be seen."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(run_dir() / SOCKET))
        except OSError:
            return None
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        return int(_PEERCRED.unpack(raw)[0])


# ---------------------------------------------------------------------------------------- start, status


def start(log: str | None = None) -> int:
    """Start the agent; it returns the exit status of one that could not start.

    Args:
        log: file for its log; None: the usual one.
    """
    pid = serving_pid()
    if pid is not None:
        print(_("openMosix runs already (omagentd, pid {pid}).").format(pid=pid))
        _discovery.start(_environment())
        return 0
    run_directory = run_dir().absolute()
    make_run_dir(run_directory)
    file = Path(log).absolute() if log else _usual_log(run_directory)
    command = [sys.executable, "-m", "omtools.commands.omagentd", "--daemon", "--log", str(file)]
    with Waiting(_("the agent starts")):
        done = subprocess.run(command, env=_environment(), stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        return done.returncode
    _discovery.start(_environment())
    nodes = known_cluster("openmosix")
    sentence = _("openMosix is running: this is node #{number} (of {n} configured).")
    print(sentence.format(number=nodes.own, n=len(nodes.nodes)))
    return 0


def restart(log: str | None = None) -> int:
    """Have the agent begin anew, or start it if none runs; processes stay where they are.

    Args:
        log: file for the log of one that has to be started.

    Raises:
        AgentStays: it cannot be told to, or does not serve again.
        OmError: it could not start by the configuration as it is now; then it goes on as before.
    """
    pid = serving_pid()
    if pid is None:
        return start(log)
    from omtools.agent.config import load_configuration  # noqa: PLC0415 - only here

    load_configuration(config_dir().absolute(), run_dir().absolute())
    with Waiting(_("the agent begins anew")):
        _renew(pid)
    _discovery.start(_environment())
    nodes = known_cluster("openmosix")
    sentence = _("openMosix has begun anew: this is node #{number} (of {n} configured).")
    print(sentence.format(number=nodes.own, n=len(nodes.nodes)))
    return 0


def _renew(pid: int) -> None:
    """Tell the agent, and wait until it hangs up and serves again: in the same process."""
    with socket.socket(socket.AF_UNIX) as before:
        try:
            before.connect(str(run_dir() / SOCKET))
            os.kill(pid, signal.SIGUSR1)
        except PermissionError:
            raise AgentStays(pid=pid, why=_("it belongs to another user")) from None
        except OSError:
            pass  # it is on its way already
        before.settimeout(_END_PATIENCE)
        try:
            while before.recv(1 << 16):
                pass
        except TimeoutError:
            raise AgentStays(pid=pid, why=_("it was told to begin anew")) from None
        except OSError:
            pass  # it hung up rudely
    deadline = time.monotonic() + _END_PATIENCE
    while serving_pid() is None:
        if time.monotonic() > deadline:
            raise AgentStays(pid=pid, why=_("it does not serve again; its log says more"))
        time.sleep(0.02)  # a socket that does not exist yet cannot be waited for


def _usual_log(run_directory: Path) -> Path:
    if os.geteuid() == 0 and "OPENMOSIX_RUN" not in os.environ:
        return _SYSTEM_LOG
    return run_directory / "agent.log"


def _environment() -> dict[str, str]:
    """Ours, with a way to this package where it is not installed."""
    found = dict(os.environ)
    if _PACKAGE_HOME.name != "site-packages":
        parts = [str(_PACKAGE_HOME), *filter(None, found.get("PYTHONPATH", "").split(os.pathsep))]
        found["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(parts))
    return found


def _status(as_json: bool) -> int:
    pid = serving_pid()
    if pid is None:
        if as_json:
            print_json({"running": False})
        else:
            print(_("openMosix does not run on this node; `openmosix start` starts it."))
        return 1
    nodes = known_cluster("openmosix")
    if as_json:
        print_json({"running": True, "pid": pid, "cluster": nodes})
    else:
        print("\n".join(report(nodes)))
    return 0


# ------------------------------------------------------------------------------------------------ stop


def stop(leave: bool) -> int:
    """Move processes home, then end the agent and wait for it.

    Args:
        leave: move none; they run on, and the next agent finds them.

    Raises:
        StillAway: some could not be moved; the agent goes on as before.
        AgentStays: it cannot be ended, or does not end.
    """
    pid = serving_pid()
    if pid is None:
        _discovery.stop()
        print(_("openMosix does not run."))
        return 0
    if not leave:
        talk("openmosix", _bring_all_home)
    with Waiting(_("the agent ends")):
        _discovery.stop()
        _end(pid)
    print(_("openMosix has ended."))
    return 0


def _end(pid: int) -> None:
    if pid == 0:
        raise AgentStays(pid="?", why=_("it runs in a container that cannot be seen from here"))
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], _END_PATIENCE)[0]:
            raise AgentStays(pid=pid, why=_("it was told to {n} s ago").format(n=round(_END_PATIENCE)))
    except ProcessLookupError:
        return
    except PermissionError:
        raise AgentStays(pid=pid, why=_("it belongs to another user")) from None
    finally:
        os.close(process)


async def _bring_all_home(cluster: Cluster) -> None:
    blocked = (await cluster.node()).status & BLOCK
    if not blocked:  # nobody is to come while the others leave
        await cluster.switch("block", True)
    try:
        stuck: dict[int, OmError] = {}
        for _round in range(_ROUNDS):
            stuck = await _call_home(cluster)
            if not stuck:
                break
    finally:
        # The switch outlives the agent, and the next one is to take guests as this one did.
        if not blocked:
            await cluster.switch("block", False)
    if stuck:
        for error in stuck.values():
            say(str(error))
        raise StillAway(which=", ".join(str(pid) for pid in sorted(stuck)))


async def _call_home(cluster: Cluster) -> dict[int, OmError]:
    """Call everything home once; returns by pid why it could not come."""
    stuck: dict[int, OmError] = {}
    found = await cluster.processes(all=True)
    with Progress(_("processes brought home"), len(found)) as progress:
        for info in found:
            try:
                await cluster.migrate(info.local_pid, "home")
            except (NoSuchProcess, ProcessEnded, ZombieProcess, AtHomeAlready):
                pass  # it is not away any more
            except OmError as error:
                stuck[info.local_pid] = error
            progress.step()
    return stuck


if __name__ == "__main__":
    sys.exit(main())

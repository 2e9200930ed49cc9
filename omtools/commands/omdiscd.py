"""``omdiscd``: nodes of the cluster find each other on the wire."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.commands._common import as_whole, parser, run
from omtools.commands._daemon import in_background
from omtools.errors import BadConfiguration, UsageError
from omtools.i18n import _

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from omtools.agent.discovering import Discovering

_MOST_INTERFACES = 6  # as the original


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omdiscd, arguments)


def _options() -> ArgumentParser:
    options = parser(
        "omdiscd",
        _(
            "Announce this node on the wire and find the others of its cluster, for the agent. "
            "`omkey` makes this node one of a cluster."
        ),
    )
    options.add_argument(
        "-i",
        "--interface",
        metavar="IF1[,IF2...]",
        default="",
        help=_("interfaces to use, at most 6 (else AUTODISCIF of openmosix.config, else the default one)"),
    )
    foreground = _("stay in the foreground, log to stderr")
    options.add_argument("-n", "--nodaemon", action="store_true", help=foreground)
    options.add_argument(
        "-m",
        "--multicast-ttl",
        metavar="N",
        type=as_whole(1, 255),
        default=0,
        help=_("TTL of multicasts; only the first interface is used, the others are this node's aliases"),
    )
    options.add_argument("--config", metavar="DIR", help=_("keys and settings, as of omagentd"))
    options.add_argument("--run", metavar="DIR", help=_("sockets, as of omagentd"))
    return options


def _omdiscd(arguments: list[str]) -> int:
    given = _options().parse_args(arguments)
    for name, value in (("OPENMOSIX_CONFIG", given.config), ("OPENMOSIX_RUN", given.run)):
        if value:
            os.environ[name] = os.path.abspath(value)
    discovering, run_directory = _prepared(given)
    if given.nodaemon:
        return _serve(discovering, run_directory, given, None, lambda: None)
    log = _log_place(run_directory)
    return in_background(lambda ready: _serve(discovering, run_directory, given, log, ready))


def _prepared(given: Namespace) -> tuple[Discovering, Path]:
    from omtools.agent.config import own_addresses, read_settings  # noqa: PLC0415 - --help needs none of it
    from omtools.agent.discovering import Discovering  # noqa: PLC0415
    from omtools.agent.paths import config_dir, make_run_dir, run_dir  # noqa: PLC0415
    from omtools.linux.interfaces import default_interface  # noqa: PLC0415

    directory, run_directory = config_dir().absolute(), run_dir().absolute()
    settings = read_settings(directory / "openmosix.config")
    interfaces = [word for word in given.interface.split(",") if word] or list(settings.interfaces)
    if len(interfaces) > _MOST_INTERFACES:
        raise UsageError(detail=_("At most {n} interfaces can be used.").format(n=_MOST_INTERFACES))
    own_addresses(tuple(interfaces))  # an interface without an address is said at once
    make_run_dir(run_directory)
    interfaces = interfaces or [default_interface()]
    return Discovering(directory, run_directory, settings, interfaces, given.multicast_ttl), run_directory


def _log_place(run_directory: Path) -> Path | None:
    """Where a daemon logs: the system's log, None, else a file."""
    return None if os.path.exists("/dev/log") else run_directory / "omdiscd.log"


def _serve(
    discovering: Discovering,
    run_directory: Path,
    given: Namespace,
    log_file: Path | None,
    ready: Callable[[], None],
) -> int:
    import asyncio  # noqa: PLC0415

    from omtools.agent import log  # noqa: PLC0415

    log.set_up(discovering.roll.own, log_file, given.debug, system=not given.nodaemon and log_file is None)
    lock = _alone(run_directory)
    try:
        return asyncio.run(_until_told(discovering, ready))
    except OSError as error:
        raise BadConfiguration(path="omdiscd", why=error.strerror or str(error)) from None
    finally:
        os.close(lock)


async def _until_told(discovering: Discovering, ready: Callable[[], None]) -> int:
    import asyncio  # noqa: PLC0415
    import signal  # noqa: PLC0415

    task = asyncio.ensure_future(discovering.run(ready))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return 0
    return 0


def _alone(run_directory: Path) -> int:
    """One per run directory; returns the descriptor that holds the lock.

    Raises:
        BadConfiguration: there is one.
    """
    import fcntl  # noqa: PLC0415

    path = run_directory / "omdiscd.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 16, 0).decode() or "?"
        os.close(descriptor)
        why = _("an omdiscd (pid {pid}) runs already").format(pid=pid)
        raise BadConfiguration(path=str(path), why=why) from None
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


if __name__ == "__main__":
    sys.exit(main())

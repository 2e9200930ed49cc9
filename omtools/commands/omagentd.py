"""``omagentd``: the agent of this node."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.commands._common import parser, run, say
from omtools.commands._daemon import in_background
from omtools.errors import UsageError
from omtools.i18n import _

if TYPE_CHECKING:
    import argparse

    from omtools.agent.config import Configuration


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omagentd, arguments)


def _omagentd(arguments: list[str]) -> int:
    given = _options().parse_args(arguments)
    # The directories may be relative to where we were started, and a daemon goes to /.
    if given.log is not None:
        given.log = Path(given.log).absolute()
    configuration = _configuration(given)
    if given.daemon:
        os.environ["OPENMOSIX_CONFIG"] = str(configuration.directory)
        os.environ["OPENMOSIX_RUN"] = str(configuration.run)
        return in_background(lambda ready: _serve(configuration, given, given.ready_fd, ready))
    return _serve(configuration, given, given.ready_fd)


def _options() -> argparse.ArgumentParser:
    options = parser(
        "omagentd",
        _(
            "The openMosix agent of this node: processes come and go through it. As root it "
            "serves everybody, as an ordinary user that user's processes."
        ),
    )
    options.add_argument(
        "--config",
        metavar="DIR",
        help=_("map, keys and settings (else: $OPENMOSIX_CONFIG, /etc/openmosix, ~/.config/openmosix)"),
    )
    options.add_argument(
        "--run",
        metavar="DIR",
        help=_("sockets (else: $OPENMOSIX_RUN, /run/openmosix, $XDG_RUNTIME_DIR/openmosix)"),
    )
    options.add_argument(
        "--node",
        metavar="N",
        type=int,
        default=0,
        help=_("this node's number in the map (else found by its addresses)"),
    )
    how = options.add_mutually_exclusive_group()
    how.add_argument("--foreground", action="store_true", help=_("stay in the foreground (the default)"))
    how.add_argument(
        "--daemon", action="store_true", help=_("return when it serves, go on in the background")
    )
    options.add_argument("--log", metavar="FILE", help=_("write the log there, not to stderr"))
    options.add_argument("--ready-fd", metavar="N", type=int, help=_("write “ready” there when it serves"))
    return options


def _configuration(given: argparse.Namespace) -> Configuration:
    # The environment is how the keepers and everything else below find the same directories.
    if given.config:
        os.environ["OPENMOSIX_CONFIG"] = os.path.abspath(given.config)
    if given.run:
        os.environ["OPENMOSIX_RUN"] = os.path.abspath(given.run)
    given.config = given.run = None  # once is enough: a daemon goes to / meanwhile
    from omtools.agent.config import load_configuration  # noqa: PLC0415 - --help and errors need none of it
    from omtools.agent.paths import config_dir, run_dir  # noqa: PLC0415

    return load_configuration(config_dir().absolute(), run_dir().absolute(), given.node, given.debug)


def _serve(
    configuration: Configuration,
    given: argparse.Namespace,
    ready_fd: int | None,
    then: Callable[[], None] = lambda: None,
) -> int:
    import asyncio  # noqa: PLC0415 - heavy, and an error in the configuration should show at once

    from omtools.agent import log  # noqa: PLC0415
    from omtools.agent.serve import RENEW, serve  # noqa: PLC0415

    as_json = configuration.settings.json_log
    log.set_up(configuration.node.number, given.log, given.debug, as_json=as_json)

    def ready() -> None:
        _ready(ready_fd)
        then()

    status = asyncio.run(serve(configuration, ready, lambda: _configuration(given)))
    if status == RENEW:
        # The same process, so that whoever started it (systemd, a lab) still has its child.
        os.execv(sys.executable, _same_again(given))
    return status


def _same_again(given: argparse.Namespace) -> list[str]:
    """The command line of an agent like this one; its directories are in the environment already."""
    program = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]
    options = ["--node", str(given.node)] if given.node else []
    options += ["--log", str(given.log)] if given.log is not None else []
    options += ["--debug"] if given.debug else []
    return [sys.executable, *program, *options]


def _ready(descriptor: int | None) -> None:
    _tell_systemd()
    if descriptor is None:
        return
    try:
        os.write(descriptor, b"ready\n")
        os.close(descriptor)
    except OSError as error:
        raise UsageError(
            detail=_("--ready-fd {n}: {why}.").format(n=descriptor, why=error.strerror)
        ) from None


def _tell_systemd() -> None:
    """Say that it serves, where systemd has started it with Type=notify: sd_notify(3)."""
    address = os.environ.pop("NOTIFY_SOCKET", "")  # what is started from here has nothing to tell systemd
    if not address:
        return
    import socket  # noqa: PLC0415

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        try:
            notify.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            say(_("systemd cannot be told that the agent serves: {why}.").format(why=error.strerror))


if __name__ == "__main__":
    sys.exit(main())

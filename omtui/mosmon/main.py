"""``mosmon``: one bar per node, once a second."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from omtools.agent import api
from omtools.agent.client import Client
from omtools.commands._common import parser, run
from omtools.errors import UsageError
from omtools.i18n import _
from omtui.frames import draw_in_time
from omtui.mosmon.drawing import draw
from omtui.mosmon.settings import HELP, Settings, pressed

_OPTIONS = "wvVasmrulLdty"
_LAST_NUMBER = 65535


class _Press(argparse.Action):
    """An option is a key pressed before the first picture: of two that exclude each other the last holds."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse's interface
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,  # noqa: ARG002
        option_string: str | None = None,
    ) -> None:
        key = (option_string or "")[1:]
        namespace.settings = pressed(namespace.settings, key, option=True)


def options() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(
        "mosmon",
        _("Show the load, speed, memory or utilizability of all nodes, one bar per node, once a second."),
        "mosmon [-w|-v|-V|-a] [-s|-m|-r|-u|-l|-L] [-d] [-t] [-y] [+NODE_NUMBER] [--once] [--ascii]",
    )
    made.set_defaults(settings=Settings())
    said = dict(HELP)
    for letter in _OPTIONS:
        made.add_argument(f"-{letter}", action=_Press, nargs=0, help=_(said[letter]).replace("%", "%%"))
    made.add_argument("-H", action="help", help=argparse.SUPPRESS)
    made.add_argument(
        "-F", metavar="KVER", help=_("accepted for old scripts, without effect: agents tell their versions")
    )
    made.add_argument("--once", action="store_true", help=_("print one picture as text and end"))
    made.add_argument("--ascii", action="store_true", help=_("draw with ASCII characters only"))
    made.add_argument("--interval", metavar="SECONDS", type=float, default=1.0, help=argparse.SUPPRESS)
    made.add_argument("first", metavar="+NODE_NUMBER", nargs="?", help=_("the first node to show"))
    made.epilog = _("All of these letters are also keys while it runs; `?` shows them.")
    return made


def settings_of(given: argparse.Namespace) -> Settings:
    """What to show.

    Raises:
        UsageError: the node to begin with is none.
    """
    settings: Settings = given.settings
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    settings = settings.drawn_in_ascii(given.ascii or not encoding.startswith("utf"))
    if given.first is None:
        return settings
    number = given.first.removeprefix("+")
    if not given.first.startswith("+") or not (number.isascii() and number.isdigit()):
        raise UsageError(detail=_("“{word}” is no `+NODE_NUMBER`.").format(word=given.first))
    if not 1 <= int(number) <= _LAST_NUMBER:
        raise UsageError(detail=_("Node numbers go from 1 to 65535."))
    return settings.beginning(int(number))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    draw_in_time()
    return run(_mosmon, arguments)


def _mosmon(arguments: list[str]) -> int:
    given = options().parse_args(arguments)
    settings = settings_of(given)
    with Client(name="mosmon") as agent:  # without an agent it ends here, with a sentence on the terminal
        if given.once:
            return _once(agent, settings)
    return _on_screen(settings, given.interval)


def _once(agent: Client, settings: Settings) -> int:
    views = agent.call(api.Views(), api.NodeViews)
    width, height = shutil.get_terminal_size()
    print(draw(views.nodes, settings, width, height - 1, own=views.own).text())
    return 0


def _on_screen(settings: Settings, interval: float) -> int:
    from omtui.host import need_terminal  # noqa: PLC0415 - Textual is not loaded for one picture as text
    from omtui.keys import own_keys  # noqa: PLC0415
    from omtui.mosmon.app import Monitor  # noqa: PLC0415
    from omtui.source import Source  # noqa: PLC0415

    need_terminal("mosmon")
    status = Monitor(Source(name="mosmon", interval=interval), settings, own_keys()).run()
    return status or 0


if __name__ == "__main__":
    sys.exit(main())

"""``moslimit``: show and set what guests may take of a node.

Of the original's moslimit only the names are known (loadlimit, cpulimit); what they do here says the help.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from omtools.agent import api
from omtools.agent.client import talk
from omtools.commands._common import as_whole, parser, print_json, run
from omtools.i18n import N_, _

if TYPE_CHECKING:
    import argparse

    from omtools.agent.cluster import Cluster

_OFF = "off"
_NO_LIMIT = -1
# By option: the highest value, what it says, what it shows.
_LIMITS: dict[str, tuple[int, str, str]] = {
    "load": (1_000_000, N_("accept no guest while this node's load is above N"), N_("load: {value}")),
    "cpu": (100, N_("accept no guest while guests use N %% of the processors or more"), N_("cpu: {value} %")),
    "guests": (65535, N_("accept no more than N guests"), N_("guests: {value}")),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_moslimit, arguments)


def _moslimit(arguments: list[str]) -> int:
    options = parser(
        "moslimit",
        _("Show and set what guests may take of a node. Guests that are there stay: see mosctl expel."),
    )
    for name, (highest, what, _shown) in _LIMITS.items():
        options.add_argument(f"--{name}", metavar="N|off", type=_limit(highest), help=_(what))
    options.add_argument("--on", metavar="NODE", default="", help=_("do it on that node"))
    options.add_argument("--json", action="store_true", help=_("answer as JSON; -1 is no limit"))
    given = options.parse_args(arguments)
    tuned = talk("moslimit", lambda cluster: _ask(cluster, given))
    values = {"load": tuned.load_limit, "cpu": tuned.cpu_limit, "guests": tuned.guest_limit}
    if given.json:
        print_json(values)
        return 0
    for name, value in values.items():
        shown = _LIMITS[name][2]
        print(_(shown).format(value=value) if value != _NO_LIMIT else _("{name}: no limit").format(name=name))
    return 0


async def _ask(cluster: Cluster, given: argparse.Namespace) -> api.Tuned:
    return await cluster.tune(
        api.Tune(given.on, load_limit=given.load, cpu_limit=given.cpu, guest_limit=given.guests)
    )


def _limit(highest: int) -> Callable[[str], int]:
    number = as_whole(0, highest)
    return lambda word: _NO_LIMIT if word == _OFF else number(word)


if __name__ == "__main__":
    sys.exit(main())

"""``showmap``: the map of the cluster, as openMosix's tool of that name printed it."""

from __future__ import annotations

import sys

from omtools.agent import api
from omtools.commands._cluster import known_cluster
from omtools.commands._common import parser, print_json, run
from omtools.i18n import _

_NUMBER, _ADDRESS = 13, 17  # widths of the original's columns


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_showmap, arguments)


def _showmap(arguments: list[str]) -> int:
    options = parser(
        "showmap",
        _("Show the map of the cluster: as the agent uses it, or, if none runs, as the map file has it."),
    )
    options.add_argument("--json", action="store_true", help=_("print it as JSON, with the nodes' names"))
    given = options.parse_args(arguments)
    nodes = known_cluster("showmap")
    if given.json:
        print_json(nodes)
    else:
        print("\n".join(table(nodes)))
    return 0


def table(nodes: api.NodeList) -> list[str]:
    """The lines to print; numbers are hexadecimal, as openMosix showed them."""
    title = f"{_('Base Node-Id'):<{_NUMBER}}{_('Address'):<{_ADDRESS}}{_('Count')}"
    lines = [
        _("My Node-Id: {number}").format(number=_hexadecimal(nodes.own)),
        "",
        title,
        "-" * len(title),
    ]
    lines += [_row(entry.first, entry.host, str(entry.count)) for entry in nodes.ranges]
    lines += [_row(node.number, alias, "ALIAS") for node in nodes.nodes for alias in node.aliases]
    return lines


def _row(number: int, host: str, count: str) -> str:
    return f"{_hexadecimal(number):<{_NUMBER}}{host:<{_ADDRESS - 1}} {count}"


def _hexadecimal(number: int) -> str:
    return f"0x{number:04x}"


if __name__ == "__main__":
    sys.exit(main())

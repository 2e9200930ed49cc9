"""``migrate PID NODE|home|balance``: move a running process."""

from __future__ import annotations

import sys

from omtools.agent import api
from omtools.agent.client import talk
from omtools.agent.cluster import Cluster
from omtools.commands._common import as_pid, megabytes, parser, print_json, run
from omtools.commands._progress import Waiting
from omtools.errors import UsageError
from omtools.i18n import _

_HOME = "home"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_migrate, arguments)


def _migrate(arguments: list[str]) -> int:
    options = parser(
        "migrate",
        _(
            "Move a running process to another node, or call it home. Your own "
            "processes; root may move anybody's."
        ),
    )
    options.add_argument("pid", metavar="PID", help=_("its process number, as ps shows it"))
    where = _("a node's number or name, “home”, or “balance”: where it runs best")
    options.add_argument("to", metavar="NODE|home|balance", help=where)
    options.add_argument("--json", action="store_true", help=_("tell what moved as JSON"))
    given = options.parse_args(arguments)
    pid = as_pid(given.pid)
    to = _HOME if given.to == "0" else given.to  # as the column NODE and /proc/hpc had it
    if not to.strip():
        raise UsageError(detail=_("Where to? A node's number or name, “home” or “balance”."))

    async def move(cluster: Cluster) -> tuple[api.Moved, dict[int, str]]:
        moved = await cluster.migrate(pid, to)
        return moved, {} if given.json else await _names(cluster, moved)

    with Waiting(_("process {pid} is on its way").format(pid=pid)):
        moved, names = talk("migrate", move)
    if given.json:
        print_json(moved)
        return 0
    print(
        _(
            "Process {pid} moved from {source} to {target}: {size}, frozen {frozen:.0f} ms, "
            "{total:.0f} ms in all, {speed:.0f} MB/s."
        ).format(
            pid=pid,
            source=names[moved.source],
            target=names[moved.target],
            size=megabytes(moved.bytes),
            frozen=moved.frozen_ms,
            total=moved.total_ms,
            speed=moved.mb_per_s,
        )
    )
    return 0


async def _names(cluster: Cluster, moved: api.Moved) -> dict[int, str]:
    return {number: (await cluster.whois(number)).name for number in (moved.source, moved.target)}


if __name__ == "__main__":
    sys.exit(main())

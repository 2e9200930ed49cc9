"""``mps``: ps with a NODE column.

The system's own ps does the work, with whatever options it has; the column is put into its output behind
TTY, where openMosix had it. 0: here, at home; n: the node that executes it; -1: no agent knows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

from omtools.agent import api
from omtools.agent.client import talk
from omtools.agent.cluster import Cluster
from omtools.commands._common import megabytes, print_json, run
from omtools.errors import NoAgent, ProgramMissing
from omtools.i18n import N_, _

_WIDTH = 4
_COLUMN = _WIDTH + 1
_OWN = frozenset({"--json", "--guests", "--io", "--files", "--debug"})
_TTY_WIDTHS = {"TTY": 8, "TT": 8}

_HELP = N_("""\
usage: mps [--json] [options of ps]
       mps --io | --files [--guests] [--json]

ps with a column NODE: 0 is here, a number is the node that executes the process, -1 means that no
agent could be asked. All options are those of ps(1).

  --json      the processes of which one half is elsewhere, as JSON
  --guests    the processes of other nodes that run here
  --io        what processes that are away have read and written, by whose files; with --guests, of guests
  --files     the same by file
  --help      show this
""")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_mps, arguments)


def _mps(arguments: list[str]) -> int:
    options = [word for word in arguments if word not in _OWN]
    if "--help" in options:
        print(_(_HELP), end="")
        return 0
    if "--io" in arguments or "--files" in arguments:
        return _io(arguments)
    if "--guests" in arguments:
        return _guests("--json" in arguments)
    if "--json" in arguments:
        print_json(talk("mps", lambda cluster: cluster.processes()))
        return 0
    return _with_column(options)


def _guests(as_json: bool) -> int:
    found = talk("mps", lambda cluster: cluster.processes(all=True))
    guests = [info for info in found if info.role == "guest"]
    if as_json:
        print_json(guests)
        return 0
    print(_("  PID  HOME  PID AT HOME  PHASE"))
    for info in guests:
        print(f"{info.local_pid:>5} {info.home:>5} {info.pid:>12}  {info.phase}")
    return 0


def _io(arguments: list[str]) -> int:
    """Whose files processes read and write."""
    by_file = "--files" in arguments
    role = "guest" if "--guests" in arguments else "deputy"
    found = talk("mps", lambda cluster: cluster.processes(all=role == "guest", files=by_file))
    told = [info for info in found if info.role == role]
    if "--json" in arguments:
        print_json(told)
        return 0
    print("\n".join(io_lines(told, by_file)))
    return 0


def io_lines(told: list[api.ProcessInfo], by_file: bool) -> list[str]:
    """A table: a line for each process and node, or file."""
    title = _("  PID  NODE  FILES OF      READ   WRITTEN     CALLS")
    lines = [title + (_("  FILE") if by_file else "")]
    for info in told:
        for one in sorted(info.files if by_file else info.io, key=lambda one: -one.bytes):
            figures = f"{megabytes(one.read):>9} {megabytes(one.written):>9} {one.calls:>9}"
            name = f"  {one.path or _('(others)')}" if by_file else ""
            lines.append(f"{info.local_pid:>5} {info.where:>5} {one.node:>9} {figures}{name}")
    return lines


def _with_column(options: list[str]) -> int:
    nodes = whereabouts("mps")
    program = shutil.which("ps")
    if program is None:
        raise ProgramMissing(command="mps", program="ps", package="procps")
    environment = dict(os.environ)
    if sys.stdout.isatty():
        # ps must leave room for the column, and it cannot see the terminal through our pipe.
        environment["COLUMNS"] = str(max(os.get_terminal_size(sys.stdout.fileno()).columns - _COLUMN, 20))
    done = subprocess.run([program, *options], stdout=subprocess.PIPE, env=environment, check=False)
    lines = done.stdout.decode(errors="surrogateescape").split("\n")
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # a command line may hold any bytes
    sys.stdout.write("\n".join(insert_column(lines, nodes)))
    return done.returncode


def whereabouts(name: str) -> dict[int, int] | None:
    """The nodes of processes that are not here, by pid; None: no agent knows.

    Args:
        name: of the command that asks.
    """
    try:
        own, found = talk(name, _asked)
    except NoAgent:
        return None
    return {info.local_pid: info.where for info in found if info.role == "deputy" and info.where != own}


async def _asked(cluster: Cluster) -> tuple[int, list[api.ProcessInfo]]:
    return cluster.number, await cluster.processes(all=True)


def insert_column(lines: list[str], nodes: dict[int, int] | None) -> list[str]:
    """Put NODE into ps's output.

    Args:
        lines: the output; where its first line has no PID, nothing is changed.
        nodes: node by pid for processes that are not here; None: nobody knows.
    """
    header = _words(lines[0]) if lines else []
    titles = [word for word, _start, _end in header]
    if "PID" not in titles:
        return lines
    pid_at = titles.index("PID")
    behind = next((title for title in ("TTY", "TT", "PID") if title in titles), "PID")
    at = titles.index(behind)
    result = [_put(lines[0], at, behind, f"{'NODE':>{_WIDTH}}")]
    for line in lines[1:]:
        words = _words(line)
        if len(words) <= max(pid_at, at) or not words[pid_at][0].isdigit():
            # The rest of a line that ps wrapped, or the header again (ps --headers).
            again = [word for word, _start, _end in words] == titles
            result.append(_put(line, at, behind, f"{'NODE':>{_WIDTH}}") if again else line)
            continue
        node = -1 if nodes is None else nodes.get(int(words[pid_at][0]), 0)
        result.append(_put(line, at, behind, f"{node:>{_WIDTH}}"))
    return result


def _put(line: str, at: int, title: str, text: str) -> str:
    """The line with `text` behind its word number `at`, which stands in the column `title`."""
    _word, start, end = _words(line)[at]
    # TTY is written to the left of its column; PID to the right, so it ends where the column does.
    column_end = max(end, start + _TTY_WIDTHS[title]) if title in _TTY_WIDTHS else end
    column_end = min(column_end, len(line))
    return f"{line[:column_end]} {text}{line[column_end:]}"


def _words(line: str) -> list[tuple[str, int, int]]:
    return [(found.group(), found.start(), found.end()) for found in re.finditer(r"\S+", line)]


if __name__ == "__main__":
    sys.exit(main())

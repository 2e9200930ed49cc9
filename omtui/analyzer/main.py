"""``omanalyzer``: load and memory of hours and days, as text, pictures or figures."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.commands._common import as_whole, parser, run
from omtools.errors import NoRecording, UsageError
from omtools.i18n import _

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from omtui.recording.reader import Recording

_HOURS = 12  # what openMosixanalyzer showed
_PLOT = 4  # lines of a node's plot, with its title
_LEAST = 20  # columns


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omanalyzer, arguments)


def _options() -> ArgumentParser:
    options = parser("omanalyzer", _("Plot load and memory of hours and days, as omcollector recorded them."))
    options.add_argument(
        "--what", choices=("load", "memory", "guests"), default="load", help=_("what is plotted (load)")
    )
    options.add_argument("--node", metavar="NODE", help=_("one node only: its number or name"))
    how_long = options.add_mutually_exclusive_group()
    how_long.add_argument(
        "--hours", type=as_whole(1, 8760), metavar="N", help=_("so many hours up to the end (12)")
    )
    how_long.add_argument("--days", type=as_whole(1, 3650), metavar="N", help=_("so many days up to the end"))
    how_long.add_argument(
        "--since", metavar="TIME", help=_("from then on: 14:05, 2026-11-23 14:05, 90m, or a checkpoint")
    )
    options.add_argument("--until", metavar="TIME", help=_("up to then; else up to the end"))
    options.add_argument("--file", metavar="FILE", help=_("another recording than the usual one"))
    options.add_argument(
        "-o", "--output", metavar="FILE", help=_("write a picture (.svg, .png) or the figures (.csv)")
    )
    return options


def _omanalyzer(arguments: list[str]) -> int:
    given = _options().parse_args(arguments)
    from omtui.recording.places import file_to_read  # noqa: PLC0415 - --help needs none of it
    from omtui.recording.reader import Recording  # noqa: PLC0415

    path = Path(given.file) if given.file else file_to_read()
    recording = Recording(path)
    try:
        window = _window(recording, given)
        node = _node(recording, given.node)
        if given.output:
            from omtui.analyzer.export import export  # noqa: PLC0415

            export(recording, Path(given.output), given.what, window, node)
        else:
            print(_text(recording, given.what, window, node))
    finally:
        recording.close()
    return 0


def _window(recording: Recording, given: Namespace) -> tuple[int, int]:
    from omtui.moments import parse_moment  # noqa: PLC0415
    from omtui.recording.keeping import DAY_MS, HOUR_MS  # noqa: PLC0415

    span = recording.span()
    if span is None:
        raise NoRecording(path=str(recording.path))
    marks, last = recording.checkpoints(), span[1] + 1
    until = parse_moment(given.until, last, last, marks) if given.until else last
    if given.since:
        since = parse_moment(given.since, until, last, marks)
    else:
        since = until - (given.days * DAY_MS if given.days else (given.hours or _HOURS) * HOUR_MS)
    if since >= until:
        raise UsageError(detail=_("The time ends before it begins."))
    return since, until


def _node(recording: Recording, word: str | None) -> int:
    if word is None:
        return 0
    for number, name in recording.names().items():
        if word in (str(number), name):
            return number
    raise UsageError(detail=_("No node {node} was recorded.").format(node=word))


def _text(recording: Recording, what: str, window: tuple[int, int], node: int) -> str:
    from omtui.analyzer.plot import MARGIN, draw  # noqa: PLC0415
    from omtui.analyzer.series import WHATS, columns_of, series_of, top_of  # noqa: PLC0415
    from omtui.recording.keeping import width_for  # noqa: PLC0415
    from omtui.spans import text_of  # noqa: PLC0415

    chosen = next(one for one in WHATS if one == what)
    columns = max(_LEAST, int(os.environ.get("COLUMNS") or shutil.get_terminal_size().columns) - MARGIN)
    length, nodes = window[1] - window[0], [node] if node else None
    sums = recording.sums(*window, width_for(length, columns), length // columns, nodes)
    series = series_of(sums, recording.names(), chosen, window, columns)
    if not series:
        return _("Nothing was recorded in that time.")
    marks = columns_of(recording.checkpoints(), window, columns)
    height = (4 * _PLOT if len(series) == 1 else _PLOT * len(series)) + 1
    lines = draw(series, chosen, window, top_of(series, chosen), height, marks)
    return "\n".join(text_of(line).rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())

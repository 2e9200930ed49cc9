"""Plots and figures as files: SVG, PNG, CSV, by the ending of the name."""

from __future__ import annotations

import csv
import html
import io
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from omtools.errors import OmError, UsageError
from omtools.i18n import _
from omtui.analyzer.chart import BACKGROUND, COLOURS, COLUMNS, Chart, Stroke, chart_of
from omtui.analyzer.series import What, series_of
from omtui.recording.keeping import width_for
from omtui.recording.reader import Recording, Sums

ENDINGS = (".svg", ".png", ".csv")
_SHARP = 2  # times finer than it is kept: drawn lines have no steps then
_HEAD = ("time", "unix_s", "node", "name", "load", "load_high", "mem_used", "mem_total", "guests", "away")


def export(recording: Recording, target: Path, what: What, window: tuple[int, int], node: int = 0) -> None:
    """Write a file; one that is there already is replaced when the new one is complete.

    Args:
        recording: of what.
        target: its ending says what it is.
        what: is drawn; CSV has everything.
        window: from when to when, milliseconds since the epoch.
        node: one node only, 0: all.

    Raises:
        UsageError: another ending.
        OmError: the recording cannot be read, or the file not be written.
    """
    ending = target.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(detail=_("{path} should end with .svg, .png or .csv.").format(path=target))
    since, until = window
    nodes = [node] if node else None
    sums = recording.sums(since, until, width_for(until - since, COLUMNS), nodes=nodes)
    names = recording.names()
    if ending == ".csv":
        data = as_csv(sums, names).encode()
    else:
        series = series_of(sums, names, what, window, COLUMNS)
        chart = chart_of(series, what, window, recording.checkpoints())
        data = as_svg(chart).encode() if ending == ".svg" else as_png(chart)
    _write(target, data)


def _write(target: Path, data: bytes) -> None:
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        half.write_bytes(data)
        half.replace(target)
    except OSError as error:
        half.unlink(missing_ok=True)
        detail = _("{path} cannot be written: {why}.")
        raise OmError(detail=detail.format(path=target, why=error.strerror or str(error))) from None


def as_csv(sums: Sequence[Sums], names: Mapping[int, str]) -> str:
    """A line per node and stretch of time; loads as the cluster tells them (100 is a processor)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEAD)
    for one in sums:
        moment = datetime.fromtimestamp(one.at / 1000).astimezone()
        figures = (f"{one.load:.2f}", f"{one.high:.2f}", f"{one.used:.0f}", f"{one.total:.0f}")
        counts = (f"{one.guests:.2f}", f"{one.away:.2f}")
        row = (moment.isoformat(), one.at // 1000, one.node, names.get(one.node, ""), *figures, *counts)
        writer.writerow(row)
    return text.getvalue()


def as_svg(chart: Chart) -> str:
    """For browsers and papers."""
    size = f'width="{chart.width}" height="{chart.height}" viewBox="0 0 {chart.width} {chart.height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">',
        f'<rect width="100%" height="100%" fill="{BACKGROUND}"/>',
    ]
    for stroke in chart.strokes:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in stroke.points)
        dashes = ' stroke-dasharray="4 3"' if stroke.dashed else ""
        parts.append(
            f'<polyline fill="none" stroke="{COLOURS[stroke.colour]}" stroke-width="{stroke.width:g}"'
            f'{dashes} points="{points}"/>'
        )
    for words in chart.words:
        look = f'font-size="{words.size}" fill="{COLOURS[words.colour]}" text-anchor="{words.anchor}"'
        text = html.escape(_drawable(words.text))
        parts.append(f'<text x="{words.x:.1f}" y="{words.y:.1f}" {look}>{text}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _drawable(text: str) -> str:
    """What XML may have in it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def as_png(chart: Chart) -> bytes:
    """For everything else."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - who wants no PNG need not wait for it

    picture = Image.new("RGB", (chart.width * _SHARP, chart.height * _SHARP), BACKGROUND)
    drawing = ImageDraw.Draw(picture)
    for stroke in chart.strokes:
        width = max(1, round(stroke.width * _SHARP))
        for piece in _pieces(stroke):
            points = [(x * _SHARP, y * _SHARP) for x, y in piece]
            drawing.line(points, fill=COLOURS[stroke.colour], width=width, joint="curve")
    anchors = {"start": "ls", "middle": "ms", "end": "rs"}
    for words in chart.words:
        drawing.text(
            (words.x * _SHARP, words.y * _SHARP),
            _drawable(words.text),
            fill=COLOURS[words.colour],
            anchor=anchors[words.anchor],
            font=ImageFont.load_default(words.size * _SHARP),
        )
    small = picture.resize((chart.width, chart.height), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "PNG", optimize=True)
    return data.getvalue()


def _pieces(stroke: Stroke) -> list[list[tuple[float, float]]]:
    """A dashed line, which is upright here, in pieces."""
    if not stroke.dashed:
        return [stroke.points]
    (x, top), (_x, bottom) = stroke.points[0], stroke.points[-1]
    return [
        [(x, top + 7 * index), (x, min(bottom, top + 7 * index + 4))]
        for index in range(int((bottom - top) // 7) + 1)
    ]

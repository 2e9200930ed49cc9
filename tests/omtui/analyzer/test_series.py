"""Figures as columns, plots and pictures."""

from __future__ import annotations

import csv
import io
import struct
import zlib
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, strategies as st
from recordings import BEGUN, recorded

from omtools.errors import BadRecording, OmError, UsageError
from omtui.analyzer.chart import COLUMNS, chart_of
from omtui.analyzer.export import as_csv, as_svg, export
from omtui.analyzer.plot import MARGIN, axis, draw, plot
from omtui.analyzer.series import NOTHING, WHATS, Series, What, columns_of, in_words, series_of, top_of
from omtui.recording.reader import Checkpoint, Recording, Sums
from omtui.spans import text_of

WINDOW = (BEGUN, BEGUN + 600_000)
SUMS = st.lists(
    st.builds(
        Sums,
        at=st.integers(-5, 70).map(lambda index: BEGUN + 10_000 * index),
        node=st.integers(1, 3),
        load=st.floats(0, 1e6),
        high=st.floats(0, 1e6),
        used=st.floats(0, 1e9),
        total=st.sampled_from([0.0, 1e9]),
        guests=st.floats(0, 100),
        away=st.floats(0, 100),
    ),
    max_size=40,
)
VALUES = st.lists(st.one_of(st.just(NOTHING), st.floats(0, 1e6)), min_size=1, max_size=60)


@given(SUMS, st.sampled_from(WHATS), st.integers(1, 200))
def test_every_figure_is_in_a_column(sums: list[Sums], what: What, columns: int) -> None:
    series = series_of(sums, {1: "mCii"}, what, WINDOW, columns)
    assert [one.node for one in series] == sorted({one.node for one in sums})
    top = top_of(series, what)
    for one in series:
        assert len(one.values) == columns
        assert all(value == NOTHING or 0 <= value <= max(top, 1e-9) * 1.001 for value in one.values)
        assert one.mean <= one.high * 1.001 or what == "load"
        inside = [sum_ for sum_ in sums if sum_.node == one.node and BEGUN <= sum_.at < WINDOW[1]]
        assert not inside or any(value != NOTHING for value in one.values)
        assert str(one.node) in in_words(one, what)


@given(VALUES, st.integers(1, 10), st.floats(0.1, 1e6), st.sets(st.integers(0, 60)), st.integers(-1, 60))
def test_columns_are_as_high_as_their_values(
    values: list[float], height: int, top: float, marks: set[int], shown: int
) -> None:
    rows = [text_of(line) for line in plot(values, height, top, top / 2, marks, shown)]
    assert [len(row) for row in rows] == [len(values)] * height
    for column, value in enumerate(values):
        eighths = sum(" ▁▂▃▄▅▆▇█".find(row[column]) for row in rows if row[column] in " ▁▂▃▄▅▆▇█")
        wanted = min(height * 8, round(max(0.0, value) / top * height * 8))
        if wanted:
            assert eighths == wanted
        else:
            assert rows[-1][column] in "▁·┊┃"


@given(st.lists(VALUES, max_size=5), st.integers(1, 40), st.sampled_from(WHATS))
def test_a_drawing_fits(found: list[list[float]], height: int, what: What) -> None:
    longest = min((len(values) for values in found), default=1)
    series = [Series(node, f"n{node}", values[:longest]) for node, values in enumerate(found, 1)]
    lines = draw(series, what, WINDOW, 1.0, height, {0}, 0, 1)
    assert len(lines) <= max(height, 3)
    for line in lines:
        if not text_of(line).lstrip()[:2].strip().isdigit():
            assert len(text_of(line)) <= max(MARGIN + longest, 60)


def test_the_times_below_do_not_run_into_each_other() -> None:
    for columns in (1, 15, 16, 40, 120):
        text = text_of(axis(WINDOW, columns))
        assert len(text) <= MARGIN + columns
        assert len(text.split()) == max(1, columns // 16)


@given(SUMS)
def test_pictures_and_tables_can_be_read_by_others(sums: list[Sums]) -> None:
    names = {1: "mCii", 2: 'x", <y> & ñ', 3: "\x1b[2J"}
    series = series_of(sums, names, "load", WINDOW, COLUMNS)
    marks = [Checkpoint(BEGUN + 1000, "<&> \x00 \"'")]
    root = ElementTree.fromstring(as_svg(chart_of(series, "load", WINDOW, marks)))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) >= len(series) * 3 + 1
    rows = list(csv.DictReader(io.StringIO(as_csv(sums, names))))
    assert [float(row["load"]) for row in rows] == pytest.approx([one.load for one in sums], abs=0.01)
    assert [row["name"] for row in rows] == [names[one.node] for one in sums]


def test_where_nothing_was_recorded_no_line_is_drawn() -> None:
    values = [0.1, 0.2, NOTHING, 0.9, 0.1]
    chart = chart_of([Series(1, "mCii", values)], "load", WINDOW, [])
    drawn = [stroke for stroke in chart.strokes if stroke.colour in ("line", "high")]
    assert [stroke.colour for stroke in drawn] == ["line", "high", "line"]
    for before, after in pairwise(drawn[:2]):
        assert before.points[-1][0] < after.points[0][0]
    assert columns_of([Checkpoint(BEGUN - 1, "x"), Checkpoint(BEGUN, "y")], WINDOW, 10) == {0}


def png_lines(data: bytes) -> tuple[int, int]:
    """Width and height that a PNG tells (RFC 2083), its pixels unpacked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    place, pixels = 8, b""
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            pixels += data[place + 8 : place + 8 + length]
        place += 12 + length
    assert (depth, colour) == (8, 2)
    assert len(zlib.decompress(pixels)) == height * (1 + 3 * width)
    return width, height


def test_files(tmp_path: Path) -> None:
    recording = Recording(recorded(tmp_path / "r", 120, nodes=3))
    window = (BEGUN, BEGUN + 120_000)
    for ending in ("svg", "png", "csv"):
        export(recording, tmp_path / f"plot.{ending}", "memory", window)
    chart = ElementTree.parse(tmp_path / "plot.svg").getroot()
    assert png_lines((tmp_path / "plot.png").read_bytes()) == (int(chart.get("width", "")), int(chart.get("height", "")))
    text = "".join(chart.itertext())
    assert "3 ixchel: memory" in text
    assert "the middle" in text
    export(recording, tmp_path / "one.csv", "load", window, 2)
    rows = list(csv.DictReader((tmp_path / "one.csv").read_text().splitlines()))
    assert {row["node"] for row in rows} == {"2"}
    assert len(rows) <= 12
    with pytest.raises(UsageError, match=r"\.csv"):
        export(recording, tmp_path / "plot.gif", "load", window)
    with pytest.raises(OmError, match="cannot be written"):
        export(recording, tmp_path / "nowhere" / "plot.svg", "load", window)
    left = {"plot.svg", "plot.png", "plot.csv", "one.csv", "r"}
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("r-")} == left
    recording.close()
    with pytest.raises(BadRecording):
        recording.names()

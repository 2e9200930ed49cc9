"""What mosmon is asked to show, and what each of its keys changes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from omtools.i18n import N_

Figure = Literal["load", "log", "speed", "memory", "raw", "util"]
Numbering = Literal["auto", "wide", "vertical", "tight"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What to show.

    Attributes:
        figure: of each node.
        numbering: how the nodes' numbers stand below the bars.
        dead: also nodes that are down.
        totals: a line with sums.
        yardstick: a line that tells what a load of 1 is.
        first: number of the node to begin with, or the next one there is.
        ascii: draw with characters that every terminal has.
    """

    figure: Figure = "load"
    numbering: Numbering = "auto"
    dead: bool = False
    totals: bool = False
    yardstick: bool = False
    first: int = 1
    ascii: bool = False

    def beginning(self, number: int) -> Settings:
        """The same, with another node to begin with."""
        return replace(self, first=number)

    def drawn_in_ascii(self, ascii_only: bool) -> Settings:
        """The same, with other characters."""
        return replace(self, ascii=ascii_only)


TITLES: dict[Figure, str] = {
    "load": N_("LOAD"),
    "log": N_("LOAD (log scale)"),
    "speed": N_("SPEED"),
    "memory": N_("MEMORY (MB)"),
    "raw": N_("RAW MEMORY (MB)"),
    "util": N_("UTILIZABILITY (%)"),
}

# Letter of key and option, what of the settings it sets, to what, what it is called
_SETS: tuple[tuple[str, dict[str, str], str], ...] = (
    ("l", {"figure": "load"}, N_("load")),
    ("L", {"figure": "log"}, N_("load on a log scale")),
    ("s", {"figure": "speed"}, N_("speed and number of CPUs")),
    ("m", {"figure": "memory"}, N_("memory: used and what a newcomer can have")),
    ("r", {"figure": "raw"}, N_("memory: used and what nothing uses at all")),
    ("u", {"figure": "util"}, N_("utilizability")),
    ("w", {"numbering": "wide"}, N_("node numbers side by side")),
    ("v", {"numbering": "vertical"}, N_("node numbers downwards")),
    ("V", {"numbering": "tight"}, N_("node numbers downwards, tight")),
    ("a", {"numbering": "auto"}, N_("node numbers as they fit")),
)
_TOGGLES: tuple[tuple[str, str, str], ...] = (
    ("d", "dead", N_("also show dead nodes")),
    ("t", "totals", N_("show totals")),
    ("y", "yardstick", N_("show the yardstick")),
)
_OFF: tuple[tuple[str, str, str], ...] = (
    ("D", "dead", N_("hide dead nodes")),
    ("T", "totals", N_("hide totals")),
)
HELP: tuple[tuple[str, str], ...] = (
    *((key, what) for key, _change, what in _SETS),
    *((key, what) for key, _name, what in _TOGGLES),
    *((key, what) for key, _name, what in _OFF),
)
LETTERS = frozenset(key for key, _what in HELP)


def pressed(settings: Settings, key: str, option: bool = False) -> Settings:
    """The settings after a key, or an option of the same letter; unknown ones change nothing.

    A key toggles d, t and y; an option sets them.
    """
    change: dict[str, Any] = {}
    for letter, values, _what in _SETS:
        if letter == key:
            change = dict(values)
    for letter, name, _what in _TOGGLES:
        if letter == key:
            change = {name: option or not getattr(settings, name)}
    for letter, name, _what in _OFF:
        if letter == key:
            change = {name: False}
    return replace(settings, **change)

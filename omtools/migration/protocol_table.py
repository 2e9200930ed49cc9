"""The state tables of `protocol` as Markdown, for ARCHITECTURE.md.

    python -m omtools.migration.protocol_table ARCHITECTURE.md

writes both tables between their markers; a test keeps the document and the tables equal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from omtools.migration.protocol import GUEST_TABLE, HOME_TABLE, Action, Event, GuestSide, HomeSide

_MARKED = re.compile(r"(<!-- (home|guest) table -->\n).*?(<!-- end -->)", re.DOTALL)
_HEAD = "| state | event | next state | actions |\n|---|---|---|---|\n"

S = TypeVar("S", bound=Enum)


def home_table() -> str:
    """The deputy's keeper's table."""
    return _table(HOME_TABLE, HomeSide.final)


def guest_table() -> str:
    """The remote's keeper's table."""
    return _table(GUEST_TABLE, GuestSide.final)


def _table(table: Mapping[tuple[S, Event], tuple[S, tuple[Action, ...]]], final: frozenset[S]) -> str:
    """One line for all states in which an event does the same; ``=`` is the state it was in."""
    rows: dict[tuple[Event, str, tuple[Action, ...]], list[str]] = {}
    for (state, event), (target, actions) in table.items():
        following = "=" if target is state else f"**{target.name}**" if target in final else target.name
        rows.setdefault((event, following, actions), []).append(state.name)
    lines = [
        f"| {', '.join(states)} | {event.name}: {event.value} | {following} | {_steps(actions)} |\n"
        for (event, following, actions), states in rows.items()
    ]
    return _HEAD + "".join(lines)


def _steps(actions: tuple[Action, ...]) -> str:
    return "; ".join(action.value for action in actions) or "nothing"


def render(document: str) -> str:
    """The document with both tables, as they are now, between the markers ``<!-- home table -->`` and such.

    Raises ValueError when a pair of markers is missing.
    """
    tables = {"home": home_table(), "guest": guest_table()}
    found = {match[2] for match in _MARKED.finditer(document)}
    if missing := sorted(set(tables) - found):
        raise ValueError(f"no markers <!-- {missing[0]} table --> and <!-- end -->")
    return _MARKED.sub(lambda match: match[1] + tables[match[2]] + match[3], document)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(render(path.read_text()))

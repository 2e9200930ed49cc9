"""What a check is, and the table of those that lessons can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from omtools.shell.facts import Facts

Figures = Mapping[str, "str | float"]
ArgumentKind = Literal["node", "text", "pattern", "number", "switch", "mosctl", "path", "figure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        ok: it is as it should be.
        expected: one phrase.
        seen: one phrase.
        figures: for the text that follows; only of a check that is ok.
    """

    ok: bool
    expected: str
    seen: str
    figures: Figures = field(default_factory=dict)


Arguments = Mapping[str, str]
Evaluate = Callable[[Facts, Arguments, Figures], Finding]


@dataclass(frozen=True, slots=True)
class Kind:
    """A check that lessons can name.

    Attributes:
        needed: arguments that must be given.
        optional: those that may be.
        figures: names of what it measures.
        groups: arguments whose named groups are figures too.
        what: one sentence for authors.
    """

    name: str
    evaluate: Evaluate
    needed: Mapping[str, ArgumentKind]
    optional: Mapping[str, ArgumentKind]
    figures: tuple[str, ...]
    groups: tuple[str, ...]
    what: str


REGISTRY: dict[str, Kind] = {}


def check(
    name: str,
    needed: Mapping[str, ArgumentKind],
    optional: Mapping[str, ArgumentKind] | None = None,
    figures: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
) -> Callable[[Evaluate], Evaluate]:
    """Register a check under a name; the first line of its docstring says what it looks at."""

    def add(evaluate: Evaluate) -> Evaluate:
        what = (evaluate.__doc__ or "").split("\n", 1)[0]
        REGISTRY[name] = Kind(name, evaluate, needed, optional or {}, figures, groups, what)
        return evaluate

    return add

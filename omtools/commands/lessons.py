"""``lessons``: for those who write lessons."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.commands._common import parser, run
from omtools.i18n import _

if TYPE_CHECKING:
    import argparse


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_lessons, arguments)


def _lessons(arguments: list[str]) -> int:
    options = parser("lessons", _("Look after the workshop's lessons."))
    verbs = options.add_subparsers(dest="verb", metavar="VERB", required=True)
    lint = verbs.add_parser("lint", help=_("what is wrong with them (exit status 1: something)"))
    lint.add_argument("directory", nargs="?", default="", help=_("with a folder for each language"))
    verbs.add_parser("checks", help=_("the checks that a lesson can name"))
    given = options.parse_args(arguments)
    return _lint(given) if given.verb == "lint" else _checks()


def _lint(given: argparse.Namespace) -> int:
    from omtools.shell import library  # noqa: PLC0415 - only where it is used
    from omtools.shell.lint import lint  # noqa: PLC0415

    directory = Path(given.directory) if given.directory else library.lessons_directory()
    complaints = lint(directory)
    for complaint in complaints:
        print(complaint)
    if not complaints:
        found = {name: len(library.files(directory, name)) for name in library.languages(directory)}
        counts = ", ".join(f"{name} {count}" for name, count in found.items())
        print(_("Nothing is wrong with them ({counts}).").format(counts=counts))
    return 1 if complaints else 0


def _checks() -> int:
    from omtools.shell.checks import KINDS  # noqa: PLC0415

    for kind in KINDS.values():
        words = [f"{name}={what.upper()}" for name, what in kind.needed.items()]
        words += [f"[{name}={what.upper()}]" for name, what in kind.optional.items()]
        print(f"{kind.name} {' '.join(words)}")
        print(f"    {kind.what}")
        if kind.figures or kind.groups:
            groups = [_("named groups of {argument}").format(argument=name) for name in kind.groups]
            print("    " + _("figures: {figures}").format(figures=", ".join([*kind.figures, *groups])))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Translation of everything that people read.

Wrap a string that is shown at once in ``_()``; one that is only declared (a class attribute, a table)
in ``N_()`` and translate it where it is shown. Catalogues are looked for beside the package, the
language comes from ``LANGUAGE``, ``LC_ALL``, ``LC_MESSAGES`` or ``LANG`` as gettext(3) has it.
"""

from __future__ import annotations

import gettext
from pathlib import Path

_catalogue = gettext.translation("omtools", str(Path(__file__).parent / "locale"), fallback=True)


def _(message: str) -> str:
    """The message in the user's language, or as it is."""
    return _catalogue.gettext(message)


def N_(message: str) -> str:  # noqa: N802 - gettext's own name for "mark, do not translate yet"
    """Mark a message for the catalogues without translating it."""
    return message


def ngettext(one: str, many: str, n: int) -> str:
    """The form that fits n in the user's language."""
    return _catalogue.ngettext(one, many, n)

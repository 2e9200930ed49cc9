"""Text that does something when it is clicked."""

from __future__ import annotations

from textual.content import Content
from textual.style import Style


def clickable(action: str, *parts: tuple[str, str]) -> Content:
    """Text with an action.

    Args:
        action: as in bindings, with its name space ("screen.migrate").
        parts: pieces with their looks ("bold", "reverse", "").
    """
    meta = Style.from_meta({"@click": action})
    return Content.assemble(*((text, Style.parse(look) + meta if look else meta) for text, look in parts))

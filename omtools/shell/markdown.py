"""The little Markdown of the lessons on a terminal: wrapped, coloured or plain, in any letters. Pure."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

_SPAN = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|(?<!\w)\*(\w[^*]*)\*(?!\w)")
_SGR = re.compile(r"\x1b\[[0-9;]*m")
_ITEM = re.compile(r"(\s*)([-*]|\d+[.)])\s+(.*)")
_PLAIN = str.maketrans({
    "\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "«": '"', "»": '"', "\u2013": "-", "—": "-",
    "…": "...", "→": "->", "←": "<-", "✓": "*", "✗": "x", "·": "*", "•": "*", "│": "|", "─": "-", "¿": "",
    "¡": "", "≈": "~", "π": "pi", "\u00d7": "x",
})  # fmt: skip

BOLD, DIM, ITALIC, CODE, GOOD, BAD, HEAD = "1", "2", "3", "36", "32", "31", "1;34"


@dataclass(frozen=True, slots=True)
class Style:
    """How text is shown.

    Attributes:
        width: columns.
        colour: use colours.
        unicode: the terminal shows more than ASCII.
        plain: for screen readers: no ornaments, structure in words.
    """

    width: int = 80
    colour: bool = False
    unicode: bool = True
    plain: bool = False

    def paint(self, text: str, code: str) -> str:
        """The text in a colour (parameters of SGR, ECMA-48), if there are colours."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def letters(self, text: str) -> str:
        """The text in letters that the terminal has."""
        if self.unicode:
            return text
        known = unicodedata.normalize("NFKD", text.translate(_PLAIN))
        return known.encode("ascii", "ignore").decode()


def render(text: str, style: Style) -> str:
    """A text of a lesson, ready to be shown; ends with a newline unless it is empty."""
    lines: list[str] = []
    for kind, block in _blocks(text):
        if kind == "text":
            lines += _paragraph(block, style)
        else:
            lines += _literal(block, style, command=kind == "try")
        lines.append("")
    while lines and not lines[-1]:
        lines.pop()
    return style.letters("".join(f"{line}\n" for line in lines))


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """Paragraphs (of lines) and literal blocks."""
    kind, block = "text", list[str]()
    for line in text.split("\n"):
        if line.startswith("```"):
            if block:
                yield kind, block
            inside = kind == "text"
            kind = (line.strip("`").strip() or "literal") if inside else "text"
            block = []
        elif kind == "text" and not line.strip():
            if block:
                yield kind, block
            block = []
        else:
            block.append(line)
    if block:
        yield kind, block


def _literal(lines: list[str], style: Style, *, command: bool) -> list[str]:
    if not command:
        return [f"    {line}" for line in lines]
    sign = "" if style.plain else "$ "
    return [f"    {sign}{style.paint(line, CODE)}" for line in lines]


def _paragraph(lines: list[str], style: Style) -> list[str]:
    if lines[0].startswith("#"):
        return [style.paint(" ".join(lines).lstrip("# "), HEAD)]
    found: list[str] = []
    item: list[str] = []
    for line in lines:
        if _ITEM.fullmatch(line) and item:
            found += _wrapped(item, style)
            item = []
        item.append(line)
    return found + _wrapped(item, style)


def _wrapped(lines: list[str], style: Style) -> list[str]:
    text = " ".join(line.strip() for line in lines)
    first = later = ""
    if found := _ITEM.fullmatch(text):
        first = f"  {found[2]} "
        later, text = " " * len(first), found[3]
    # Code is one word while lines are broken, and its colour comes afterwards: it has no width.
    text = _SPAN.sub(lambda span: span[0].replace(" ", "\xa0"), text)
    broken = textwrap.wrap(
        text, max(20, style.width - 1), initial_indent=first, subsequent_indent=later,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return [_SPAN.sub(lambda span: _span(span, style), line).replace("\xa0", " ") for line in broken]


def _span(span: re.Match[str], style: Style) -> str:
    if span[1] is not None:
        return style.paint(span[1], CODE) if style.colour else f"`{span[1]}`"
    return style.paint(span[2] or span[3], BOLD if span[2] else ITALIC)


def visible(text: str) -> str:
    """The text without colours."""
    return _SGR.sub("", text)

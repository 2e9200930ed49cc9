"""Patterns of checks as a learner can read them: what to write, not how it is searched for. Pure."""

from __future__ import annotations

import re

ANYTHING = "…"
_NOTHING = frozenset("AZbB")  # after a backslash: places in the text
_SPACE, _CLASSES = "s", frozenset("dDwWS0")
_QUANTIFIER = re.compile(r"[*+?]\??|\{\d+(,\d*)?\}\??")
_GROUP = re.compile(r"\((\?P<\w+>|\?:)?")
_LOOK = re.compile(r"\(\?<?[=!]")
_CLASS = re.compile(r"\[\^?\]?(\\.|[^\]\\])*\]", re.DOTALL)


def legible(pattern: str) -> str:
    """A text that says what the regular expression looks for: of several ways the first, "…" for anything.

    Args:
        pattern: as lessons write them; what is none comes out somehow.
    """
    text = _Reader(pattern).alternatives()
    text = re.sub(f"{ANYTHING}+", ANYTHING, text)
    return text.strip(f" {ANYTHING}") or ANYTHING


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def alternatives(self) -> str:
        """Up to the end of the group: the first of what `|` divides."""
        found = [""]
        while self._at < len(self._pattern) and not self._pattern.startswith(")", self._at):
            if self._pattern[self._at] == "|":
                self._at += 1
                found.append("")
            else:
                found[-1] += self._item()
        self._at += 1  # the parenthesis
        return found[0]

    def _item(self) -> str:
        """The next thing with its quantifier: once, unless it may be left out."""
        text = self._thing()
        if quantifier := _QUANTIFIER.match(self._pattern, self._at):
            self._at = quantifier.end()
            if quantifier[0].startswith("?"):
                return ""
        return text

    def _thing(self) -> str:
        if look := _LOOK.match(self._pattern, self._at):
            self._at = look.end()
            self.alternatives()
            return ""
        if group := _GROUP.match(self._pattern, self._at):
            self._at = group.end()
            return self.alternatives()
        if one_of := _CLASS.match(self._pattern, self._at):
            self._at = one_of.end()
            return ANYTHING
        sign = self._pattern[self._at]
        self._at += 1
        if sign == "\\" and self._at < len(self._pattern):
            return self._escaped()
        return {"^": "", "$": "", ".": ANYTHING}.get(sign, sign)

    def _escaped(self) -> str:
        sign = self._pattern[self._at]
        self._at += 1
        if sign in _NOTHING:
            return ""
        if sign == _SPACE:
            return " "
        return ANYTHING if sign in _CLASSES else sign

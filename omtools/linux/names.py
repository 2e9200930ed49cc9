"""Names as the kernel has them: any bytes but NUL; in a str what is no text are lone surrogates (PEP 383)."""

from __future__ import annotations

import os


def is_text(name: str) -> bool:
    """It can be told in a message, which is UTF-8, and be understood there."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(name: str) -> str:
    """The name for people: with a replacement character for each byte that is no text."""
    return os.fsencode(name).decode(errors="replace")

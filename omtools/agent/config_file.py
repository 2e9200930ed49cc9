"""Files of the configuration as texts: read, changed in one step, one key of openmosix.config at a time."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from omtools.errors import BadConfiguration
from omtools.i18n import _


def read_file(path: Path) -> str | None:
    """What it says; None: there is no such file.

    Raises:
        BadConfiguration: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise BadConfiguration(path=str(path), why=_("it is not text (UTF-8)")) from None
    except OSError as error:
        raise BadConfiguration(path=str(path), why=error.strerror or os.strerror(error.errno or 0)) from None


def replace_file(path: Path, text: str) -> None:
    """Give a file that content in one step: who reads it meanwhile sees the old or the new one, whole.

    Raises:
        BadConfiguration: it cannot be written; then it is as it was.
    """
    scratch = None
    try:
        path.parent.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            scratch = file.name
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)
        raise BadConfiguration(path=str(path), why=error.strerror or str(error)) from error


def with_key(text: str, key: str, value: str) -> str:
    """openmosix.config with that key set to that value: its own line is changed, or one is added."""
    line = f"{key}={value}"
    changed, count = re.subn(rf"(?m)^[ \t]*(?:export[ \t]+)?{key}=.*$", lambda _found: line, text)
    if count:
        return changed
    return f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n"

"""The user's own keys: ``omtui-keys.toml`` in the configuration directory, a ``"name" = "keys"`` per line.

Names are those that ``omtui --list-keys`` prints; keys are Textual's (``m``, ``ctrl+x``, ``f5``), several
with commas between.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from omtools.agent.paths import config_dir
from omtools.errors import BadKeys
from omtools.i18n import _

FILE = "omtui-keys.toml"


def own_keys(path: Path | None = None) -> dict[str, str]:
    """Keys by the names of what they do; none if there is no such file.

    Raises:
        BadKeys: it cannot be read.
    """
    path = path or config_dir() / FILE
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadKeys(path=str(path), why=error.strerror or str(error)) from None
    except ValueError as error:
        raise BadKeys(path=str(path), why=str(error)) from None
    for name, keys in found.items():
        if not isinstance(keys, str) or not keys:
            raise BadKeys(path=str(path), why=_("“{name}” is no text with keys").format(name=name))
    return found

"""How often screens are drawn at most: as often as the eye asks for, not for each key that is held down."""

from __future__ import annotations

import os

MOST = 30  # per second; the first key after a rest is answered at once all the same


def draw_in_time() -> None:
    """To be called before Textual is loaded, which reads it then; whoever has set it already knows why."""
    os.environ.setdefault("TEXTUAL_FPS", str(MOST))  # of textual.constants

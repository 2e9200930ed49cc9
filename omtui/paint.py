"""From spans to a terminal's lines: every drawing of ours, in the colours of the theme."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.scroll_view import ScrollView
from textual.strip import Strip

from omtui.spans import ROLES, Line, Role


class Canvas(ScrollView, can_focus=True):
    """A widget that is drawn line by line; subclasses implement `render_line`."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"om--{role}" for role in ROLES} | {
        "om--cursor",
        "om--blurred",
        "om--marked",
    }
    DEFAULT_CSS = """
    Canvas {
        height: 1fr;
        background: $background;
        & > .om--title { text-style: bold; color: $primary; }
        & > .om--dim { color: $foreground 60%; }
        & > .om--axis { color: $foreground 60%; }
        & > .om--bar { color: $success; }
        & > .om--high { color: $error; }
        & > .om--free { color: $foreground 40%; }
        & > .om--dead { color: $error; text-style: bold; }
        & > .om--number { color: $foreground; }
        & > .om--own { color: $accent; text-style: bold; }
        & > .om--trouble { color: $error; text-style: bold; }
        & > .om--away { color: $success; text-style: bold; }
        & > .om--guest { color: $warning; text-style: bold; }
        & > .om--locked { color: $secondary; }
        & > .om--key { color: $accent; text-style: bold; }
        & > .om--line { color: $success; }
        & > .om--cursor {
            background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold;
        }
        & > .om--blurred { background: $block-cursor-blurred-background; text-style: bold; }
        & > .om--marked { text-style: underline; }
    }
    Canvas:ansi {
        & > .om--dim, & > .om--axis, & > .om--free { color: ansi_default; text-style: dim; }
    }
    """

    def render_lines(self, crop: Region) -> list[Strip]:
        """As Textual does, but quickly where it has nothing to add: no frame, no margin, nothing see-through.

        Its own way costs twice what our drawing of a line does, and lines of lists are mostly drawn once.
        """
        if any(self.gutter) or self.opacity < 1:
            return super().render_lines(crop)
        width, background = self.region.width, self.background_colors[1]
        strips = [self.render_line(y).adjust_cell_length(width) for y in crop.line_range]
        for look in self.get_line_filters():
            strips = [strip.apply_filter(look, background) for strip in strips]
        if crop.column_span != (0, width):
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def style_of(self, role: Role) -> Style:
        """The look of a role in the present theme."""
        return self.get_component_rich_style(f"om--{role}")

    def strip_of(self, line: Line, width: int, over: Style | None = None) -> Strip:
        """A line of exactly that many cells.

        Args:
            line: what stands there.
            width: of the widget.
            over: a look that goes before the roles' (the cursor's).
        """
        if over is None:
            segments = [Segment(text, self.style_of(role)) for text, role in line]
            return Strip(segments).adjust_cell_length(width, self.style_of("plain"))
        segments = [Segment(text, self.style_of(role) + over) for text, role in line]
        return Strip(segments).adjust_cell_length(width, self.style_of("plain") + over)

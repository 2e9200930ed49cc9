"""From spans to a terminal's lines: every drawing of ours, in the colours of the theme."""

from __future__ import annotations

from typing import Any, ClassVar, Self

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
        & > .om--title { text-style: bold; color: $text-primary; }
        & > .om--dim { color: $foreground 60%; }
        & > .om--axis { color: $foreground 60%; }
        & > .om--bar { color: $success; }
        & > .om--high { color: $error; }
        & > .om--free { color: $foreground 40%; }
        & > .om--dead { color: $text-error; text-style: bold; }
        & > .om--number { color: $foreground; }
        & > .om--own { color: $text-accent; text-style: bold; }
        & > .om--trouble { color: $text-error; text-style: bold; }
        & > .om--away { color: $text-success; text-style: bold; }
        & > .om--guest { color: $text-warning; text-style: bold; }
        & > .om--locked { color: $text-secondary; }
        & > .om--key { color: $text-accent; text-style: bold; }
        & > .om--line { color: $success; }
        & > .om--cursor {
            background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold;
        }
        & > .om--blurred {
            background: $block-cursor-blurred-background; color: $block-cursor-blurred-foreground;
            text-style: bold;
        }
        & > .om--marked { text-style: underline; }
    }
    Canvas:ansi {
        & > .om--dim, & > .om--axis, & > .om--free { color: ansi_default; text-style: dim; }
    }
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As any widget; nothing is drawn yet."""
        self._strips: dict[int, Strip] = {}  # lines as they are on the screen
        self._strips_wide = 0
        super().__init__(*arguments, **named)

    def render_lines(self, crop: Region) -> list[Strip]:
        """As Textual does, but quickly where it has nothing to add: no frame, no margin, nothing see-through.

        Its own way costs twice what our drawing does. Lines that nobody refreshed are kept, as there.
        """
        if any(self.gutter) or self.opacity < 1:
            return super().render_lines(crop)
        width = self.region.width
        if width != self._strips_wide:
            self._strips_wide = width
            self._strips.clear()
        known = self._strips
        for y in crop.line_range:
            if y not in known:
                known[y] = self._strip(y, width)
        strips = [known[y] for y in crop.line_range]
        if crop.column_span != (0, width):
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def _strip(self, y: int, width: int) -> Strip:
        strip = self.render_line(y).adjust_cell_length(width)
        for look in self.get_line_filters():
            strip = strip.apply_filter(look, self.background_colors[1])
        return strip

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Self:
        """Draw all of it anew, or those regions."""
        if not regions:
            self._strips.clear()
        for region in regions:
            for y in region.line_range:
                self._strips.pop(y, None)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def notify_style_update(self) -> None:
        """Other colours."""
        self._strips.clear()
        super().notify_style_update()

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

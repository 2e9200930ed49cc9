"""The lesson beside the shell: what the step asks for, and what is done already. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from omtools.i18n import _
from omtools.shell.lesson import Lesson
from omtools.shell.markdown import BOLD, DIM, GOOD, HEAD, Style, render
from omtools.shell.progress import Progress


def lesson_text(lessons: Sequence[Lesson], progress: Progress, style: Style) -> str:
    """The present lesson for the learner's eyes, with SGR (ECMA-48) if there are colours.

    Args:
        lessons: all, in order.
        progress: what omsh keeps.
        style: how wide it may be, and whether there are colours.
    """
    lesson = next((one for one in lessons if one.id == progress.lesson), lessons[0] if lessons else None)
    if lesson is None:
        return _("There are no lessons here.")
    at = next((step for step in lesson.steps if step.id == progress.step), None)
    parts = [style.paint(f"{lesson.number}  {lesson.title}", HEAD), ""]
    for number, step in enumerate(lesson.steps, 1):
        solved = progress.solved(lesson.id, step.id)
        text = f"{'✓' if solved else '▸' if step is at else '·'} {number} {step.title}"
        parts.append(style.paint(style.letters(text), GOOD if solved else BOLD if step is at else DIM))
    shown = at or (lesson.steps[0] if lesson.steps else None)
    if shown is not None:
        parts += ["", style.paint(shown.title, HEAD), render(shown.text, style).rstrip("\n"), ""]
        parts.append(render(f"**{_('Goal')}:** {shown.goal}", style).rstrip("\n"))
    return "\n".join(parts)

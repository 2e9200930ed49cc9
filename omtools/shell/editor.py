"""The line editor: prompt-toolkit with what omsh knows about nodes."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app, run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI, StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.styles import Style

from omtools.shell.complete import Surroundings, complete, unfinished
from omtools.shell.plain_reader import Watched

_STYLE = Style.from_dict(
    {
        "bottom-toolbar": "noreverse",
        "bottom-toolbar.text": "noreverse",
        "keys": "reverse",
        "command": "bold",
        "option": "ansicyan",
        "quoted": "ansigreen",
        "node": "ansimagenta",
        "workshop": "ansiblue bold",
        "comment": "italic",
    }
)
# Seconds for a terminal to say where its cursor is, before it counts as one that never does. What is to be
# written over the prompt waits for that answer.
_CURSOR_PATIENCE = 0.4
_TOKEN = re.compile(
    r"(?P<quoted>'[^']*'?|\"[^\"]*\"?)|(?P<comment>(?<!\S)#.*)|(?P<word>[^\s'\"|&;()<>]+)|(?P<rest>.)"
)


class _Completions(Completer):
    def __init__(self, around: Callable[[], Surroundings]) -> None:
        self._around = around

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002 - prompt-toolkit's signature
        for one in complete(document.text_before_cursor, self._around()):
            yield Completion(one.text, one.start, display_meta=one.meta[:40])


class _Colours(Lexer):
    """Commands, options, strings, node names."""

    def __init__(self, nodes: Callable[[], Iterable[str]]) -> None:
        self._nodes = nodes

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """The styles of each line."""
        names = set(self._nodes())
        return lambda number: list(self._styles(document.lines[number], names))

    @staticmethod
    def _styles(line: str, names: set[str]) -> Iterable[tuple[str, str]]:
        if line.startswith(":"):
            yield "class:workshop", line
            return
        first = True
        for found in _TOKEN.finditer(line):
            text, kind = found[0], found.lastgroup
            if kind == "word":
                style = "command" if first else "option" if text.startswith("-") else ""
                yield f"class:{'node' if text in names else style}", text
                first = False
            else:
                yield f"class:{kind}", text
                first = first or text in "|&;("


class _History(FileHistory):
    """A history that may not be kept without anybody being bothered."""

    def store_string(self, string: str) -> None:
        """Keep a line."""
        with contextlib.suppress(OSError):
            super().store_string(string)


def _history(path: Path) -> History:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(0o600)
    except OSError:
        return InMemoryHistory()
    return _History(str(path))


class Editor:
    """Asks for lines.

    Args:
        history: file that keeps them.
        around: what can be completed at the moment.
        toolbar: the lines at the bottom, clipped to a width.
        keys: letters that with Alt stand for a line of the workshop.
        colour: use colours.
    """

    def __init__(
        self,
        history: Path,
        around: Callable[[], Surroundings],
        toolbar: Callable[[int], Sequence[str]],
        keys: dict[str, str],
        *,
        colour: bool,
    ) -> None:
        self._toolbar = toolbar
        self._left = ""
        self._session: PromptSession[str] = PromptSession(
            history=_history(history),
            completer=_Completions(around),
            complete_while_typing=False,
            complete_in_thread=True,
            lexer=_Colours(lambda: around().nodes) if colour else None,
            style=_STYLE,
            color_depth=None if colour else ColorDepth.DEPTH_1_BIT,
            key_bindings=self._bindings(keys),
            bottom_toolbar=self._bottom,
            multiline=Condition(lambda: unfinished(get_app().current_buffer.text)),
            refresh_interval=1.0,
            enable_open_in_editor=False,
        )
        renderer = self._session.app.renderer
        renderer.CPR_TIMEOUT = _CURSOR_PATIENCE  # type: ignore[assignment]
        renderer.cpr_not_supported_callback = None  # it would warn of it in the middle of the lesson

    def _bottom(self) -> StyleAndTextTuples:
        width = get_app().output.get_size().columns
        *lines, last = self._toolbar(width)
        return [("", "".join(f"{line}\n" for line in lines)), ("class:keys", last)]

    def _bindings(self, keys: dict[str, str]) -> KeyBindings:
        made = KeyBindings()

        def bind(line: str) -> Callable[[KeyPressEvent], None]:
            def pressed(event: KeyPressEvent) -> None:
                self._left = event.app.current_buffer.text  # comes back with the next prompt
                event.app.current_buffer.reset()
                event.app.exit(result=line)

            return pressed

        for letter, line in keys.items():
            made.add("escape", letter)(bind(line))
        made.add("f1")(bind(":help"))
        return made

    def ask(self, prompt: str, watched: Sequence[Watched]) -> str:
        """Ask for a line.

        Args:
            prompt: with colours as SGR.
            watched: what is looked at meanwhile.

        Raises:
            EOFError: Ctrl-D on an empty line.
            KeyboardInterrupt: Ctrl-C.
        """
        left, self._left = self._left, ""

        def listen() -> None:
            loop = asyncio.get_running_loop()
            for one in watched:
                loop.add_reader(one.fd, _news, loop, one)

        return self._session.prompt(ANSI(prompt), default=left, pre_run=listen)

    def stop(self, line: str) -> None:
        """End a prompt that stands, as if the line had been typed."""
        app = get_app()
        if app.is_running:
            self._left = app.current_buffer.text
            app.exit(result=line)


def _news(loop: asyncio.AbstractEventLoop, one: Watched) -> None:
    try:
        write = one.drain()
    except OSError:
        loop.remove_reader(one.fd)
        return
    if write is not None:
        asyncio.ensure_future(run_in_terminal(write))  # noqa: RUF006 - the running application waits for it

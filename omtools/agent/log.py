"""The agent's log: one line per event, with what it is about as ``key=value``, or as JSON.

Every line has the node's number; every line about a process its pid at home, and about a migration its name
(`mig`): also those of code that knows nothing of either, by `about`.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import msgspec

from omtools.errors import BadConfiguration

_logger = logging.getLogger("openmosix")
_context: ContextVar[dict[str, object]] = ContextVar("about", default={})  # noqa: B039 - never changed in place


def set_up(
    node: int, file: Path | None = None, debug: bool = False, system: bool = False, as_json: bool = False
) -> None:
    """Send the log to a file, to the system's log, or to stderr.

    Args:
        node: this node's number, in every line.
        file: where to; appended to.
        debug: everything, with tracebacks.
        system: to /dev/log (syslog(3)), if `file` is None.
        as_json: a JSON object on each line.

    Raises:
        BadConfiguration: the file cannot be written.
    """
    try:
        handler: logging.Handler
        if file is not None:
            handler = logging.FileHandler(file, encoding="utf-8")
        elif system:
            handler = logging.handlers.SysLogHandler("/dev/log", logging.handlers.SysLogHandler.LOG_DAEMON)
        else:
            handler = logging.StreamHandler(sys.stderr)
    except OSError as error:
        raise BadConfiguration(path=str(file), why=error.strerror or str(error)) from None
    # LogRecord.node does not exist: the number is put into the format itself.
    text = logging.Formatter(f"%(asctime)s %(levelname)s node={node} %(message)s")
    handler.setFormatter(_JsonFormatter(node) if as_json else text)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    _logger.setLevel(logging.DEBUG if debug else logging.INFO)
    # asyncssh tells at INFO of every connection and key; its warnings are what an administrator wants.
    logging.getLogger("asyncssh").setLevel(logging.INFO if debug else logging.ERROR)


def descriptor() -> int | None:
    """The log's file, for processes that the agent starts to complain into; None: they have stderr."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream is not None:
            return handler.stream.fileno()
    return None


@contextlib.contextmanager
def about(**what: object) -> Iterator[None]:
    """Have these fields on every line that is logged within, also by what is called and by tasks begun."""
    token = _context.set({**_context.get(), **what})
    try:
        yield
    finally:
        _context.reset(token)


@contextlib.contextmanager
def about_nothing() -> Iterator[None]:
    """What is begun within outlives what it was begun for: its lines are about nothing in particular."""
    token = _context.set({})
    try:
        yield
    finally:
        _context.reset(token)


def info(text: str, **about: object) -> None:
    """Something happened."""
    _logger.info("%s", _Line(text, about))


def warn(text: str, **about: object) -> None:
    """Something went wrong, the agent goes on."""
    _logger.warning("%s", _Line(text, about))


def debug(text: str, **about: object) -> None:
    """For who looks for a fault."""
    if _logger.isEnabledFor(logging.DEBUG):
        _logger.debug("%s", _Line(text, about))


def failed(text: str, error: BaseException, **about: object) -> None:
    """An error of ours: one line, and the traceback with --debug."""
    trace = error if _logger.isEnabledFor(logging.DEBUG) else None
    _logger.error("%s", _Line(f"{text}: {type(error).__name__}: {error}", about), exc_info=trace)


class _Line:
    """One event: a text, and what it is about."""

    def __init__(self, text: str, about: dict[str, object]) -> None:
        self.text = text
        both = {**_context.get(), **about}
        self.about = {key: value for key, value in both.items() if value not in ("", None)}

    def __str__(self) -> str:
        # One event, one line, whatever a peer or a user put into it.
        fields = "".join(f" {key}={_printable(str(value))}" for key, value in self.about.items())
        return _printable(self.text) + fields


class _JsonFormatter(logging.Formatter):
    """A line is a JSON object: time, level, node, event, and what it is about."""

    def __init__(self, node: int) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        line = record.args[0] if isinstance(record.args, tuple) and record.args else None
        fields: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname,
            "node": self._node,
            "event": line.text if isinstance(line, _Line) else record.getMessage(),
        }
        if isinstance(line, _Line):
            fields |= {key: _plain(value) for key, value in line.about.items()}
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | str) else str(value)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)

"""The agent's log: one line per event, with what it is about as ``key=value``."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path

from omtools.errors import BadConfiguration

_logger = logging.getLogger("openmosix")


def set_up(node: int, file: Path | None = None, debug: bool = False, system: bool = False) -> None:
    """Send the log to a file, to the system's log, or to stderr.

    Args:
        node: this node's number, in every line.
        file: where to; appended to.
        debug: everything, with tracebacks.
        system: to /dev/log (syslog(3)), if `file` is None.

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
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s node={node} %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    _logger.setLevel(logging.DEBUG if debug else logging.INFO)
    # asyncssh tells at INFO of every connection and key; its warnings are what an administrator wants.
    logging.getLogger("asyncssh").setLevel(logging.INFO if debug else logging.ERROR)


def info(text: str, **about: object) -> None:
    """Something happened."""
    _logger.info("%s", _line(text, about))


def warn(text: str, **about: object) -> None:
    """Something went wrong, the agent goes on."""
    _logger.warning("%s", _line(text, about))


def debug(text: str, **about: object) -> None:
    """For who looks for a fault."""
    if _logger.isEnabledFor(logging.DEBUG):
        _logger.debug("%s", _line(text, about))


def failed(text: str, error: BaseException, **about: object) -> None:
    """An error of ours: one line, and the traceback with --debug."""
    trace = error if _logger.isEnabledFor(logging.DEBUG) else None
    _logger.error("%s", _line(f"{text}: {type(error).__name__}: {error}", about), exc_info=trace)


def _line(text: str, about: dict[str, object]) -> str:
    # One event, one line, whatever a peer or a user put into it.
    fields = "".join(
        f" {key}={_printable(str(value))}" for key, value in about.items() if value not in ("", None)
    )
    return _printable(text) + fields


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)

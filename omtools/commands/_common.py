"""What all commands share: how they start, fail and end. Cheap to import."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import msgspec

from omtools.errors import OmError, UsageError
from omtools.i18n import _

if TYPE_CHECKING:
    import argparse

Command = Callable[[list[str]], int]

INTERRUPTED = 130  # what a shell shows for SIGINT


def run(command: Command, arguments: list[str] | None = None) -> int:
    """Run a command as a program: errors become one sentence and an exit status.

    Args:
        command: takes the arguments, returns the exit status.
        arguments: None: the program's own.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        status = command(given)
        sys.stdout.flush()
    except OmError as error:
        if "--debug" in given:
            raise
        say(str(error))
        return error.exit_status
    except BrokenPipeError:
        # Who read our output has seen enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def say(sentence: str) -> None:
    """One sentence on stderr, in the program's name."""
    name = os.path.basename(sys.argv[0]).removesuffix(".py") or "openmosix"
    print(f"{name}: {sentence}", file=sys.stderr)


def print_json(value: object) -> None:
    """A value as one line of JSON."""
    print(msgspec.json.encode(value).decode())


def parser(name: str, what: str, usage: str | None = None) -> argparse.ArgumentParser:
    """An argument parser whose errors are UsageErrors, with the options every command has.

    Args:
        name: of the command.
        what: one sentence on what it does.
        usage: instead of what argparse would make of the arguments.
    """
    import argparse  # noqa: PLC0415 - a quarter of a command's start, where it is not needed

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(
                detail=_("{problem}; `{name} --help` shows how to write it.").format(
                    problem=message[:1].upper() + message[1:], name=self.prog.split()[0]
                )
            )

    made = Parser(prog=name, description=what, usage=usage, allow_abbrev=False)
    made.add_argument("--debug", action="store_true", help=_("show tracebacks"))
    return made


def as_pid(word: str) -> int:
    """A pid from the command line.

    Raises:
        UsageError: it is none.
    """
    if not (word.isascii() and word.isdigit()) or not 1 <= int(word) <= 1 << 22:
        raise UsageError(detail=_("“{word}” is no process number.").format(word=word))
    return int(word)


def megabytes(size: float) -> str:
    """Bytes for people: 13.2 MB."""
    return f"{size / 1e6:.1f} MB" if size < 1e8 else f"{size / 1e6:.0f} MB"

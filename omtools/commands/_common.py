"""What all commands share: how they start, fail and end. Cheap to import."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import msgspec

from omtools.errors import OmError, UnknownNode, UsageError
from omtools.i18n import N_, _

if TYPE_CHECKING:
    import argparse

Command = Callable[[list[str]], int]

# What argparse says itself (argparse.py); it looks up its `_` when it says it.
_OF_ARGPARSE = (
    N_("usage: "), N_("positional arguments"), N_("options"), N_("show this help message and exit"),
    N_("the following arguments are required: %s"), N_("argument %(argument_name)s: %(message)s"),
    N_("expected one argument"), N_("expected at least one argument"), N_("not allowed with argument %s"),
    N_("one of the arguments %s is required"), N_("ignored explicit argument %r"),
)  # fmt: skip
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
        say(str(error) + _suggestion(error))
        return error.exit_status
    except BrokenPipeError:
        # Who read our output has seen enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _suggestion(error: OmError) -> str:
    """Which node was probably meant, where one is not known; "" else."""
    if not isinstance(error, UnknownNode):
        return ""
    from omtools.agent.client import talk  # noqa: PLC0415 - only after a slip of the pen
    from omtools.commands._words import did_you_mean  # noqa: PLC0415

    try:
        nodes = talk("did-you-mean", lambda cluster: cluster.map()).nodes
    except OmError:
        return ""
    return did_you_mean(str(error.fields.get("node", "")), [node.name for node in nodes])


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

    vars(argparse)["_"] = _

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(
                detail=_("{problem}; `{name} --help` shows how to write it.").format(
                    problem=message[:1].upper() + message[1:], name=self.prog.split()[0]
                )
            )

        def _check_value(self, action: argparse.Action, value: Any) -> None:
            """Argparse's own message has all the choices in it, a screen full of them."""
            if action.choices is None or value in action.choices:
                return
            self._unknown(str(value), map(str, action.choices))

        def parse_args(  # type: ignore[override]  # the typeshed's overloads are about namespaces
            self, args: Sequence[str] | None = None, namespace: Any = None
        ) -> Any:
            if _Caught.wanted:
                raise _Caught(self)
            given, rest = self.parse_known_args(args, namespace)
            if rest:
                known = _all_options(self)
                if rest[0].partition("=")[0] in known:
                    raise _misplaced(rest[0], self.prog.split()[0], getattr(given, "verb", ""))
                self._unknown(rest[0], known)
            return given

        def _unknown(self, word: str, known: Iterable[str]) -> NoReturn:
            from omtools.commands._words import did_you_mean  # noqa: PLC0415

            sentence = _("“{word}” means nothing to {name}; `{name} --help` shows what does.")
            named = sentence.format(word=word, name=self.prog.split()[0])
            raise UsageError(detail=named + did_you_mean(word, known))

    made = Parser(prog=name, description=what, usage=usage, allow_abbrev=False)
    made.add_argument("--debug", action="store_true", help=_("show tracebacks"))
    return made


def _misplaced(option: str, name: str, verb: str) -> UsageError:
    """It is an option of the command, but of another verb."""
    what = f"{name} {verb}".rstrip()
    sentence = _("{option} does not go with `{what}`; `{what} --help` shows what does.")
    return UsageError(detail=sentence.format(option=option, what=what))


class _Caught(Exception):
    """A parser, on its way to who wanted to have it.

    Attributes:
        wanted: somebody wants the next one.
    """

    wanted: ClassVar[bool] = False

    def __init__(self, made: argparse.ArgumentParser) -> None:
        super().__init__()
        self.made = made


def parser_of(main: Callable[[list[str]], int]) -> argparse.ArgumentParser | None:
    """The parser of a command, caught when it is about to read arguments; None if the command has none."""
    _Caught.wanted = True
    try:
        main([])
    except _Caught as caught:
        return caught.made
    finally:
        _Caught.wanted = False
    return None


def _all_options(made: argparse.ArgumentParser) -> list[str]:
    """Every option of it and of its verbs."""
    import argparse  # noqa: PLC0415

    found = list(made._option_string_actions)
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found += _all_options(sub)
    return found


def as_pid(word: str) -> int:
    """A pid from the command line.

    Raises:
        UsageError: it is none.
    """
    if not (word.isascii() and word.isdigit()) or not 1 <= int(word) <= 1 << 22:
        raise UsageError(detail=_("“{word}” is no process number.").format(word=word))
    return int(word)


def as_whole(low: int, high: int) -> Callable[[str], int]:
    """What makes a whole number from `low` to `high` of a word of the command line; raises UsageError."""

    def convert(word: str) -> int:
        digits = word[1:] if word.startswith("-") else word
        if not (digits.isascii() and digits.isdigit() and len(digits) < 12) or not low <= int(word) <= high:
            raise UsageError(
                detail=_("“{word}” is no number from {low} to {high}.").format(word=word, low=low, high=high)
            )
        return int(word)

    return convert


def megabytes(size: float) -> str:
    """Bytes for people: 13.2 MB."""
    return f"{size / 1e6:.1f} MB" if size < 1e8 else f"{size / 1e6:.0f} MB"

"""openMosix's eight short forms of mosrun: ``nomig runhome runon cpujob iojob nodecay slowdecay fastdecay``.

Each takes the options that it had there, and becomes the ``mosrun`` that it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass

from omtools.commands import mosrun
from omtools.commands._common import run
from omtools.errors import UsageError
from omtools.i18n import N_, _

_PLACE = "[-h | -NODE] "


@dataclass(frozen=True, slots=True)
class Wrapper:
    """One of them.

    Attributes:
        name: of the command.
        means: the options of mosrun that it stands for.
        what: one sentence.
        place: what it takes to say where: nothing, options, or a node as its first argument.
    """

    name: str
    means: tuple[str, ...]
    what: str
    place: str = ""


WRAPPERS = {
    wrapper.name: wrapper
    for wrapper in (
        Wrapper("nomig", ("-L",), N_("Run a command that stays where it is started.")),
        Wrapper("runhome", ("-h", "-L"), N_("Run a command here, and keep it here.")),
        Wrapper("runon", ("-L",), N_("Run a command on a node, and keep it there."), "NODE "),
        Wrapper("cpujob", ("-c",), N_("Run a command that mostly computes."), _PLACE),
        Wrapper("iojob", ("-i",), N_("Run a command that mostly reads and writes."), _PLACE),
        Wrapper("nodecay", ("-n",), N_("Run a command whose past is never forgotten."), _PLACE),
        Wrapper("slowdecay", ("-s",), N_("Run a command whose past is forgotten slowly."), _PLACE),
        Wrapper("fastdecay", ("-f",), N_("Run a command whose past is forgotten fast."), _PLACE),
    )
}


def help_text(wrapper: Wrapper) -> str:
    """What its --help prints."""
    lines = [
        f"usage: {wrapper.name} {wrapper.place}[-z] command [argument...]",
        "",
        _(wrapper.what) + " " + _("It stands for mosrun {options}.").format(options=" ".join(wrapper.means)),
        "",
    ]
    if wrapper.place == _PLACE:
        lines += [
            "  -h        " + _("run it here, at home, and keep it here"),
            "  -NODE     " + _("run it on the node with that number, and keep it there"),
        ]
    lines += [
        "  -z        " + _("the first argument is the name under which the command is run"),
        "  --help    " + _("show this"),
    ]
    return "\n".join(lines)


def translated(wrapper: Wrapper, arguments: list[str]) -> list[str]:
    """The arguments for mosrun.

    Raises:
        UsageError: they make no sense.
    """
    rest = list(arguments)
    options = list(wrapper.means)
    if wrapper.place == "NODE ":
        if not rest or rest[0].startswith("-"):
            raise UsageError(detail=_("On which node? `runon NODE command` is how to write it."))
        options += ["-N", rest.pop(0)]
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        places = wrapper.place == _PLACE and (word == "-h" or word[1:].isdigit())
        if not places and word not in ("-z", "--debug"):
            raise UsageError(
                detail=_("There is no option {word}; `{name} --help` shows those there are.").format(
                    word=word, name=wrapper.name
                )
            )
        options.append(word)
    if not rest:
        raise UsageError(
            detail=_("Which command? `{name} --help` shows how to write it.").format(name=wrapper.name)
        )
    return [*options, "--", *rest]


def _start(name: str, arguments: list[str] | None) -> int:
    wrapper = WRAPPERS[name]

    def command(given: list[str]) -> int:
        if given[:1] == ["--help"]:
            print(help_text(wrapper))
            return 0
        return mosrun.command(translated(wrapper, given))

    return run(command, arguments)


def nomig(arguments: list[str] | None = None) -> int:
    """Run `nomig`; returns the command's exit status, or not at all."""
    return _start("nomig", arguments)


def runhome(arguments: list[str] | None = None) -> int:
    """Run `runhome`; returns the command's exit status, or not at all."""
    return _start("runhome", arguments)


def runon(arguments: list[str] | None = None) -> int:
    """Run `runon`; returns the command's exit status, or not at all."""
    return _start("runon", arguments)


def cpujob(arguments: list[str] | None = None) -> int:
    """Run `cpujob`; returns the command's exit status, or not at all."""
    return _start("cpujob", arguments)


def iojob(arguments: list[str] | None = None) -> int:
    """Run `iojob`; returns the command's exit status, or not at all."""
    return _start("iojob", arguments)


def nodecay(arguments: list[str] | None = None) -> int:
    """Run `nodecay`; returns the command's exit status, or not at all."""
    return _start("nodecay", arguments)


def slowdecay(arguments: list[str] | None = None) -> int:
    """Run `slowdecay`; returns the command's exit status, or not at all."""
    return _start("slowdecay", arguments)


def fastdecay(arguments: list[str] | None = None) -> int:
    """Run `fastdecay`; returns the command's exit status, or not at all."""
    return _start("fastdecay", arguments)

"""``omsh``: a shell on the cluster's nodes, and the workshop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.commands._common import parser, run
from omtools.errors import LabNotUp, LessonFails, OmError, UsageError
from omtools.i18n import _

if TYPE_CHECKING:
    import argparse

    from omtools.lab.lab import Lab
    from omtools.shell.lesson import Lesson


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omsh, arguments)


def _options() -> argparse.ArgumentParser:
    options = parser(
        "omsh",
        _(
            "A shell on the nodes of a cluster. Without HOST: on the lab on this machine, which is "
            "started if it is not up, with the workshop's lessons. With HOST: on a real node, over SSH."
        ),
    )
    options.add_argument("host", metavar="[USER@]HOST", nargs="?", default="", help=_("a machine, over SSH"))
    options.add_argument("--port", type=int, default=0, metavar="N", help=_("its SSH port"))
    options.add_argument("--node", default="", metavar="NODE", help=_("begin on that node of the lab"))
    options.add_argument("--sandbox", action="store_true", help=_("begin without a lesson"))
    options.add_argument(
        "--lesson", default="", metavar="N",
        help=_("a lesson's number or id; --play takes several, with commas between"),
    )
    options.add_argument("--lang", default="", metavar="LL", help=_("language of the lessons: en, es"))
    options.add_argument("--plain", action="store_true", help=_("for screen readers: text only"))
    options.add_argument("--list", action="store_true", help=_("list the lessons"))
    options.add_argument("--result", default="", metavar="FILE", help=_("write what was solved"))
    options.add_argument(
        "--play", choices=["all", "thorough"], help=_("solve the lessons by themselves, to prove them")
    )
    return options


def _omsh(arguments: list[str]) -> int:
    given = _options().parse_args(arguments)
    if given.host:
        for name in ("lesson", "play", "result", "list", "sandbox", "node"):
            if getattr(given, name):
                raise UsageError(detail=_("--{option} is for the lab, not for a HOST.").format(option=name))
        return _remote(given)
    lessons = _lessons(given)
    if given.list:
        for lesson in lessons:
            print(f"{lesson.number:>3}  {lesson.id:<20} {lesson.title}")
        return 0
    if given.result:
        return _result(given, lessons)
    return _play(given, lessons) if given.play else _workshop(given, lessons)


def _lessons(given: argparse.Namespace) -> list[Lesson]:
    from omtools.shell import library, words  # noqa: PLC0415 - --help needs none of this

    directory = library.lessons_directory()
    language = given.lang or library.user_language()
    if given.lang and given.lang not in library.languages(directory):
        have, lang = ", ".join(library.languages(directory)), given.lang
        why = _("There are lessons in {have}, none in {lang}.").format(have=have, lang=lang)
        raise UsageError(detail=why)
    words.speak(directory, language)
    return library.load(language, directory)


def _lab() -> tuple[Lab, bool]:
    """The user's lab, and whether it had to be started."""
    from omtools.lab.lab import Lab  # noqa: PLC0415
    from omtools.shell.toolbox import furnish  # noqa: PLC0415

    try:
        Lab.find()
        started = False
    except LabNotUp:
        started = True
    lab = Lab.up()
    try:
        furnish(lab)
    except OSError as error:
        raise OmError(detail=f"{lab.directory}: {error.strerror}.") from None
    return lab, started


def _workshop(given: argparse.Namespace, lessons: list[Lesson]) -> int:
    from omtools.shell import library  # noqa: PLC0415
    from omtools.shell.grounds import Grounds  # noqa: PLC0415
    from omtools.shell.progress import Store  # noqa: PLC0415
    from omtools.shell.screen import Screen  # noqa: PLC0415
    from omtools.shell.session import Session  # noqa: PLC0415

    screen = Screen(plain=given.plain)
    lab, started = _lab()
    start = lab.node(given.node).name if given.node else ""
    if started:
        screen.say(_("A lab is up: {nodes}.").format(nodes=", ".join(lab.nodes)))
    if lab.state.reason:
        why = _("Its nodes are plain processes on this machine ({why}); `omcheck` says how to get real ones.")
        screen.say(why.format(why=lab.state.reason))
    lessons = library.possible(lessons, lab.state.mode)
    begin = library.choose(lessons, given.lesson).id if given.lesson else ""
    grounds = Grounds(lab, screen.say)
    session = Session(grounds.cluster(metal=False), screen, start)
    try:
        session.teach(grounds, lessons, Store(lab.state.name), begin=begin, sandbox=given.sandbox)
        session.run(line_editor=_has_editor(given))
    finally:
        session.close()
    if started or grounds.machines_up:
        screen.say(_("The lab is still up; `omlab down` takes it down."))
    return 0


def _has_editor(given: argparse.Namespace) -> bool:
    import os  # noqa: PLC0415

    dumb = os.environ.get("TERM", "dumb") in ("dumb", "")
    return sys.stdin.isatty() and sys.stdout.isatty() and not given.plain and not dumb


def _result(given: argparse.Namespace, lessons: list[Lesson]) -> int:
    from omtools.lab.state import lab_name  # noqa: PLC0415
    from omtools.shell.progress import Store, result, write  # noqa: PLC0415

    name = lab_name()
    steps = {lesson.id: tuple(step.id for step in lesson.steps) for lesson in lessons}
    path = Path(given.result)
    try:
        write(path, result(Store(name).read(), name, steps))
    except OSError as error:
        raise OmError(detail=f"{path}: {error.strerror}.") from None
    return 0


def _play(given: argparse.Namespace, lessons: list[Lesson]) -> int:
    from omtools.shell import library  # noqa: PLC0415
    from omtools.shell.grounds import Grounds  # noqa: PLC0415
    from omtools.shell.lesson import METAL  # noqa: PLC0415
    from omtools.shell.play import Player  # noqa: PLC0415

    chosen = [library.choose(lessons, word) for word in given.lesson.split(",")] if given.lesson else lessons
    lab, started = _lab()
    left_out = [lesson for lesson in chosen if lesson not in library.possible(chosen, lab.state.mode)]
    for lesson in left_out:
        print(_("{n:>2} needs namespaces and is left out.").format(n=lesson.number))
        chosen = [one for one in chosen if one is not lesson]
    if why := _no_machines():
        for lesson in [one for one in chosen if one.needs == METAL]:
            print(_("{n:>2} needs two machines and is left out: {why}").format(n=lesson.number, why=why))
        chosen = [one for one in chosen if one.needs != METAL]
    failed = total = 0
    grounds = Grounds(lab, _loudly_a_line if given.debug else _silently)
    player = Player(grounds, thorough=given.play == "thorough", said=_loudly if given.debug else _silently)
    try:
        for played in player.play(chosen):
            total += 1
            failed += bool(played.problem)
            mark = _("FAILS") if played.problem else _("ok")
            name = f"{played.lesson.number:>2} {played.lesson.language} {played.step.id}"
            print(f"{name:<32} {mark:<6} {played.seconds:6.1f} s  {played.problem}".rstrip(), flush=True)
            if given.debug:
                print(played.after)
    finally:
        player.close()
        grounds.take_down_machines()
        if started:
            type(lab).down()
    if failed:
        raise LessonFails(failed=failed, total=total)
    print(_("All {total} steps do what they should.").format(total=total))
    return 0


def _no_machines() -> str:
    """Why there can be no lab of machines, as far as it can be seen beforehand; "" if there can."""
    from omtools.lab.metal import checks  # noqa: PLC0415

    try:
        checks.check_programs(checks.TO_RUN)
        checks.check_rom()
    except OmError as error:
        return str(error)
    return ""


def _loudly(text: str) -> None:
    print(text, end="", flush=True)


def _loudly_a_line(text: str) -> None:
    print(text, flush=True)


def _silently(_text: str) -> None:
    """Say nothing."""


def _remote(given: argparse.Namespace) -> int:
    from omtools.shell.screen import Screen  # noqa: PLC0415
    from omtools.shell.session import Session  # noqa: PLC0415
    from omtools.shell.ssh import SshCluster  # noqa: PLC0415 - asyncssh takes a while

    screen = Screen(plain=given.plain)
    cluster = SshCluster(given.host, given.port)
    session = Session(cluster, screen)
    try:
        session.run(line_editor=_has_editor(given))
    finally:
        session.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

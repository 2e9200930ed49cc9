"""``omtui``: the cluster on one screen."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.agent.client import Client
from omtools.commands._common import parser, run
from omtools.errors import BadKeys, OmError
from omtools.i18n import _
from omtools.linux.namespaces import set_parent_death_signal
from omtui.commandline import PAGES, THEMES
from omtui.frames import draw_in_time
from omtui.web.place import DEFAULT, place_of

_DEMO_STEPS, _DEMO_STEP_S = 180, 20  # pictures of a demonstration's past, and seconds between them
_DEMO_MOST = 60_000  # pictures times nodes, or processes: more would be waited for

if TYPE_CHECKING:
    from omtui.app import Omtui
    from omtui.feed import Feed
    from omtui.simulated import SimulatedAgent


def options() -> argparse.ArgumentParser:
    """The command line."""
    made = parser("omtui", _("The cluster on one screen: nodes, processes, moves. `?` shows the keys."))
    made.add_argument("--page", choices=PAGES, default="cluster", help=_("the screen to begin with"))
    made.add_argument("--theme", choices=sorted(THEMES), help=_("colours; NO_COLOR is obeyed too"))
    made.add_argument("--read-only", action="store_true", help=_("look, and change nothing"))
    made.add_argument("--recording", metavar="FILE", help=_("show what omcollector recorded, also elsewhere"))
    made.add_argument(
        "--node", type=int, metavar="N", default=0, help=_("see the recording from node N's place")
    )
    made.add_argument("--demo", action="store_true", help=_("show a made-up cluster"))
    made.add_argument("--demo-nodes", type=int, metavar="N", default=8, help=_("how many nodes it has"))
    made.add_argument(
        "--demo-processes", type=int, metavar="N", default=60, help=_("how many processes it has")
    )
    made.add_argument(
        "--web",
        metavar="[ADDRESS:]PORT",
        nargs="?",
        const=DEFAULT,
        help=_("serve browsers (at {place}); they look, and who has the secret address acts").format(
            place=DEFAULT
        ),
    )
    made.add_argument("--list-keys", action="store_true", help=_("print all keys and their names, and end"))
    made.add_argument("--once", action="store_true", help=_("print the nodes as text and end"))
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    draw_in_time()
    return run(_omtui, arguments)


def _omtui(arguments: list[str]) -> int:
    given = options().parse_args(arguments)
    if given.list_keys:
        from omtui.keynames import all_keys  # noqa: PLC0415 - Textual is not loaded before it is needed

        print("\n".join(f"{name:<24} {keys:<16} {what}" for name, keys, what in all_keys()))
        return 0
    if given.once:
        from omtui.plain import nodes_as_text  # noqa: PLC0415

        with Client(name="omtui") as agent:
            print(nodes_as_text(agent))
        return 0
    if given.web is not None:
        return _web(given)
    if given.demo:
        return asyncio.run(_demo(given))
    if given.recording:
        return _past(given)
    if not _in_a_browser():  # there it is shown what is the matter
        with Client(name="omtui"):  # without an agent it ends here, with a sentence on the terminal
            pass
    from omtui.source import Source  # noqa: PLC0415

    return _application(given, Source()).run() or 0


def _past(given: argparse.Namespace) -> int:
    from omtui.history import History  # noqa: PLC0415

    history = History(None, Path(given.recording), given.node)
    try:
        history.open()
        return _application(given, history).run() or 0
    finally:
        history.close()


def _application(given: argparse.Namespace, source: Feed) -> Omtui:
    from omtui.app import Omtui  # noqa: PLC0415
    from omtui.host import need_terminal  # noqa: PLC0415
    from omtui.keynames import all_keys  # noqa: PLC0415
    from omtui.keys import FILE, own_keys  # noqa: PLC0415

    if _in_a_browser():
        set_parent_death_signal(signal.SIGTERM)
    else:
        need_terminal("omtui")
    be_thrifty()
    keys = own_keys()
    unknown = sorted(set(keys) - {name for name, _keys, _what in all_keys()})
    if unknown:
        raise BadKeys(path=FILE, why=_("there is nothing called “{name}”").format(name=unknown[0]))
    theme = THEMES.get(given.theme or "", "")
    return Omtui(source, keys, read_only=given.read_only, page=given.page, theme=theme)


def be_thrifty() -> None:
    """Collect seldom: what is imported stays, and of what screens make hardly anything is in cycles."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _in_a_browser() -> bool:
    """Whether `omtui.web.server` started this; textual-serve sets Textual's own variable for it."""
    return "web_driver" in os.environ.get("TEXTUAL_DRIVER", "")


def _web(given: argparse.Namespace) -> int:
    try:
        from omtui.web.server import WebServer  # noqa: PLC0415 - only who serves needs a web server
    except ModuleNotFoundError as error:
        raise OmError(detail=_("Python's {package} is missing.").format(package=error.name)) from None
    from omtui.recording.reader import Recording  # noqa: PLC0415

    passed_on = ["--page", given.page]
    passed_on += ["--theme", given.theme] if given.theme else []
    if given.demo:
        counts = (f"--demo-nodes={given.demo_nodes}", f"--demo-processes={given.demo_processes}")
        passed_on += ["--demo", *counts]
    elif given.recording:
        recording = Path(given.recording).absolute()
        Recording(recording).close()  # what is none is said here, and not to browsers
        passed_on += ["--recording", str(recording), f"--node={given.node}"]
    else:
        with Client(name="omtui"):
            pass
    asyncio.run(WebServer(place_of(given.web), passed_on, read_only=given.read_only).run())
    return 0


async def _demo(given: argparse.Namespace) -> int:
    from omtui.simulated import SimulatedAgent, SimulatedMachine  # noqa: PLC0415
    from omtui.source import Source  # noqa: PLC0415
    from omtui.world import World  # noqa: PLC0415

    async with SimulatedAgent(World(max(1, given.demo_nodes), max(0, given.demo_processes))) as agent:
        source = Source(agent.socket, machine=SimulatedMachine(agent))
        async with _demo_past(agent) as history_of:
            return await _application(given, history_of(source)).run_async() or 0


@contextlib.asynccontextmanager
async def _demo_past(agent: SimulatedAgent) -> AsyncIterator[Callable[[Feed], Feed]]:
    """An hour that the made-up cluster has behind it, and what comes; not of very large ones."""
    from omtui.collector.collecting import Collecting  # noqa: PLC0415
    from omtui.history import History  # noqa: PLC0415
    from omtui.recording.invented import invent  # noqa: PLC0415
    from omtui.recording.recorder import Recorder  # noqa: PLC0415
    from omtui.simulated import SimulatedMachine  # noqa: PLC0415

    world, path = agent.world, agent.socket.parent / "recording.sqlite"
    if world.size * _DEMO_STEPS > _DEMO_MOST or world.count * _DEMO_STEPS > _DEMO_MOST:
        yield lambda feed: History(feed, path)
        return
    recorder = Recorder(path)
    begun = round(time.time() * 1000) - 1000 * _DEMO_STEPS * _DEMO_STEP_S
    invent(recorder, world, begun, _DEMO_STEPS * _DEMO_STEP_S, _DEMO_STEP_S)
    recorder.checkpoint(begun + 500 * _DEMO_STEPS * _DEMO_STEP_S, _("half an hour ago"))
    task = asyncio.create_task(Collecting(recorder, agent.socket, machine=SimulatedMachine(agent)).run())
    try:
        yield lambda feed: History(feed, path)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        recorder.close()


if __name__ == "__main__":
    sys.exit(main())

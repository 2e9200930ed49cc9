"""``omcollector``: records load, memory, processes and events of all nodes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.commands._common import as_whole, parser, print_json, run
from omtools.errors import CannotRecord, NoRecording
from omtools.i18n import _

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from omtui.recording.keeping import Ages
    from omtui.recording.recorder import Recorder

_MB = 1 << 20
_PATIENCE = 10.0  # seconds for a collector to end


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omcollector, arguments)


def _options() -> ArgumentParser:
    options = parser(
        "omcollector",
        _(
            "Record load, memory, processes and events of all nodes, for omtui and omanalyzer. "
            "Without options: say what is recorded."
        ),
    )
    what = options.add_mutually_exclusive_group()
    what.add_argument("-d", "--daemon", action="store_true", help=_("record in the background"))
    what.add_argument("-f", "--foreground", action="store_true", help=_("record until Ctrl-C"))
    what.add_argument("-k", "--kill", action="store_true", help=_("end the one that records"))
    what.add_argument("-n", "--checkpoint", metavar="TEXT", help=_("mark this moment, to find it again"))
    what.add_argument("--save", metavar="FILE", help=_("copy the recording, while it goes on"))
    what.add_argument(
        "-r", "--renew", action="store_true", help=_("put the recording aside and begin a new one")
    )
    options.add_argument("--file", metavar="FILE", help=_("another recording than the usual one"))
    options.add_argument(
        "--interval",
        type=as_whole(1, 3600),
        metavar="SECONDS",
        default=1,
        help=_("between two pictures (1); more where a picture costs more than a twentieth of it"),
    )
    options.add_argument(
        "--keep",
        type=as_whole(1, 3650),
        metavar="DAYS",
        default=30,
        help=_("drop what is older (30)"),
    )
    options.add_argument(
        "--size",
        type=as_whole(1, 1_000_000),
        metavar="MB",
        default=256,
        help=_("drop the oldest where there is more (256)"),
    )
    options.add_argument("--json", action="store_true", help=_("say what is recorded as JSON"))
    return options


def _omcollector(arguments: list[str]) -> int:
    given = _options().parse_args(arguments)
    path = _file(given)
    if given.daemon:
        from omtools.commands._daemon import in_background  # noqa: PLC0415 - what only tells needs none of it

        return in_background(lambda ready: _record(path, given, ready))
    if given.foreground:
        return _record(path, given, lambda: None)
    return _once(path, given)


def _once(path: Path, given: Namespace) -> int:
    """What is done at once."""
    if given.kill:
        return _end(path)
    if given.checkpoint is not None:
        return _mark(path, given.checkpoint)
    if given.save:
        return _save(path, Path(given.save))
    return _renew(path) if given.renew else _tell(path, given.json)


def _file(given: Namespace) -> Path:
    from omtui.recording.places import default_file, file_to_read  # noqa: PLC0415

    if given.file:
        return Path(given.file).absolute()
    writes = given.daemon or given.foreground or given.kill or given.renew or given.checkpoint is not None
    return (default_file() if writes else file_to_read()).absolute()


def _record(path: Path, given: Namespace, ready: Callable[[], None]) -> int:
    import asyncio  # noqa: PLC0415

    from omtools.agent import log  # noqa: PLC0415
    from omtools.agent.client import Client  # noqa: PLC0415
    from omtui.recording.places import alone  # noqa: PLC0415
    from omtui.recording.recorder import Recorder  # noqa: PLC0415

    with alone(path):
        recorder = Recorder(path, _ages(given.keep), given.size * _MB)
        try:
            with Client(name="omcollector") as agent:  # without one it ends here, with a sentence
                node = agent.hello.node
            file = None if given.foreground or os.path.exists("/dev/log") else path.with_suffix(".log")
            log.set_up(node, file, given.debug, system=given.daemon and file is None)
            return asyncio.run(_until_told(recorder, given.interval, ready))
        finally:
            recorder.close()


def _ages(days: int) -> Ages:
    from omtui.recording.keeping import DAY_MS, Ages  # noqa: PLC0415

    return Ages(all=days * DAY_MS).within(days * DAY_MS)


async def _until_told(recorder: Recorder, interval: float, ready: Callable[[], None]) -> int:
    import asyncio  # noqa: PLC0415

    from omtui.collector.collecting import Collecting  # noqa: PLC0415

    task = asyncio.ensure_future(Collecting(recorder, interval=interval).run())
    endings = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, endings)  # whoever has started it may have blocked them
    for number in endings:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    ready()
    try:
        await task
    except asyncio.CancelledError:
        return 0
    return 0


def _end(path: Path) -> int:
    """End the collector of that file; 1: there is none."""
    from omtui.recording.places import recorded_by  # noqa: PLC0415

    pid = recorded_by(path)
    if not pid:
        print(_("Nobody records in {path}.").format(path=path))
        return 1
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError as error:
        raise CannotRecord(path=str(path), why=error.strerror or str(error)) from None
    until = time.monotonic() + _PATIENCE
    while recorded_by(path) == pid:
        if time.monotonic() > until:
            raise CannotRecord(path=str(path), why=_("process {pid} does not end").format(pid=pid))
        time.sleep(0.05)
    return 0


def _mark(path: Path, text: str) -> int:
    from omtui.recording.recorder import Recorder  # noqa: PLC0415

    if not os.path.exists(path):
        raise NoRecording(path=str(path))
    recorder = Recorder(path)
    try:
        recorder.checkpoint(round(time.time() * 1000), text)
    finally:
        recorder.close()
    return 0


def _save(path: Path, target: Path) -> int:
    from omtui.recording.saving import save  # noqa: PLC0415

    save(path, target)
    print(_("The recording was copied to {path}.").format(path=target))
    return 0


def _renew(path: Path) -> int:
    from omtui.recording.places import alone  # noqa: PLC0415
    from omtui.recording.saving import save  # noqa: PLC0415

    with alone(path):
        aside = path.with_name(f"{path.stem}-{datetime.now():%Y-%m-%d-%H%M%S}{path.suffix}")
        save(path, aside)
        for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            name.unlink(missing_ok=True)
    print(_("The recording was put aside as {path}.").format(path=aside))
    return 0


def _tell(path: Path, as_json: bool) -> int:
    from omtui.recording.places import recorded_by  # noqa: PLC0415
    from omtui.recording.reader import Recording  # noqa: PLC0415

    pid = recorded_by(path)
    recording = Recording(path)
    try:
        span, about, marks = recording.span(), recording.about(), recording.checkpoints()
    finally:
        recording.close()
    size = path.stat().st_size
    if as_json:
        first, last = span or (0, 0)
        print_json(
            {
                "file": str(path),
                "pid": pid,
                "first_ms": first,
                "last_ms": last,
                "bytes": size,
                "node": about.get("name", ""),
            }
        )
        return 0
    print(_sentence(path, pid))
    if span is not None:
        first_time, last_time = (f"{datetime.fromtimestamp(at / 1000):%Y-%m-%d %H:%M:%S}" for at in span)
        said = _("From {first} to {last}, seen from {node}, {size:.1f} MB.")
        print(said.format(first=first_time, last=last_time, node=about.get("name", "?"), size=size / 1e6))
    for mark in marks:
        print(f"{datetime.fromtimestamp(mark.at / 1000):%Y-%m-%d %H:%M:%S}  {mark.text}")
    return 0


def _sentence(path: Path, pid: int) -> str:
    if pid:
        return _("Process {pid} records in {path}.").format(pid=pid, path=path)
    return _("Nobody records in {path}.").format(path=path)


if __name__ == "__main__":
    sys.exit(main())

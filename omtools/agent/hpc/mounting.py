"""The process that mounts the tree.

It is a worker (`omtools.migration.errand`). Its arguments are the number of the inherited control socket and
the order as JSON.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import msgspec

from omtools.agent.hpc.asking import Asking
from omtools.agent.hpc.handler import HpcHandler
from omtools.errors import CannotMount, CannotUnmount, OmError
from omtools.linux.fuse.mount import MountOptions, mount
from omtools.linux.fuse.session import Session
from omtools.omfs.orders import Done, MountOrder, Question, Reply
from omtools.omfs.worker import Control, farewell, first_word, inherited_listener, leave_home


def _log(sentence: str, error: BaseException) -> None:
    print(f"hpc: {sentence}: {error}", file=sys.stderr, flush=True)


def _answer(question: Question) -> Reply:
    """There is nothing to ask but to end."""
    return Done({"error": "BadRequest", "why": type(question).__name__})


def _mounted(order: MountOrder, handler: HpcHandler) -> Session:
    with contextlib.suppress(FileExistsError):  # pathlib's exist_ok would look whether it is dead
        os.mkdir(order.target)
    options = MountOptions(source="hpc", subtype="hpc", allow_other=order.everybody)
    session = Session(mount(order.target, options), handler, log=_log)
    session.start()
    return session


def main(arguments: list[str]) -> int:
    """Mount, serve, unmount. What came of mounting is the first line on standard output, a `Done`."""
    leave_home()
    order = msgspec.json.decode(arguments[1], type=MountOrder)
    handler = HpcHandler(Asking(Path(order.agent), _log, Path(order.directory)))
    try:
        session = _mounted(order, handler)
    except (OmError, OSError) as error:
        why = error if isinstance(error, OmError) else CannotMount(
            target=order.target, why=error.strerror or str(error)
        )  # fmt: skip
        first_word(Done(why.to_wire()))
        return 1
    first_word(Done())
    os.dup2(2, 1)
    control = Control(inherited_listener(int(arguments[0])), _answer, lambda: handler.in_use)

    def end_with_it() -> None:
        session.wait()  # until somebody has unmounted it
        control.stop()

    threading.Thread(target=end_with_it, name="unmounted", daemon=True).start()
    ender = control.run()
    try:
        session.close()
    except CannotUnmount as error:
        farewell(ender, Done(error.to_wire()))
    else:
        farewell(ender, Done())
    control.close()
    return 0

"""How a daemon goes to the background: who started it returns when it serves, or with its error."""

from __future__ import annotations

import os
from collections.abc import Callable

from omtools.commands._common import say
from omtools.errors import OmError


def in_background(serve: Callable[[Callable[[], None]], int]) -> int:
    """Fork; the parent waits for the child to serve, or to say why it cannot.

    Args:
        serve: does the work until it is told to end and returns the exit status; it calls its argument when
            it serves. Until then its stderr is ours, so that errors on the way are seen.
    """
    hears, says = os.pipe()
    if os.fork():
        os.close(says)
        with os.fdopen(hears, "rb") as pipe:
            answer = pipe.read()
        if answer == b"ready\n":
            return 0
        return int(answer) if answer.strip().isdigit() else OmError.exit_status
    os.close(hears)
    os.setsid()
    if os.fork():
        os._exit(0)
    status = OmError.exit_status
    try:
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)

        def ready() -> None:
            os.dup2(null, 2)
            os.write(says, b"ready\n")
            os.close(says)

        status = serve(ready)
    except OmError as error:
        status = error.exit_status
        say(str(error))
        os.write(says, b"%d" % status)
    finally:
        os._exit(status)

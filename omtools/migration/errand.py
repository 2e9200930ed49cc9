"""Workers beside the keepers: processes that the agent wants, forked from the template too.

What the template has imported they need not import, nor hold in memory of their own. Which module does the
work is for the agent to say; its ``main(arguments)`` gets the number of the control socket's descriptor and
what the agent wrote, and returns the exit status.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from omtools.linux.proc import show_as
from omtools.migration.orders import WorkerOrder

DESCRIPTORS = 3  # that come with an order: the control socket, where the first word goes, the log


def work(order: WorkerOrder, descriptors: Sequence[int]) -> NoReturn:
    """In a process forked for it: leave the template behind and do the work.

    Args:
        order: what to do.
        descriptors: see `DESCRIPTORS`.
    """
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        control, word, log = descriptors
        os.dup2(word, 1)
        os.dup2(log, 2)
        for descriptor in (word, log):
            os.close(descriptor)
        os.chdir("/")
        show_as([sys.executable, "-m", order.module, order.argument])
        status = importlib.import_module(order.module).main([str(control), order.argument])
    except BaseException:  # the last stand of a process of its own: into the log with it
        traceback.print_exc()
    finally:
        os._exit(status)

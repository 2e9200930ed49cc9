"""What a signal does to a process; signal(7)."""

from __future__ import annotations

import signal

from omtools.linux import proc

# what they do where there is no handler
_IGNORED = frozenset({signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})
_CORE = frozenset({
    signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE,
    signal.SIGSEGV, signal.SIGSYS, signal.SIGXCPU, signal.SIGXFSZ,
})  # fmt: skip


def disposition(pid: int, number: int) -> str:
    """What the signal does to the process: "caught", "ignored", "stops", "core" or "kills"."""
    status = proc.status(pid)
    bit = 1 << (number - 1)
    if int(status["SigCgt"], 16) & bit:
        return "caught"
    if int(status["SigIgn"], 16) & bit or number in _IGNORED:
        return "ignored"
    if number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        return "stops"
    return "core" if number in _CORE else "kills"

"""Descriptors for what otherwise comes as a signal: signalfd(2), and futex(2) wake-ups between processes."""

from __future__ import annotations

import ctypes
import os
import signal

from omtools.linux.libc import C, fail, syscall

_SFD_CLOEXEC, _SFD_NONBLOCK = 0o2000000, 0o4000  # <sys/signalfd.h>
_SIGINFO_SIZE = 128  # struct signalfd_siginfo
_SYS_FUTEX, _FUTEX_WAKE = 202, 1  # <asm/unistd_64.h>, <linux/futex.h>


class ChildEvents:
    """Readable when a child or tracee of this process has changed its state."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        mask = ctypes.c_uint64(1 << (signal.SIGCHLD - 1))
        self._descriptor: int = C.signalfd(-1, ctypes.byref(mask), _SFD_CLOEXEC | _SFD_NONBLOCK)
        if self._descriptor < 0:
            raise fail("signalfd")

    def fileno(self) -> int:
        """For poll."""
        return self._descriptor

    def clear(self) -> None:
        """Forget what was announced; then ask waitpid."""
        try:
            os.read(self._descriptor, 8 * _SIGINFO_SIZE)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close the descriptor; SIGCHLD stays blocked."""
        os.close(self._descriptor)


def futex_wake(address: int) -> None:
    """Wake one waiter on the shared futex at `address` of this process."""
    syscall(_SYS_FUTEX, address, _FUTEX_WAKE, 1)

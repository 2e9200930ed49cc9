"""Descriptors that close themselves, and how many of them there may be.

A descriptor must not be closed while another thread still works on it: its number may be somebody else's a
moment later. So it belongs to an object, and is closed when the last who uses the object lets go of it.
Whoever takes `number` must keep the object meanwhile: in a variable, not in the middle of an expression.
"""

from __future__ import annotations

import contextlib
import os
import resource


class Descriptor:
    """An open descriptor; closed with the last reference to this object."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.number)

    @property
    def path(self) -> Way:
        """A path that leads to what it is open on, whatever that is called by now."""
        return Way(self)


class Way:
    """The path of a descriptor, which it keeps open: proc_pid_fd(5)."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor

    def __fspath__(self) -> bytes:
        return b"/proc/self/fd/%d" % self._descriptor.number


os.PathLike.register(Way)


def raise_limit() -> int:
    """Allow this process as many descriptors as the system lets it have; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

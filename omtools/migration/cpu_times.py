"""CPU times of a process that is away: home's figures with what was used on other nodes added."""

from __future__ import annotations

import os
import struct

from omtools.migration.remote import Remote

# struct tms, struct rusage (first two members), struct timespec; <sys/times.h>, <sys/resource.h>
_TICK = os.sysconf("SC_CLK_TCK")


def add_cpu(layout: str, data: bytes, remote: Remote) -> bytes:
    """Home's CPU figures with what was used away added."""
    if layout == "timespec":
        seconds, nanoseconds = struct.unpack("<qq", data)
        total = seconds * 1_000_000_000 + nanoseconds + int(remote.cpu_clock() * 1e9)
        return struct.pack("<qq", *divmod(total, 1_000_000_000))
    user, system = remote.cpu_here()
    if layout == "tms":
        if len(data) < 16:
            return data
        ticks = struct.unpack_from("<qq", data)
        return struct.pack("<qq", ticks[0] + int(user * _TICK), ticks[1] + int(system * _TICK)) + data[16:]
    values = struct.unpack_from("<4q", data)
    times = []
    for (seconds, micros), more in zip((values[:2], values[2:]), (user, system), strict=True):
        times += divmod(seconds * 1_000_000 + micros + int(more * 1e6), 1_000_000)
    return struct.pack("<4q", *times) + data[32:]

"""Processes, limits, timers: the same from the kernel directly and through the loopback."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

import pytest

from migration.calls.calls_loopback import Kernel, Room, Scenario, Seen, compare, words

SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def _child(script: str) -> int:
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], {})


@scenario
def processes_waiting(kernel: Kernel, _folder: Path) -> Seen:
    status, usage, info = Room(8), Room(160), Room(140)
    child = _child("read x <&- ; exec sleep 100")
    seen: Seen = [kernel("wait4", child, status, os.WNOHANG, usage), status.bytes, usage.bytes]
    seen += [kernel("waitid", 1, child, info, os.WNOHANG | os.WEXITED, usage), info.bytes, usage.bytes]
    seen += [kernel("kill", child, signal.SIGKILL), kernel("wait4", child, status, 0, usage) == child]
    seen += [status.bytes, usage.bytes[144:]]
    child = _child("exit 7")
    seen += [kernel("waitid", 1, child, info, os.WEXITED | os.WNOWAIT, usage)]
    seen += [info.bytes[:16], info.bytes[16:20] == struct.pack("<i", child), info.bytes[20:]]
    seen += [usage.bytes[144:]]
    seen += [kernel("wait4", child, status, 0, None) == child, status.bytes]
    seen += [kernel("wait4", child, status, 0, None), kernel("waitid", 1, child, info, os.WEXITED, None)]
    seen += [info.bytes, kernel("wait4", -1, None, 0x7000_0000, None)]
    return seen


@scenario
def processes_identity(kernel: Kernel, _folder: Path) -> Seen:
    groups, name, mask = Room(4 * 70000), Room(20), Room(1200)
    header, data = Room(struct.pack("<Ii", 0x20080522, 0)), Room(32)
    wrong = Room(struct.pack("<Ii", 7, 0))
    seen: Seen = [
        kernel("getppid"),
        kernel("getpgrp"),
        kernel("getpgid", 0),
        kernel("getsid", 0),
        kernel("getpid"),
        kernel("getuid"),
        kernel("getgroups", 0, groups),
        kernel("getgroups", 65536, groups),
        kernel("getgroups", -1, groups),
        groups.bytes,
        kernel("prctl", 16, name),
        name.bytes,
        kernel("prctl", 37, mask, 0, 0, 0),
        kernel("prctl", 3, 0, 0, 0, 0),
        kernel("prctl", 0x0BAD << 32 | 39, 0, 0, 0, 0),
        kernel("capget", header, data),
        header.bytes,
        data.bytes,
        kernel("capget", wrong, data),
        kernel("capget", wrong, None),
        wrong.bytes,
        kernel("sched_getaffinity", 0, 1200, mask),
        kernel("sched_getaffinity", 0, 3, mask),
        mask.bytes,
        kernel("sched_getscheduler", 0),
        kernel("getpriority", 0, 0),
        kernel("sched_get_priority_max", 1),
        kernel("ioprio_get", 1, 0),
        kernel("personality", 0xFFFF_FFFF),
        kernel("tgkill", os.getpid(), os.getpid(), 0),
        kernel("kill", 0x7FFF_FFFE, 0),
        kernel("rt_sigqueueinfo", 0x7FFF_FFFE, 0, Room(bytes(128))),
    ]
    parameter, attributes = Room(8), Room(60)
    seen += [kernel("sched_getparam", 0, parameter), parameter.bytes]
    seen += [kernel("sched_getattr", 0, attributes, 56, 0), kernel("sched_setattr", 0, attributes, 0)]
    return [*seen, attributes.bytes]


@scenario
def processes_system(kernel: Kernel, _folder: Path) -> Seen:
    limit, old, names, info, spare = Room(24), Room(24), Room(400), Room(160), Room(40)
    seen: Seen = [
        kernel("getrlimit", 7, limit),
        limit.bytes,
        kernel("prlimit64", 0, 7, None, old),
        old.bytes,
        kernel("prlimit64", 0, 7, limit, old),
        old.bytes,
        kernel("prlimit64", 0, 999, limit, old),
        kernel("setrlimit", 7, limit),
        kernel("setrlimit", 7, None),
        kernel("uname", names),
        names.bytes,
        kernel("sysinfo", info),
        info.bytes[32:40],
        info.bytes[112:],
        kernel("syslog", 10, None, 0),
        kernel("clock_getres", 2, spare),
        spare.bytes,
        kernel("clock_gettime", 10, spare),
        kernel("clock_gettime", 0, None),
        kernel("times", None) > 0,
        kernel("times", spare) > 0,
        kernel("getrusage", 0, info),
        kernel("getrusage", 5, info),
        kernel("getrusage", 0, None),
    ]
    return seen


@scenario
def processes_timers(kernel: Kernel, _folder: Path) -> Seen:
    before = signal.setitimer(signal.ITIMER_REAL, 0)  # pytest-timeout's
    interval, identity, old = Room(40), Room(8), Room(40)
    event = Room(struct.pack("<Qii", 0, 0, 1).ljust(64, b"\0"))  # SIGEV_NONE
    seen: Seen = [
        kernel("getitimer", 0, interval),
        interval.bytes,
        kernel("setitimer", 0, words(0, 0, 1000, 5), interval),
        kernel("setitimer", 0, words(0, 0, 0, 0), interval),
        interval.bytes[:16],
        kernel("setitimer", 9, words(0, 0, 0, 0), interval),
        kernel("alarm", 0),
        kernel("timer_create", 1, event, identity),
        identity.bytes[4:],
    ]
    timer = struct.unpack_from("<i", identity.bytes)[0]
    seen += [
        kernel("timer_settime", timer, 0, words(0, 0, 1000, 0), old),
        old.bytes,
        kernel("timer_gettime", timer, old),
        old.bytes[:16],
        kernel("timer_getoverrun", timer),
        kernel("timer_delete", timer),
        kernel("timer_delete", timer),
        kernel("adjtimex", Room(bytes(208))) >= 0,
    ]
    signal.setitimer(signal.ITIMER_REAL, *before)
    return seen


@scenario
def calls_that_are_gone(kernel: Kernel, _folder: Path) -> Seen:
    gone = ("_sysctl", "create_module", "nfsservctl", "getpmsg", "security", "epoll_wait_old", "vserver")
    return [kernel(call) for call in gone]


@pytest.mark.parametrize("act", SCENARIOS, ids=lambda act: act.__name__)
def test_forwarded_is_as_direct(act: Scenario) -> None:
    compare(act)

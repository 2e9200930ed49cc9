"""Calls about time: wall and monotonic clocks run on both nodes, timers at home, CPU time is a sum."""

from __future__ import annotations

from omtools.i18n import N_
from omtools.migration.calls.model import Refusal
from omtools.migration.calls.shapes import InBytes, InOutBytes, OutBytes
from omtools.migration.calls.spec import ALWAYS, INT, Cpu, Native, Rules, Spec, Switch, at_once, pointer, word

TIMESPEC = 16     # linux/time_types.h
ITIMERVAL = 32    # linux/time.h
ITIMERSPEC = 32   # linux/time.h
TMS = 32          # linux/times.h
RUSAGE = 144      # linux/resource.h
TIMEX = 208       # linux/timex.h, struct __kernel_timex
SIGEVENT = 64     # asm-generic/siginfo.h

# include/uapi/linux/time.h: REALTIME, MONOTONIC, MONOTONIC_RAW, the two COARSE ones, BOOTTIME, the two
# ALARM ones, TAI. The guest's time namespace shifts the monotonic ones to home's.
WALL_CLOCKS = (0, 1, 4, 5, 6, 7, 8, 9, 11)
_WALL: Rules = tuple(((0, INT, clock),) for clock in WALL_CLOCKS)

_OWN_CPU, _OTHER_CPU, _REST = range(3)
# include/linux/posix-timers.h: a negative clock is ~pid << 3, bit 2 for one thread, bits 0 and 1 which
# kind (2: CPUCLOCK_SCHED; 3: not a CPU but a descriptor, CLOCKFD). Pid 0 is the caller itself.
_OWN_CLOCKS = frozenset({2, 3, 0xFFFFFFFA, 0xFFFFFFFE})


def _clock(args: tuple[int, ...]) -> int:
    """What kind of clock argument 0 names."""
    clock = args[0] & INT
    if clock in _OWN_CLOCKS:
        return _OWN_CPU
    return _OTHER_CPU if clock >> 31 and clock & 3 != 3 else _REST


_NATIVE = Native(ALWAYS)
_CPU_TIMER = Refusal(N_("it uses a timer that measures CPU time ({call})"))
_CPU_CLOCK = Refusal(N_("it uses the CPU clock of a certain process or thread ({call})"))
_SETS_CLOCK = Refusal(N_("it sets the clock ({call})"))
_CPU_SLEEP = Refusal(N_("it sleeps by a CPU clock"))

CLOCKS: dict[int, tuple[str, Spec]] = {
    35: ("nanosleep", _NATIVE),
    230: ("clock_nanosleep", Native(_WALL, _CPU_SLEEP)),
    96: ("gettimeofday", _NATIVE),
    201: ("time", _NATIVE),
    228: (
        "clock_gettime",
        Native(
            _WALL,
            Switch(
                _clock,
                {_OWN_CPU: Cpu("timespec", at_once(OutBytes(1, TIMESPEC))), _OTHER_CPU: _CPU_CLOCK},
                at_once(OutBytes(1, TIMESPEC)),
            ),
        ),
    ),
    229: ("clock_getres", Native(_WALL, at_once(OutBytes(1, TIMESPEC)))),
    100: ("times", Switch(pointer(0), {0: at_once()}, Cpu("tms", at_once(OutBytes(0, TMS))))),
    98: (
        "getrusage",
        Switch(
            word(0),
            # RUSAGE_SELF, RUSAGE_THREAD (linux/resource.h); RUSAGE_CHILDREN are at home
            dict.fromkeys((0, 1), Cpu("rusage", at_once(OutBytes(1, RUSAGE)))),
            at_once(OutBytes(1, RUSAGE)),
        ),
    ),
    # ITIMER_VIRTUAL and ITIMER_PROF (linux/time.h) measure CPU time, which passes on the other node.
    36: ("getitimer", Switch(word(0), dict.fromkeys((1, 2), _CPU_TIMER), at_once(OutBytes(1, ITIMERVAL)))),
    38: (
        "setitimer",
        Switch(
            word(0),
            dict.fromkeys((1, 2), _CPU_TIMER),
            at_once(InBytes(1, ITIMERVAL), OutBytes(2, ITIMERVAL)),
        ),
    ),
    37: ("alarm", at_once()),
    # The threads a timer may signal (SIGEV_THREAD_ID) have the same numbers at home.
    222: (
        "timer_create",
        Switch(
            _clock,
            dict.fromkeys((_OWN_CPU, _OTHER_CPU), _CPU_TIMER),
            at_once(InBytes(1, SIGEVENT), OutBytes(2, 4)),
        ),
    ),
    223: ("timer_settime", at_once(InBytes(2, ITIMERSPEC), OutBytes(3, ITIMERSPEC))),
    224: ("timer_gettime", at_once(OutBytes(1, ITIMERSPEC))),
    225: ("timer_getoverrun", at_once()),
    226: ("timer_delete", at_once()),
    159: ("adjtimex", at_once(InOutBytes(0, TIMEX))),
    305: ("clock_adjtime", at_once(InOutBytes(1, TIMEX))),
    164: ("settimeofday", _SETS_CLOCK),
    227: ("clock_settime", _SETS_CLOCK),
}

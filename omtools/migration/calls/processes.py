"""Calls about processes, threads, signals, limits, scheduling and names."""

from __future__ import annotations

from omtools.i18n import N_
from omtools.migration.calls.commands import PRCTL
from omtools.migration.calls.model import OutRule, Refusal
from omtools.migration.calls.shapes import Arg, Field, InBytes, InOutBytes, OutBytes
from omtools.migration.calls.spec import (
    ALWAYS,
    INT,
    LONG,
    Ending,
    Native,
    Spec,
    Switch,
    at_once,
    forward,
    pointer,
    word,
)
from omtools.migration.calls.structures import ChildInfo

RET = OutRule.RET
POSITIVE = OutRule.POSITIVE

SIGACTION = 32    # arch/x86/include/uapi/asm/signal.h, the kernel's struct sigaction
SIGINFO = 128     # asm-generic/siginfo.h
RLIMIT = 16       # linux/resource.h, struct rlimit and rlimit64
RUSAGE = 144      # linux/resource.h
SYSINFO = 112     # linux/sysinfo.h
UTSNAME = 390     # linux/utsname.h, struct new_utsname
TIMESPEC = 16     # linux/time_types.h
SCHED_PARAM = 4   # linux/sched/types.h
SCHED_ATTR_0 = 48  # linux/sched/types.h, SCHED_ATTR_SIZE_VER0
CPU_MASK = 8192   # bytes: NR_CPUS is at most 8192 on x86-64 (arch/x86/Kconfig), with room to spare
WNOHANG = 1       # linux/wait.h
CAP_VERSION_1 = 0x19980330  # linux/capability.h
HOST_NAME_MAX = 64          # asm-generic/param.h

_NATIVE = Native(ALWAYS)

# The guest's own user, pid and uts namespaces, its own signal masks and threads: the node's kernel knows.
OWN: dict[int, tuple[str, Spec]] = {
    13: (
        "rt_sigaction",
        # Both kernels have the dispositions: home's for signals that nobody may see (SIG_IGN) or that
        # children ask about, the remote's to call the handler. So a mere question is answered there.
        Native(
            (((1, LONG, 0),),),
            at_once(InBytes(1, SIGACTION), OutBytes(2, SIGACTION), mirror=True),
        ),
    ),
    14: ("rt_sigprocmask", _NATIVE),
    15: ("rt_sigreturn", _NATIVE),
    127: ("rt_sigpending", _NATIVE),
    128: ("rt_sigtimedwait", _NATIVE),
    130: ("rt_sigsuspend", _NATIVE),
    131: ("sigaltstack", _NATIVE),
    34: ("pause", _NATIVE),
    219: ("restart_syscall", _NATIVE),
    24: ("sched_yield", _NATIVE),
    202: ("futex", _NATIVE),
    449: ("futex_waitv", _NATIVE),
    454: ("futex_wake", _NATIVE),
    455: ("futex_wait", _NATIVE),
    456: ("futex_requeue", _NATIVE),
    273: ("set_robust_list", _NATIVE),
    274: ("get_robust_list", _NATIVE),
    218: ("set_tid_address", _NATIVE),
    334: ("rseq", _NATIVE),
    324: ("membarrier", _NATIVE),
    158: ("arch_prctl", _NATIVE),
    318: ("getrandom", _NATIVE),
    309: ("getcpu", _NATIVE),
    39: ("getpid", _NATIVE),
    186: ("gettid", _NATIVE),
    102: ("getuid", _NATIVE),
    104: ("getgid", _NATIVE),
    107: ("geteuid", _NATIVE),
    108: ("getegid", _NATIVE),
    118: ("getresuid", _NATIVE),
    120: ("getresgid", _NATIVE),
    60: ("exit", Ending()),
    231: ("exit_group", Ending()),
}

FAMILY: dict[int, tuple[str, Spec]] = {
    61: (
        "wait4",
        forward(OutBytes(1, 4, POSITIVE), OutBytes(3, RUSAGE, POSITIVE), quick=(2, WNOHANG)),
    ),
    # its result is 0 with and without a child: what the kernel left alone must come back as it was
    247: ("waitid", forward(ChildInfo(2), InOutBytes(4, RUSAGE), quick=(3, WNOHANG))),
    62: ("kill", at_once()),
    200: ("tkill", at_once()),
    234: ("tgkill", at_once()),
    129: ("rt_sigqueueinfo", at_once(InBytes(2, SIGINFO))),
    297: ("rt_tgsigqueueinfo", at_once(InBytes(3, SIGINFO))),
    434: ("pidfd_open", at_once()),
    424: ("pidfd_send_signal", at_once(InBytes(2, SIGINFO))),
    438: ("pidfd_getfd", at_once()),
    448: ("process_mrelease", forward()),
    110: ("getppid", at_once()),
    109: ("setpgid", at_once()),
    111: ("getpgrp", at_once()),
    121: ("getpgid", at_once()),
    112: ("setsid", at_once()),
    124: ("getsid", at_once()),
    115: ("getgroups", at_once(OutBytes(1, Arg(0, 4, wide=False, limit=65536), OutRule.RET4))),
    # struct __user_cap_header (linux/capability.h) says how many words follow in the other argument;
    # for a version it does not know the kernel writes its own there and fails with EINVAL
    125: ("capget", at_once(InOutBytes(0, 8, OutRule.ALWAYS), InOutBytes(1, 24))),
    157: (
        "prctl",
        Native(
            (
                ((0, INT, 40),),          # PR_GET_TID_ADDRESS: of the thread that runs there
                ((0, INT, 0x53564D41),),  # PR_SET_VMA: a name for anonymous memory
                ((0, INT, 0x41555856),),  # PR_GET_AUXV: of its own memory
            ),
            PRCTL,
        ),
    ),
    135: (
        "personality",
        Switch(
            word(0),
            {INT: at_once()},  # 0xffffffff only asks
            Refusal(N_("it changes its execution domain (personality)")),
        ),
    ),
}

# Scheduling classes, priorities and processors are what the process asked for at home, and are told from
# there; how it is scheduled as a guest is the other node's own decision, with its own processors. So
# these are forwarded and not mirrored (a guest could not be refused either what home has granted).
SCHEDULING: dict[int, tuple[str, Spec]] = {
    140: ("getpriority", at_once()),
    141: ("setpriority", at_once()),
    142: ("sched_setparam", at_once(InBytes(1, SCHED_PARAM))),
    143: ("sched_getparam", at_once(OutBytes(1, SCHED_PARAM))),
    144: ("sched_setscheduler", at_once(InBytes(2, SCHED_PARAM))),
    145: ("sched_getscheduler", at_once()),
    146: ("sched_get_priority_max", at_once()),
    147: ("sched_get_priority_min", at_once()),
    148: ("sched_rr_get_interval", at_once(OutBytes(1, TIMESPEC))),
    203: ("sched_setaffinity", at_once(InBytes(2, Arg(1, wide=False, limit=CPU_MASK)))),
    204: ("sched_getaffinity", at_once(OutBytes(2, Arg(1, wide=False, limit=CPU_MASK), RET))),
    # struct sched_attr begins with its size, 0 for the first version's; the kernel refuses above a page
    314: ("sched_setattr", at_once(InBytes(1, Field(1, 0, limit=4096, zero=SCHED_ATTR_0)))),
    315: ("sched_getattr", at_once(InOutBytes(1, Arg(2, wide=False, limit=4096)))),
    251: ("ioprio_set", at_once()),
    252: ("ioprio_get", at_once()),
}

# With pid 0 it is the process's own limit, which counts on both sides. Another number may be its own or
# not, which only the kernel at home can tell: rare enough to be done there.
_SET_LIMIT = Switch(
    word(0),
    {0: at_once(InBytes(2, RLIMIT), OutBytes(3, RLIMIT), mirror=True)},
    Refusal(N_("it sets a limit of process {number} (prlimit64)")),
)

SYSTEM: dict[int, tuple[str, Spec]] = {
    97: ("getrlimit", at_once(OutBytes(1, RLIMIT))),
    160: ("setrlimit", at_once(InBytes(1, RLIMIT), mirror=True)),
    302: ("prlimit64", Switch(pointer(2), {0: at_once(OutBytes(3, RLIMIT))}, _SET_LIMIT)),
    63: ("uname", at_once(OutBytes(0, UTSNAME))),
    99: ("sysinfo", at_once(OutBytes(0, SYSINFO))),
    103: ("syslog", forward(OutBytes(1, Arg(2, wide=False), RET))),
    170: ("sethostname", at_once(InBytes(0, Arg(1, wide=False, limit=HOST_NAME_MAX)))),
    171: ("setdomainname", at_once(InBytes(0, Arg(1, wide=False, limit=HOST_NAME_MAX)))),
}

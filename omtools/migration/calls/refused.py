"""Calls that nobody can do away: the process comes home for them. And those that no kernel has any more."""

from __future__ import annotations

from errno import ENOSYS

from omtools.i18n import N_
from omtools.migration.calls.model import Refusal
from omtools.migration.calls.spec import Const, Spec


def _all(reason: str, calls: dict[int, str]) -> dict[int, tuple[str, Spec]]:
    """One reason for several calls; {call} in it is the call's name."""
    refusal = Refusal(reason)
    return {nr: (name, refusal) for nr, name in calls.items()}


REFUSED: dict[int, tuple[str, Spec]] = {
    **_all(N_("it calls {call}"), {
        56: "clone", 57: "fork", 58: "vfork", 435: "clone3", 59: "execve", 322: "execveat", 272: "unshare",
        308: "setns", 161: "chroot", 155: "pivot_root", 312: "kcmp", 134: "uselib", 139: "sysfs",
    }),
    **_all(N_("it changes its credentials ({call})"), {
        105: "setuid", 106: "setgid", 113: "setreuid", 114: "setregid", 116: "setgroups", 117: "setresuid",
        119: "setresgid", 122: "setfsuid", 123: "setfsgid", 126: "capset",
    }),
    **_all(N_("it reads its signals from a descriptor ({call})"), {282: "signalfd", 289: "signalfd4"}),
    **_all(N_("it uses asynchronous I/O ({call})"), {
        206: "io_setup", 207: "io_destroy", 208: "io_getevents", 209: "io_submit", 210: "io_cancel",
        333: "io_pgetevents", 425: "io_uring_setup", 426: "io_uring_enter", 427: "io_uring_register",
    }),
    **_all(N_("it mounts file systems or asks about mounts ({call})"), {
        165: "mount", 166: "umount2", 428: "open_tree", 429: "move_mount", 430: "fsopen", 431: "fsconfig",
        432: "fsmount", 433: "fspick", 442: "mount_setattr", 457: "statmount", 458: "listmount",
        467: "open_tree_attr",
    }),
    **_all(N_("it administers the machine ({call})"), {
        153: "vhangup", 163: "acct", 167: "swapon", 168: "swapoff", 169: "reboot", 172: "iopl",
        173: "ioperm", 175: "init_module", 176: "delete_module", 313: "finit_module", 179: "quotactl",
        443: "quotactl_fd", 246: "kexec_load", 320: "kexec_file_load", 212: "lookup_dcookie",
    }),
    **_all(N_("it traces or measures processes ({call})"), {
        101: "ptrace", 298: "perf_event_open", 321: "bpf", 335: "uretprobe", 336: "uprobe",
    }),
    **_all(N_("it restricts what it may do ({call})"), {
        317: "seccomp", 444: "landlock_create_ruleset", 445: "landlock_add_rule",
        446: "landlock_restrict_self",
    }),
    **_all(N_("it deals with security modules ({call})"), {
        459: "lsm_get_self_attr", 460: "lsm_set_self_attr", 461: "lsm_list_modules",
    }),
    **_all(N_("it uses the kernel's key rings ({call})"), {
        248: "add_key", 249: "request_key", 250: "keyctl",
    }),
    **_all(N_("it watches whole file systems ({call})"), {300: "fanotify_init", 301: "fanotify_mark"}),
    154: ("modify_ldt", Refusal(N_("it changes its segment descriptors (modify_ldt)"))),
}

# kernel/sys_ni.c and arch/x86/entry/syscalls/syscall_64.tbl: numbers without a call behind them.
GONE: dict[int, tuple[str, Spec]] = {
    nr: (name, Const(-ENOSYS))
    for nr, name in {
        156: "_sysctl", 174: "create_module", 177: "get_kernel_syms", 178: "query_module",
        180: "nfsservctl", 181: "getpmsg", 182: "putpmsg", 183: "afs_syscall", 184: "tuxcall",
        185: "security", 205: "set_thread_area", 211: "get_thread_area", 214: "epoll_ctl_old",
        215: "epoll_wait_old", 236: "vserver",
    }.items()
}

"""Calls that are many calls: fcntl by command, ioctl by request, prctl by option, semctl, msgctl.

Only what is listed travels: for an unknown request nobody can say whether its structure points on.
"""

from __future__ import annotations

from omtools.i18n import N_
from omtools.migration.calls.model import Refusal
from omtools.migration.calls.shapes import Field, InBytes, InOutBytes, OutBytes, Text
from omtools.migration.calls.spec import Do, Spec, Switch, at_once, forward, word
from omtools.migration.calls.structures import Interfaces
from omtools.migration.calls.terminals import TERMINALS

_PLAIN = at_once()

# --- fcntl: include/uapi/asm-generic/fcntl.h, include/uapi/linux/fcntl.h -------------------------------
_FLOCK = 32  # struct flock

FCNTL = Switch(
    word(1),
    {
        # F_DUPFD, GETFD, SETFD, GETFL, SETFL, SETOWN, GETOWN, SETSIG, GETSIG
        **dict.fromkeys((0, 1, 2, 3, 4, 8, 9, 10, 11), _PLAIN),
        5: at_once(InOutBytes(2, _FLOCK)),   # F_GETLK
        6: at_once(InBytes(2, _FLOCK)),      # F_SETLK
        7: forward(InBytes(2, _FLOCK)),      # F_SETLKW
        15: at_once(InBytes(2, 8)),          # F_SETOWN_EX: struct f_owner_ex
        16: at_once(OutBytes(2, 8)),         # F_GETOWN_EX
        17: at_once(OutBytes(2, 8)),         # F_GETOWNER_UIDS: two uid_t
        36: at_once(InOutBytes(2, _FLOCK)),  # F_OFD_GETLK
        37: at_once(InBytes(2, _FLOCK)),     # F_OFD_SETLK
        38: forward(InBytes(2, _FLOCK)),     # F_OFD_SETLKW
        # F_SETLEASE, GETLEASE, NOTIFY, DUPFD_QUERY, CREATED_QUERY, CANCELLK, DUPFD_CLOEXEC,
        # SETPIPE_SZ, GETPIPE_SZ, ADD_SEALS, GET_SEALS
        **dict.fromkeys(range(1024, 1035), _PLAIN),
        1035: at_once(OutBytes(2, 8)),       # F_GET_RW_HINT
        1036: at_once(InBytes(2, 8)),        # F_SET_RW_HINT
        1037: at_once(OutBytes(2, 8)),       # F_GET_FILE_RW_HINT
        1038: at_once(InBytes(2, 8)),        # F_SET_FILE_RW_HINT
    },
    Refusal(N_("it calls fcntl with command {number}, which is not known here")),
)

# --- ioctl on files, disks and sockets -----------------------------------------------------------------
_IFREQ = 40  # linux/if.h


def reads(size: int) -> Do:
    """A request that fills a flat structure."""
    return at_once(OutBytes(2, size))


def writes(size: int) -> Do:
    """A request that takes a flat structure."""
    return at_once(InBytes(2, size))


def updates(size: int) -> Do:
    """A request that does both, or fills only a part."""
    return at_once(InOutBytes(2, size))


_DESCRIPTORS: dict[int, Spec] = {
    # asm-generic/ioctls.h
    0x5450: _PLAIN,          # FIONCLEX
    0x5451: _PLAIN,          # FIOCLEX
    0x5421: writes(4),       # FIONBIO
    0x5452: writes(4),       # FIOASYNC
    0x541B: reads(4),        # FIONREAD, TIOCINQ, SIOCINQ
    0x5460: reads(8),        # FIOQSIZE: loff_t
}

_FILES: dict[int, Spec] = {
    # linux/fs.h; what its numbers call long is an int in the kernel (fs/ioctl.c)
    0x1: updates(4),         # FIBMAP
    0x2: reads(4),           # FIGETBSZ
    0x80086601: reads(4),    # FS_IOC_GETFLAGS
    0x40086602: writes(4),   # FS_IOC_SETFLAGS
    0x80087601: reads(4),    # FS_IOC_GETVERSION
    0x40087602: writes(4),   # FS_IOC_SETVERSION
    0x801C581F: reads(28),   # FS_IOC_FSGETXATTR: struct fsxattr
    0x401C5820: writes(28),  # FS_IOC_FSSETXATTR
    0x81009431: reads(256),  # FS_IOC_GETFSLABEL: FSLABEL_MAX
    0x41009432: writes(256),  # FS_IOC_SETFSLABEL
    0x40049409: forward(),   # FICLONE: a descriptor
    0x4020940D: forward(InBytes(2, 32)),  # FICLONERANGE: struct file_clone_range
    # FIDEDUPERANGE: struct file_dedupe_range, its dest_count (u16 at 16) of 32 bytes behind it
    0xC0189436: forward(InOutBytes(2, Field(2, 16, 2, base=24, unit=32, limit=4096))),
    # FS_IOC_FIEMAP: struct fiemap, room for fm_extent_count (u32 at 24) extents of 56 bytes behind it
    0xC020660B: forward(InOutBytes(2, Field(2, 24, 4, base=32, unit=56, limit=1 << 16))),
    0xC0045877: _PLAIN,      # FIFREEZE
    0xC0045878: _PLAIN,      # FITHAW
    0xC0185879: forward(InOutBytes(2, 24)),  # FITRIM: struct fstrim_range
    # linux/msdos_fs.h
    0x80047210: reads(4),    # FAT_IOCTL_GET_ATTRIBUTES
    0x40047211: writes(4),   # FAT_IOCTL_SET_ATTRIBUTES
    0x80047213: reads(4),    # FAT_IOCTL_GET_VOLUME_ID
    # linux/nsfs.h: NS_GET_USERNS, NS_GET_PARENT, NS_GET_NSTYPE; NS_GET_OWNER_UID
    **dict.fromkeys((0xB701, 0xB702, 0xB703), _PLAIN),
    0xB704: reads(4),
}

_DISKS: dict[int, Spec] = {
    # linux/fs.h (block/ioctl.c says how wide they are)
    0x125E: reads(4),        # BLKROGET
    0x125F: forward(),       # BLKRRPART
    0x1260: reads(8),        # BLKGETSIZE
    0x1261: forward(),       # BLKFLSBUF
    0x1263: reads(8),        # BLKRAGET
    0x1265: reads(8),        # BLKFRAGET
    0x1267: reads(2),        # BLKSECTGET
    0x1268: reads(4),        # BLKSSZGET
    0x1277: forward(InBytes(2, 16)),  # BLKDISCARD: two u64
    0x1278: reads(4),        # BLKIOMIN
    0x1279: reads(4),        # BLKIOOPT
    0x127A: reads(4),        # BLKALIGNOFF
    0x127B: reads(4),        # BLKPBSZGET
    0x127C: reads(4),        # BLKDISCARDZEROES
    0x127D: forward(InBytes(2, 16)),  # BLKSECDISCARD
    0x127E: reads(2),        # BLKROTATIONAL
    0x127F: forward(InBytes(2, 16)),  # BLKZEROOUT
    0x80081270: reads(4),    # BLKBSZGET
    0x80081272: reads(8),    # BLKGETSIZE64
    0x80081280: reads(8),    # BLKGETDISKSEQ
    # linux/random.h, linux/rtc.h
    0x80045200: reads(4),    # RNDGETENTCNT
    0x80247009: reads(36),   # RTC_RD_TIME: struct rtc_time
    0x80247008: reads(36),   # RTC_ALM_READ
}

_SOCKETS: dict[int, Spec] = {
    # asm-generic/sockios.h
    0x8901: writes(4),       # FIOSETOWN
    0x8902: writes(4),       # SIOCSPGRP
    0x8903: reads(4),        # FIOGETOWN
    0x8904: reads(4),        # SIOCGPGRP
    0x8905: reads(4),        # SIOCATMARK
    0x8906: reads(16),       # SIOCGSTAMP_OLD
    0x8907: reads(16),       # SIOCGSTAMPNS_OLD
    # linux/sockios.h
    0x80108906: reads(16),   # SIOCGSTAMP_NEW
    0x80108907: reads(16),   # SIOCGSTAMPNS_NEW
    0x894B: reads(4),        # SIOCOUTQNSD
    0x894C: _PLAIN,          # SIOCGSKNS
    # SIOCGIFNAME, FLAGS, ADDR, DSTADDR, BRDADDR, NETMASK, METRIC, MTU, HWADDR, INDEX, TXQLEN, MAP and the
    # setters that hold the whole in struct ifreq (whose one pointer, ifr_data, none of these uses)
    **dict.fromkeys(
        (0x8910, 0x8913, 0x8914, 0x8915, 0x8916, 0x8917, 0x8918, 0x8919, 0x891A, 0x891B, 0x891C, 0x891D,
         0x891E, 0x8921, 0x8922, 0x8923, 0x8924, 0x8927, 0x8933, 0x8937, 0x8942, 0x8943, 0x8970),
        updates(_IFREQ),
    ),
    **dict.fromkeys((0x8953, 0x8954, 0x8955), updates(68)),  # SIOCDARP, GARP, SARP: struct arpreq
    0x8912: at_once(Interfaces(2)),  # SIOCGIFCONF
    # linux/if_tun.h: TUNSETIFF and TUNGETIFF take a struct ifreq, whatever their numbers say
    0x400454CA: updates(_IFREQ),
    0x800454D2: updates(_IFREQ),
    0x800454CF: reads(4),    # TUNGETFEATURES
    0x800454D3: reads(4),    # TUNGETSNDBUF
    0x400454D4: writes(4),   # TUNSETSNDBUF
    0x800454D7: reads(4),    # TUNGETVNETHDRSZ
    0x400454D8: writes(4),   # TUNSETVNETHDRSZ
    # TUNSETPERSIST, OWNER, GROUP, OFFLOAD: the value itself
    **dict.fromkeys((0x400454CB, 0x400454CC, 0x400454CE, 0x400454D0), _PLAIN),
}

IOCTL = Switch(
    word(1),
    {**_DESCRIPTORS, **TERMINALS, **_FILES, **_DISKS, **_SOCKETS},
    Refusal(N_("it makes the ioctl request {number:#x}, whose layout is not known here")),
)

# --- prctl: include/uapi/linux/prctl.h -------------------------------------------------------------------
_MEMORY = Refusal(N_("it changes how the kernel treats its memory (prctl option {number})"))
_CREDENTIALS = Refusal(N_("it changes its credentials (prctl option {number})"))
_CPU = Refusal(N_("it changes how its processor behaves (prctl option {number})"))
_COMM = 16  # linux/sched.h, TASK_COMM_LEN

PRCTL = Switch(
    word(0),
    {
        1: _PLAIN,                      # PR_SET_PDEATHSIG: home's parent is the one that counts
        2: at_once(OutBytes(1, 4)),     # PR_GET_PDEATHSIG
        3: _PLAIN,                      # PR_GET_DUMPABLE
        4: Refusal(N_("it changes whether it may be traced and dumped (PR_SET_DUMPABLE)")),
        7: _PLAIN,                      # PR_GET_KEEPCAPS
        8: _CREDENTIALS,                # PR_SET_KEEPCAPS
        13: _PLAIN,                     # PR_GET_TIMING
        14: _PLAIN,                     # PR_SET_TIMING
        15: at_once(Text(1, _COMM, 0), mirror=True),  # PR_SET_NAME: what ps shows, on both nodes
        16: at_once(OutBytes(1, _COMM)),  # PR_GET_NAME
        21: _PLAIN,                     # PR_GET_SECCOMP: home's; the cage's own filter is not its business
        22: Refusal(N_("it restricts its own system calls (seccomp)")),
        23: _PLAIN,                     # PR_CAPBSET_READ
        24: _CREDENTIALS,               # PR_CAPBSET_DROP
        25: at_once(OutBytes(1, 4)),    # PR_GET_TSC
        26: _CPU,                       # PR_SET_TSC
        27: _PLAIN,                     # PR_GET_SECUREBITS
        28: _CREDENTIALS,               # PR_SET_SECUREBITS
        29: at_once(mirror=True),       # PR_SET_TIMERSLACK: it sleeps there
        30: _PLAIN,                     # PR_GET_TIMERSLACK
        31: _PLAIN,                     # PR_TASK_PERF_EVENTS_DISABLE
        32: _PLAIN,                     # PR_TASK_PERF_EVENTS_ENABLE
        33: _MEMORY,                    # PR_MCE_KILL
        34: _PLAIN,                     # PR_MCE_KILL_GET
        35: _MEMORY,                    # PR_SET_MM
        36: _PLAIN,                     # PR_SET_CHILD_SUBREAPER: its children are at home
        37: at_once(OutBytes(1, 4)),    # PR_GET_CHILD_SUBREAPER
        38: _PLAIN,                     # PR_SET_NO_NEW_PRIVS: the guest has it already
        39: _PLAIN,                     # PR_GET_NO_NEW_PRIVS
        41: _MEMORY,                    # PR_SET_THP_DISABLE
        42: _PLAIN,                     # PR_GET_THP_DISABLE
        # PR_CAP_AMBIENT: IS_SET only asks
        47: Switch(word(1), {1: _PLAIN}, Refusal(N_("it changes its ambient capabilities (prctl)"))),
        52: _PLAIN,                     # PR_GET_SPECULATION_CTRL
        53: _CPU,                       # PR_SET_SPECULATION_CTRL
        57: _MEMORY,                    # PR_SET_IO_FLUSHER
        58: _PLAIN,                     # PR_GET_IO_FLUSHER
        59: Refusal(N_("it catches its own system calls (PR_SET_SYSCALL_USER_DISPATCH)")),
        65: _MEMORY,                    # PR_SET_MDWE
        66: _PLAIN,                     # PR_GET_MDWE
        67: _MEMORY,                    # PR_SET_MEMORY_MERGE
        68: _PLAIN,                     # PR_GET_MEMORY_MERGE
        0x59616D61: _PLAIN,             # PR_SET_PTRACER
    },
    Refusal(N_("it calls prctl with option {number}, which is not known here")),
)

# --- System V semaphores and messages: include/uapi/linux/sem.h, msg.h, ipc.h ----------------------------
_IPC_64 = 0x100  # ipc/util.h: always so on x86-64, whether it is said or not
_SEMID = 104     # asm/sembuf.h, struct semid64_ds
_SEMINFO = 40
_MSQID = 120     # asm-generic/msgbuf.h, struct msqid64_ds
_MSGINFO = 32

SEMCTL = Switch(
    lambda args: args[2] & 0xFFFFFFFF & ~_IPC_64,
    {
        # IPC_RMID, GETPID, GETVAL, GETNCNT, GETZCNT, SETVAL
        **dict.fromkeys((0, 11, 12, 14, 15, 16), _PLAIN),
        1: at_once(InBytes(3, _SEMID)),                              # IPC_SET
        **dict.fromkeys((2, 18, 20), at_once(OutBytes(3, _SEMID))),  # IPC_STAT, SEM_STAT, SEM_STAT_ANY
        **dict.fromkeys((3, 19), at_once(OutBytes(3, _SEMINFO))),    # IPC_INFO, SEM_INFO
    },
    # GETALL and SETALL: how many there are only the kernel at home knows
    Refusal(N_("it reads or sets a whole set of semaphores at once (semctl)")),
)

MSGCTL = Switch(
    lambda args: args[1] & 0xFFFFFFFF & ~_IPC_64,
    {
        0: _PLAIN,                                                   # IPC_RMID
        1: at_once(InBytes(2, _MSQID)),                              # IPC_SET
        **dict.fromkeys((2, 11, 13), at_once(OutBytes(2, _MSQID))),  # IPC_STAT, MSG_STAT, MSG_STAT_ANY
        **dict.fromkeys((3, 12), at_once(OutBytes(2, _MSGINFO))),    # IPC_INFO, MSG_INFO
    },
    Refusal(N_("it calls msgctl with command {number}, which is not known here")),
)


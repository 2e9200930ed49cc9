"""Calls about memory: the process has it with it, so the node's own kernel does them, or nobody can."""

from __future__ import annotations

from omtools.i18n import N_
from omtools.migration.calls.model import Refusal
from omtools.migration.calls.spec import ALWAYS, Native, Spec, Switch

# include/uapi/asm-generic/mman-common.h and mman.h, include/uapi/linux/mman.h
MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_TYPE = 0x0F
MAP_ANONYMOUS = 0x20
MAP_HUGETLB = 0x40000

_FILE, _SHARED, _HUGE, _OTHER = range(4)


def _why_not(args: tuple[int, ...]) -> int:
    """What keeps an mmap from being private and anonymous."""
    flags = args[3]
    if not flags & MAP_ANONYMOUS:
        return _FILE
    if flags & MAP_TYPE in (MAP_SHARED, MAP_SHARED | MAP_PRIVATE):
        return _SHARED
    return _HUGE if flags & MAP_HUGETLB else _OTHER


_MMAP = Native(
    # Huge pages stay at home as well: whether the node has some set aside is its own affair.
    (((3, MAP_TYPE | MAP_ANONYMOUS | MAP_HUGETLB, MAP_PRIVATE | MAP_ANONYMOUS),),),
    Switch(
        _why_not,
        {
            _FILE: Refusal(N_("it maps a file into its memory")),
            _SHARED: Refusal(N_("it maps memory to share with other processes")),
            _HUGE: Refusal(N_("it asks for huge pages")),
        },
        Refusal(N_("it maps a kind of memory that is not known here")),
    ),
)

_NATIVE = Native(ALWAYS)
_NUMA = Refusal(N_("it places its memory on NUMA nodes ({call})"))
_OTHERS = Refusal(N_("it reaches into the memory of another process ({call})"))

MEMORY: dict[int, tuple[str, Spec]] = {
    9: ("mmap", _MMAP),
    10: ("mprotect", _NATIVE),
    11: ("munmap", _NATIVE),
    12: ("brk", _NATIVE),
    25: ("mremap", _NATIVE),
    26: ("msync", _NATIVE),
    27: ("mincore", _NATIVE),
    28: ("madvise", _NATIVE),
    149: ("mlock", _NATIVE),
    150: ("munlock", _NATIVE),
    151: ("mlockall", _NATIVE),
    152: ("munlockall", _NATIVE),
    325: ("mlock2", _NATIVE),
    329: ("pkey_mprotect", _NATIVE),
    330: ("pkey_alloc", _NATIVE),
    331: ("pkey_free", _NATIVE),
    453: ("map_shadow_stack", _NATIVE),
    462: ("mseal", _NATIVE),
    216: ("remap_file_pages", Refusal(N_("it rearranges a file mapping (remap_file_pages)"))),
    278: ("vmsplice", Refusal(N_("it lends its memory to a pipe (vmsplice)"))),
    440: ("process_madvise", _OTHERS),
    310: ("process_vm_readv", _OTHERS),
    311: ("process_vm_writev", _OTHERS),
    323: ("userfaultfd", Refusal(N_("it serves its own page faults (userfaultfd)"))),
    237: ("mbind", _NUMA),
    238: ("set_mempolicy", _NUMA),
    239: ("get_mempolicy", _NUMA),
    256: ("migrate_pages", _NUMA),
    279: ("move_pages", _NUMA),
    450: ("set_mempolicy_home_node", _NUMA),
}

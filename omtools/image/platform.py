"""What two machines must have in common before a process can move between them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from omtools.errors import KernelDiffers, OmError, ProcessorLacks

# Flags of /proc/cpuinfo that programs cannot see or use, and that therefore do not matter.
_INVISIBLE_FLAGS = frozenset({"hypervisor", "constant_tsc", "nonstop_tsc", "rep_good", "tsc_known_freq",
                              "tsc_reliable", "cpuid", "extd_apicid", "nopl", "topoext", "xtopology",
                              "arch_capabilities", "overflow_recov", "succor", "cmp_legacy", "perfctr_core"})

# Without these, instructions that have them are not refused but mean something else (Intel SDM volume 2:
# LZCNT is then BSR, TZCNT is BSF).
_ANOTHER_MEANING = frozenset({"abm", "bmi1"})


class Platform(msgspec.Struct, frozen=True):
    """One machine, as far as the user part of a process can tell.

    Attributes:
        release: the kernel's release, as uname(2) gives it.
        machine: the architecture, as uname(2) gives it.
        cpu_flags: what /proc/cpuinfo lists and programs can use, sorted.
        page_size: bytes.
    """

    release: str
    machine: str
    cpu_flags: tuple[str, ...]
    page_size: int

    def check_guest_of(self, home: Platform, node: str, by_itself: bool = False) -> OmError | None:
        """Why a process of `home` cannot run on this platform (of the node named), or None.

        Whether the process uses what this processor lacks cannot be seen from outside: it comes home with the
        instruction to do, should it come to one. Only what would be executed as something else is refused
        beforehand; and, where nobody asked for this move (`by_itself`), everything that is lacking.
        """
        if self.machine != home.machine or self.page_size != home.page_size:
            why = f"{self.machine}, pages of {self.page_size} bytes"
            return KernelDiffers(node=node, theirs=self.release, ours=home.release, why=why)
        lacking = set(home.cpu_flags) - set(self.cpu_flags) - _INVISIBLE_FLAGS
        if not by_itself:
            lacking &= _ANOTHER_MEANING
        return ProcessorLacks(node=node, features=" ".join(sorted(lacking))) if lacking else None


def this_platform() -> Platform:
    """The machine that runs this."""
    name = os.uname()
    return Platform(
        release=name.release,
        machine=name.machine,
        cpu_flags=_cpu_flags(),
        page_size=os.sysconf("SC_PAGE_SIZE"),
    )


def _cpu_flags() -> tuple[str, ...]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return tuple(sorted(line.partition(":")[2].split()))
    return ()

"""What two machines must have in common before a process can move between them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from omtools.errors import KernelDiffers, OmError, ProcessorLacks

# Flags of /proc/cpuinfo that programs cannot see or use, and that therefore do not matter.
_INVISIBLE_FLAGS = frozenset({"hypervisor", "constant_tsc", "nonstop_tsc", "rep_good", "tsc_known_freq",
                              "tsc_reliable", "cpuid", "extd_apicid", "nopl", "topoext", "xtopology",
                              "arch_capabilities", "overflow_recov", "succor", "cmp_legacy", "perfctr_core"})


class Platform(msgspec.Struct, frozen=True):
    """One machine, as far as the user part of a process can tell.

    Attributes:
        release: the kernel's release, as uname(2) gives it.
        machine: the architecture, as uname(2) gives it.
        vdso: digest of the vdso's bytes; equal digests mean equal symbols at equal places.
        cpu_flags: what /proc/cpuinfo lists and programs can use, sorted.
        page_size: bytes.
    """

    release: str
    machine: str
    vdso: str
    cpu_flags: tuple[str, ...]
    page_size: int

    def check_guest_of(self, home: Platform, node: str) -> OmError | None:
        """Why a process of `home` cannot run on this platform (of the node named), or None."""
        why = ""
        if self.machine != home.machine or self.page_size != home.page_size:
            why = f"{self.machine}, pages of {self.page_size} bytes"
        elif self.vdso != home.vdso:
            why = "its vdso differs"
        if why:
            return KernelDiffers(node=node, theirs=self.release, ours=home.release, why=why)
        lacking = sorted(set(home.cpu_flags) - set(self.cpu_flags) - _INVISIBLE_FLAGS)
        if lacking:
            return ProcessorLacks(node=node, features=" ".join(lacking))
        return None


def this_platform() -> Platform:
    """The machine that runs this."""
    name = os.uname()
    return Platform(
        release=name.release,
        machine=name.machine,
        vdso=hashlib.blake2b(vdso_bytes(), digest_size=16).hexdigest(),
        cpu_flags=_cpu_flags(),
        page_size=os.sysconf("SC_PAGE_SIZE"),
    )


def vdso_bytes() -> bytes:
    """The vdso that the kernel maps into every process of this machine (vdso(7))."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            with open("/proc/self/mem", "rb", buffering=0) as memory:
                return os.pread(memory.fileno(), end - start, start)
    return b""


def _cpu_flags() -> tuple[str, ...]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return tuple(sorted(line.partition(":")[2].split()))
    return ()

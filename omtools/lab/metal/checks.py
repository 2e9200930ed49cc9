"""Whether this machine can carry a lab of machines: asked before anything is started."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from omtools.errors import MetalNoRoom, MetalNotHere, MetalProgramMissing
from omtools.i18n import N_, _
from omtools.lab.metal.wire import TUN

EMULATOR = "qemu-system-x86_64"
# where Debian's and others' packages put the network card's boot program; QEMU finds it there by itself
ROMS = ("/usr/lib/ipxe/qemu/efi-virtio.rom", "/usr/share/ipxe/qemu/efi-virtio.rom",
        "/usr/share/qemu/efi-virtio.rom", "/usr/share/qemu-kvm/efi-virtio.rom")  # fmt: skip
MACHINE_MB = 512
_QEMU_MB = 100  # of its own beside that: seen were 690 MB for mCii, 500 for metrakilate
CACHE_MB = 400
LAB_MB = 150


@dataclass(frozen=True)
class Program:
    """A program that is needed.

    Attributes:
        name: of the program.
        package: Debian's, that has it.
        purpose: what for.
    """

    name: str
    package: str
    purpose: str


TO_BUILD = (
    Program("apt-get", "apt", N_("it fetches the kernel and the programs that run on them")),
    Program("apt-cache", "apt", N_("it knows the kernel's package")),
    Program("dpkg-deb", "dpkg", N_("it unpacks the kernel's package")),
    Program("ldd", "libc-bin", N_("it finds the libraries of Python")),
    Program("zstd", "zstd", N_("it compresses their root file system")),
)
TO_RUN = (Program(EMULATOR, "qemu-system-x86", N_("it emulates them")),)
HERE = (
    Program("dnsmasq", "dnsmasq-base", N_("it gives addresses and the boot script")),
    Program("busybox", "busybox", N_("it serves kernel and root, and writes the log")),
)


def program_path(name: str) -> str | None:
    """Where a program is, also where an ordinary user's path does not lead; None: nowhere."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def check_programs(programs: tuple[Program, ...]) -> None:
    """Refuse if one of the programs is not installed.

    Raises:
        MetalProgramMissing: the first that is missing.
    """
    for one in programs:
        if program_path(one.name) is None:
            raise MetalProgramMissing(what=one.name, purpose=_(one.purpose), package=one.package)


def check_here() -> None:
    """Refuse if this machine cannot be one end of the wire itself.

    Raises:
        MetalProgramMissing: a program for its services is not installed.
        MetalNotHere: it may make no network card.
    """
    check_programs(HERE)
    try:
        os.close(os.open(TUN, os.O_RDWR))
    except OSError as error:
        why = _("{device} cannot be opened ({why}), and the wire ends there")
        raise MetalNotHere(why=why.format(device=TUN, why=error.strerror)) from None


def check_rom() -> None:
    """Refuse if the emulated network card has no boot program.

    Raises:
        MetalProgramMissing: there is none.
    """
    if not any(os.path.exists(place) for place in ROMS):
        raise MetalProgramMissing(
            what="iPXE", purpose=_("it is the network card's boot program"), package="ipxe-qemu"
        )


def check_disk(directory: Path, needed_mb: int) -> None:
    """Refuse if the file system of a directory, which need not exist yet, has too little space.

    Raises:
        MetalNoRoom: it has.
    """
    place = next(one for one in (directory, *directory.parents) if one.exists())
    free_mb = shutil.disk_usage(place).free >> 20
    if free_mb < needed_mb:
        what = _("disk space at {place}").format(place=place)
        raise MetalNoRoom(what=what, free_mb=free_mb, needed_mb=needed_mb)


def available_mb() -> int:
    """Memory that could be had without swapping, in MB: of the machine, or what our control group is left."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) >> 10
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, max(0, int(limit) - used) >> 20)


def check_memory(machines: int) -> None:
    """Refuse if there is too little memory for so many machines more.

    Raises:
        MetalNoRoom: there is.
    """
    needed_mb, free_mb = machines * (MACHINE_MB + _QEMU_MB), available_mb()
    if machines and free_mb < needed_mb:
        raise MetalNoRoom(what=_("memory"), free_mb=free_mb, needed_mb=needed_mb)

"""The image in layers: archives that follow each other, each kept under a name made of what went into it.

    system    kernel modules, busybox, dropbear, ps, and our own few scripts      both machines
    python    the running Python and the packages this one needs                 both machines
    own       this package, and its commands                                     both machines
    server    dnsmasq, the NFS server, what a diskless machine has to be served  mCii only
    netroot   a small root of its own: fetches an address, mounts the real root  served, as a variant

The kernel unpacks one compressed archive after the other, so the first three, one behind the other, are the
root file system, and a change of this package costs a second, not the building of all.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omtools.errors import MetalImageFailed
from omtools.i18n import _
from omtools.lab.metal import cpio, elf, python_files
from omtools.lab.metal.cpio import Entry
from omtools.lab.metal.modules import Module, alias_file, dependency_file, module_name, resolve
from omtools.lab.metal.packages import Contents

KERNEL = "linux-image-cloud-amd64"  # small, and quickly unpacked (LZ4); has all that the engine needs
PROGRAMS = ("busybox-static", "bash", "dropbear-bin", "procps")  # bash: the shell that omsh speaks to
SERVER_PROGRAMS = ("dnsmasq-base", "nfs-kernel-server")
WANTED_MODULES = (
    "virtio_pci", "virtio_net", "virtio_rng", "virtio_console", "fuse", "overlay", "tun", "veth", "bridge",
    "unix_diag", "inet_diag", "tcp_diag", "udp_diag", "af_packet_diag", "netlink_diag",
)  # fmt: skip
SERVER_MODULES = ("nfsd",)
NETROOT_MODULES = ("virtio_pci", "virtio_net", "nfsv4")
# For real machines: the network cards of PCs, as far as the kernel has them; loaded where /sys shows one.
DRIVERS = (
    "e1000", "e1000e", "igb", "igc", "ixgbe", "r8169", "8139cp", "8139too", "tg3", "bnx2", "sky2", "skge",
    "forcedeth", "atl1", "atl1c", "atl1e", "atl2", "alx", "jme", "via_rhine", "via_velocity", "pcnet32",
    "tulip", "e100", "ne2k_pci", "realtek", "broadcom", "vmxnet3",
)  # fmt: skip
ROOTFS = Path(__file__).with_name("rootfs")
_TAKEN = {
    "bash": ("usr/bin/bash",),
    "dropbear-bin": ("usr/sbin/dropbear", "usr/bin/dbclient", "usr/bin/dropbearkey"),
    "procps": ("usr/bin/ps", "usr/bin/pgrep", "usr/bin/top", "usr/bin/free", "usr/bin/uptime"),
    "dnsmasq-base": ("usr/sbin/dnsmasq",),
    "nfs-kernel-server": ("usr/sbin/exportfs", "usr/sbin/rpc.mountd", "usr/sbin/rpc.nfsd"),
    "libtirpc-common": ("etc/netconfig",),  # without it rpc.mountd and rpc.nfsd know no TCP
}
_MERGED = ("bin", "sbin", "lib", "lib64")
_PLACES = (
    "proc", "sys", "dev", "run", "tmp", "mnt", "root", "srv", "boot", "var/log", "var/lib", "etc/dropbear",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """For which machines an image is.

    Attributes:
        kernel: the package that depends on the newest kernel of its kind.
        modules: what it must have.
        drivers: what it has as far as there is such a module.
        python: packages of Python beyond those that every image has.
    """

    kernel: str = KERNEL
    modules: tuple[str, ...] = WANTED_MODULES
    drivers: tuple[str, ...] = ()
    python: tuple[str, ...] = ()


LAB = Kind()


def for_real_machines(kernel: str) -> Kind:
    """The image for PCs, which find the cluster by omdiscd.

    Args:
        kernel: the package of the kernel.
    """
    return Kind(kernel, drivers=DRIVERS, python=("zeroconf",))


@dataclass(frozen=True)
class Layer:
    """One archive.

    Attributes:
        name: which.
        digest: of what goes into it, in hexadecimal.
        make: gives what is in it.
    """

    name: str
    digest: str
    make: Callable[[], Iterable[Entry]]

    @property
    def file(self) -> str:
        """The name of its file in the cache."""
        return f"{self.name}-{self.digest[:24]}.cpio.zst"


def recipe() -> str:
    """A digest of how images are made, which is part of every layer's."""
    paths = sorted(Path(__file__).parent.glob("*.py"))
    return digest_of((path.name, path.read_bytes()) for path in paths if path.stem in _BUILDERS)


_BUILDERS = {"compile_image", "cpio", "elf", "layers", "modules", "packages", "python_files"}


def digest_of(parts: Iterable[tuple[str, bytes]]) -> str:
    """SHA-256 of named contents, in the order given."""
    total = hashlib.sha256()
    for name, data in parts:
        total.update(f"{name}\0{len(data)}\0".encode())
        total.update(data)
    return total.hexdigest()


def digest_of_files(files: Iterable[tuple[str, Path]], *more: str) -> str:
    """SHA-256 of files under their names in the image, and of further texts."""
    parts = ((f"{name}\0{int(os.access(path, os.X_OK))}", path.read_bytes()) for name, path in sorted(files))
    return digest_of([("", digest_of(parts).encode()), *(("", text.encode()) for text in more)])


def entries(files: Iterable[tuple[str, Path]], change: Callable[[bytes], bytes] = bytes) -> list[Entry]:
    """Files of this machine as entries; `change` is applied to their contents."""
    return [cpio.file(name, change(path.read_bytes()), 0o755 if _is_program(name, path) else 0o644)
            for name, path in files]  # fmt: skip


def _is_program(name: str, path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IXUSR) or "ld-linux" in name


def rootfs(part: str) -> list[tuple[str, Path]]:
    """Our own files of that part of the image."""
    base = ROOTFS / part
    return [(str(path.relative_to(base)), path) for path in python_files.walk(base, {"__pycache__"})]


def rootfs_entries(part: str) -> list[Entry]:
    """The same as entries; scripts are known by their first line, whatever modes an installer gave them."""
    found = []
    for name, path in rootfs(part):
        data = path.read_bytes()
        found.append(cpio.file(name, data, 0o755 if data.startswith(b"#!") else 0o644))
    return found


def system_layer(contents: Contents, packages: Sequence[str], kind: Kind = LAB) -> Layer:
    """Kernel modules, programs, and the skeleton of a root file system.

    Args:
        contents: the unpacked packages.
        packages: what tells their versions: their checksums.
        kind: for which machines.
    """
    modules = " ".join((*kind.modules, "|", *kind.drivers))

    def make() -> list[Entry]:
        found = [cpio.directory(place, 0o1777 if place == "tmp" else 0o755) for place in _PLACES]
        found += [cpio.link(place, f"usr/{place}") for place in _MERGED]
        found += [cpio.character_device("dev/console", 5, 1), cpio.character_device("dev/null", 1, 3, 0o666)]
        found += _busybox(contents)
        found += _programs(contents, ("bash", "dropbear-bin", "procps"))
        found += kernel_modules(contents, kind.modules, kind.drivers)
        found += [cpio.link("usr/bin/ssh", "dbclient"), cpio.link("etc/mtab", "/proc/self/mounts")]
        return found + rootfs_entries("both")

    return Layer("system", digest_of_files(rootfs("both"), recipe(), modules, *packages), make)


def python_layer(kind: Kind = LAB) -> Layer:
    """The interpreter, its library, the packages needed, and the C library of this machine."""
    standard = python_files.interpreter()
    files = standard + python_files.distributions(kind.python)
    shared = python_files.libraries(path for name, path in files if _may_load(name, path))
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"

    def make() -> list[Entry]:
        found = entries(files + shared, python_files.strip) + python_files.compiled(files)
        return [*found, cpio.link("usr/bin/python3", version), cpio.link("usr/bin/python", "python3")]

    how = f"stripped by {_strip_version()}"
    return Layer("python", digest_of_files(files + shared, recipe(), sys.version, how), make)


def _may_load(name: str, path: Path) -> bool:
    if name.startswith("usr/bin/") or ".so" in path.name:
        with open(path, "rb") as file:
            return elf.is_elf(file.read(64))
    return False


def _strip_version() -> str:
    try:
        done = subprocess.run(["strip", "--version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.partition("\n")[0]


def own_layer() -> Layer:
    """This package."""
    files = python_files.own_package()

    def make() -> list[Entry]:
        return [*entries(files), *python_files.compiled(files), *python_files.commands()]

    return Layer("own", digest_of_files(files, recipe(), sys.version), make)


def server_layer(contents: Contents, packages: Sequence[str]) -> Layer:
    """What only the machine needs that others boot from."""
    beside = python_files.of_the_c_library("libresolv.so.2")  # rpc.mountd's Kerberos wants it

    def make() -> list[Entry]:
        everybodys = {one.path for one in kernel_modules(contents, LAB.modules) if one.path.endswith(".ko")}
        modules = kernel_modules(contents, (*LAB.modules, *SERVER_MODULES))  # with a modules.dep of them all
        return [
            *_programs(contents, (*SERVER_PROGRAMS, "libtirpc-common")),
            *entries(beside),
            *(one for one in modules if one.path not in everybodys),
            *rootfs_entries("server"),
        ]

    modules = " ".join((*LAB.modules, "|", *SERVER_MODULES))
    return Layer("server", digest_of_files([*rootfs("server"), *beside], recipe(), modules, *packages), make)


def netroot_layer(contents: Contents, packages: Sequence[str]) -> Layer:
    """What a machine boots whose root is a directory of mCii: enough to mount it, and to go there."""

    def make() -> list[Entry]:
        return [
            *(cpio.directory(place) for place in ("proc", "sys", "dev", "mnt", "fresh")),
            *(cpio.link(place, f"usr/{place}") for place in _MERGED),
            cpio.character_device("dev/console", 5, 1),
            *_busybox(contents),
            *kernel_modules(contents, NETROOT_MODULES),
            *(one for one in rootfs_entries("both") if one.path.startswith("usr/share/udhcpc/")),
            *rootfs_entries("netroot"),
        ]

    files = [*rootfs("netroot"), *rootfs("both")]
    return Layer("netroot", digest_of_files(files, recipe(), " ".join(NETROOT_MODULES), *packages), make)


def kernel_image(contents: Contents) -> tuple[str, bytes]:
    """The kernel's release and its image.

    Raises:
        MetalImageFailed: the package has none.
    """
    for path, entry in contents.files.items():
        if path.startswith("boot/vmlinuz-"):
            return path.removeprefix("boot/vmlinuz-"), entry.data
    raise MetalImageFailed(why=_("the kernel's package has no kernel"))


def kernel_modules(contents: Contents, must: Sequence[str], drivers: Sequence[str] = ()) -> list[Entry]:
    """The wanted modules with those they need, modules.dep, and modules.alias if there are drivers.

    Args:
        contents: the unpacked packages.
        must: names of modules.
        drivers: those that are wanted as far as there are such.

    Raises:
        MetalImageFailed: one is missing.
    """
    release, _image = kernel_image(contents)
    home = f"usr/lib/modules/{release}"
    paths = [path for path in contents.files if path.startswith(f"{home}/kernel/") and ".ko" in path]
    files = {module_name(path): path.removeprefix(f"{home}/") for path in paths}
    listed = contents.files.get(f"{home}/modules.builtin")
    builtin = frozenset(module_name(line) for line in (listed.data.decode() if listed else "").split())
    wanted = (*must, *(name for name in drivers if name in files))
    try:
        ordered = resolve(wanted, files, builtin, lambda path: contents.files[f"{home}/{path}"].data)
    except KeyError as error:
        why = _("the kernel {release} has no module {name}").format(release=release, name=error.args[0])
        raise MetalImageFailed(why=why) from None
    found: list[Module] = list(ordered)
    return [
        *(cpio.file(f"{home}/{module.path}", module.data) for module in found),
        cpio.file(f"{home}/modules.dep", dependency_file(found)),
        *([cpio.file(f"{home}/modules.alias", alias_file(found))] if drivers else []),
    ]


def _busybox(contents: Contents) -> list[Entry]:
    program = contents.files.get("usr/bin/busybox")
    if program is None:
        raise MetalImageFailed(why=_("the package busybox-static has no busybox"))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "busybox")
        path.write_bytes(program.data)
        path.chmod(0o700)
        listed = subprocess.run([path, "--list-full"], capture_output=True, text=True, check=True).stdout
    found = [cpio.link(_under_usr(line), "/usr/bin/busybox") for line in listed.split() if line != "linuxrc"]
    return [*found, Entry("usr/bin/busybox", program.mode, program.data)]


def _under_usr(path: str) -> str:
    return path if path.startswith("usr/") else f"usr/{path}"


def _programs(contents: Contents, packages: Iterable[str]) -> list[Entry]:
    """The programs taken from packages, and the libraries they need that are not this machine's C library."""
    found: dict[str, Entry] = {}
    for package in packages:
        for path in _TAKEN[package]:
            entry = contents.files.get(path)
            whole = contents.follow(entry) if entry else None
            if whole is None:
                raise MetalImageFailed(why=_("{package} has no {path}").format(package=package, path=path))
            found[path] = whole
    todo = [one for one in found.values() if elf.is_elf(one.data)]
    while todo:
        for soname in elf.needed(todo.pop().data):
            library = contents.library(soname)
            if library is not None and library.path not in found:
                found[library.path] = library
                todo.append(library)
    return list(found.values())

"""Building what the machines boot: a kernel, a root file system in layers, and all of it kept in a cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from omtools.errors import MetalImageFailed
from omtools.i18n import _
from omtools.lab.metal import checks, cpio
from omtools.lab.metal.layers import (
    LAB,
    PROGRAMS,
    SERVER_PROGRAMS,
    Kind,
    Layer,
    kernel_image,
    netroot_layer,
    own_layer,
    python_layer,
    server_layer,
    system_layer,
)
from omtools.lab.metal.packages import Apt, Contents, Package

Report = Callable[[str], None]
_KEPT = 4  # layers of one name: of other checkouts and Pythons, and those of yesterday
_COMPRESS = ("zstd", "-3", "-T1", "-q", "-c")  # one thread: the bytes do not depend on the machine


class Pins(msgspec.Struct):
    """The packages an image is made of, remembered until a build with --force looks for newer ones."""

    packages: list[Package]


@dataclass(frozen=True)
class Image:
    """What machines boot.

    Attributes:
        kernel: the kernel.
        root: the layers of every machine's root file system, in order.
        server: the layer that mCii has beyond that.
        netroot: what a machine boots that has its root by NFS.
        digest: of all of it.
    """

    kernel: Path
    root: tuple[Path, ...]
    server: Path
    netroot: Path
    digest: str

    def write_root(self, target: BinaryIO) -> None:
        """Write the root file system that a diskless machine is served."""
        _concatenate(target, self.root)

    def write_server(self, target: BinaryIO, more: bytes) -> None:
        """Write mCii's root file system: everybody's, its own layer, what it serves, and `more`."""
        _concatenate(target, [*self.root, self.server])
        whole = b"".join(path.read_bytes() for path in self.root)
        served = [
            cpio.file("boot/vmlinuz", self.kernel.read_bytes()), cpio.file("boot/initrd.img", whole),
            cpio.file("boot/netroot.img", self.netroot.read_bytes()),
        ]  # fmt: skip
        target.writelines(cpio.pieces(served))
        target.write(more)


def _concatenate(target: BinaryIO, paths: Iterable[Path]) -> None:
    for path in paths:
        with open(path, "rb") as source:
            shutil.copyfileobj(source, target, 1 << 20)


def cache_directory() -> Path:
    """Where images are kept: below the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "openmosix" / "metal"


def build(
    *, force: bool = False, report: Report = lambda _line: None, cache: Path | None = None, kind: Kind = LAB
) -> Image:
    """The image for the running Python and this checkout, from the cache as far as it is there.

    Args:
        force: look for newer packages, and build every layer anew.
        report: is told what is being done.
        cache: where to keep it; None: below the user's cache directory.
        kind: for which machines.

    Raises:
        MetalProgramMissing: a program for building is not installed.
        MetalNoRoom: the disk is full.
        MetalImageFailed: anything else.
    """
    checks.check_programs(checks.TO_BUILD)
    place = cache or cache_directory()
    checks.check_disk(place, checks.CACHE_MB)
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _turn(place, report):
            packages = _packages(place, force, report, kind)
            return _build(place, packages, force, report, kind)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise MetalImageFailed(why=f"{error.strerror or error}{where}") from error
    except subprocess.CalledProcessError as error:
        raise MetalImageFailed(why=f"{Path(error.cmd[0]).name}: {error.returncode}") from error


@contextlib.contextmanager
def _turn(place: Path, report: Report) -> Iterator[None]:
    """Alone in the cache: whoever comes second finds what the first has built."""
    with open(place / "lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(_("waiting for somebody else's build of the image"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(place: Path, packages: list[Package], force: bool, report: Report, kind: Kind) -> Image:
    apt = Apt(place / "packages")
    sums = [f"{one.file} {one.sha256}" for one in packages]
    opened: list[Contents] = []

    def contents() -> Contents:
        if not opened:
            apt.fetch(packages)
            opened.append(Contents.of(apt.directory / one.file for one in packages))
        return opened[0]

    lazy = _Lazy(contents)
    made = [
        system_layer(lazy, sums, kind), python_layer(kind), own_layer(),
        server_layer(lazy, sums), netroot_layer(lazy, sums),
    ]  # fmt: skip
    kernel = place / f"kernel-{hashlib.sha256(' '.join(sums).encode()).hexdigest()[:24]}"
    if force or not kernel.exists():
        _release, data = kernel_image(contents())
        with _replacing(kernel) as file:
            file.write(data)
    paths = [_layer(place, one, force, report) for one in made]
    digest = hashlib.sha256("\n".join([kernel.name, *(path.name for path in paths)]).encode()).hexdigest()
    return Image(kernel, tuple(paths[:3]), paths[3], paths[4], digest)


class _Lazy(Contents):
    """The packages' files, read only when somebody asks for one: a layer from the cache needs none."""

    def __init__(self, opened: Callable[[], Contents]) -> None:
        self._opened = opened

    @property
    def files(self) -> dict[str, cpio.Entry]:  # type: ignore[override] # a plain attribute of what is read
        return self._opened().files


def _packages(place: Path, force: bool, report: Report, kind: Kind) -> list[Package]:
    path = place / ("packages.json" if kind.kernel == LAB.kernel else f"packages-{kind.kernel}.json")
    if not force:
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            pinned = msgspec.json.decode(path.read_bytes(), type=Pins).packages
            # an older version of ours may have wanted fewer
            if {*PROGRAMS, *SERVER_PROGRAMS} <= {one.name for one in pinned}:
                return pinned
    report(_("looking for the packages of the kernel and of the programs"))
    packages, fetched = Apt(place / "packages").obtain(kind.kernel, [*PROGRAMS, *SERVER_PROGRAMS])
    report(_("{count} packages fetched, {mb:.1f} MB").format(
        count=len(fetched), mb=sum(one.size for one in fetched) / 1e6))  # fmt: skip
    missing = {*PROGRAMS, *SERVER_PROGRAMS} - {one.name for one in packages}
    if missing or not any(one.name.startswith("linux-image-") for one in packages):
        names = ", ".join(sorted(missing)) or kind.kernel
        raise MetalImageFailed(why=_("apt knows no package {names}").format(names=names))
    with _replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(Pins(packages))))
    return packages


def _layer(place: Path, layer: Layer, force: bool, report: Report) -> Path:
    path = place / layer.file
    if path.exists() and not force:
        os.utime(path)
        return path
    with _replacing(path) as file:
        write_layer(layer, file)
    report(_("layer {name}: {mb:.1f} MB").format(name=layer.name, mb=path.stat().st_size / 1e6))
    _forget_old(place, layer.name)
    return path


def write_layer(layer: Layer, target: BinaryIO) -> None:
    """Write a layer, compressed, padded to where another archive may begin."""
    target.flush()
    with subprocess.Popen(_COMPRESS, stdin=subprocess.PIPE, stdout=target.fileno()) as process:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its exit status says more
            process.stdin.writelines(cpio.pieces(layer.make()))
            process.stdin.close()
    if process.returncode:
        raise MetalImageFailed(why=_("zstd ended with status {status}").format(status=process.returncode))
    size = target.seek(0, os.SEEK_END)
    target.write(bytes(-size % cpio.ALIGNMENT))


def _forget_old(place: Path, name: str) -> None:
    found = sorted(place.glob(f"{name}-*.cpio.zst"), key=lambda path: path.stat().st_mtime)
    for path in found[:-_KEPT]:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place when it is complete, and never before."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise

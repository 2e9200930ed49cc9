"""What this machine sees of itself as mCii: its own files, and over some of them a layer that the lab has.

The configuration of the services lies where it lies on a machine of its own, in /etc, /srv, /var: so the same
lesson, and the same scripts, serve both. What is written there is written into a tmpfs of the mount namespace
(overlayfs), and nothing of it reaches the machine.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from omtools.lab.build import keep_visible, mount_own
from omtools.lab.metal import cpio, identity, image
from omtools.lab.metal.cpio import Entry
from omtools.lab.metal.identity import SERVER, Keys
from omtools.lab.metal.layers import rootfs_entries
from omtools.lab.settings import PACKAGE_HOME, NodeFiles, node_name
from omtools.linux.namespaces import Mount, mount

LAYERED = ("etc", "srv", "var/lib", "var/log", "usr/share")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun")
_DEVICE_TREES = ("pts", "shm", "mqueue")
_QUIET = Mount.NOSUID | Mount.NODEV


def tree(directory: Path) -> Path:
    """Where the lab keeps the files that mCii has beyond this machine's own."""
    return directory / "mCii" / "tree"


def boot(directory: Path) -> Path:
    """Where the lab keeps kernel and root for metrakilate; mCii's /boot."""
    return directory / "mCii" / "boot"


def unpack(entries: Iterable[Entry], target: Path) -> None:
    """Write the regular files of an archive below a directory."""
    for entry in entries:
        if stat.S_ISREG(entry.mode):
            path = target / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, entry.mode & 0o777)
            with open(descriptor, "wb") as file:
                file.write(entry.data)


def furnish(directory: Path, built: image.Image, keys: Keys, *, bare: bool) -> None:
    """Write what mCii has beyond this machine's own files, and what metrakilate boots.

    Raises:
        OSError: no room, for one.
    """
    name = node_name(SERVER)
    files = NodeFiles(directory, name)
    files.make()
    for place in (tree(directory), boot(directory), directory / name / "layers"):
        place.mkdir(mode=0o700)
    own = identity.server_entries(keys, bare=bare)
    wanted = [entry for entry in own if entry.path.startswith(("etc/omlab/", "etc/hosts", "var/"))]
    unpack([*wanted, *rootfs_entries("server"), cpio.file("etc/omlab/here", "")], tree(directory))
    config = [entry for entry in own if entry.path.startswith("etc/openmosix/")]
    unpack((replace(entry, path=entry.path.rpartition("/")[2]) for entry in config), files.config)
    shutil.copyfile(built.kernel, boot(directory) / "vmlinuz")
    with open(boot(directory) / "initrd.img", "wb") as file:
        built.write_root(file)


def mount_here(directory: Path, name: str, *, in_user_namespace: bool) -> None:
    """Make the mounts; in a mount namespace of one's own.

    Args:
        directory: of the lab.
        name: of this node.
        in_user_namespace: whether we are root only there.

    Raises:
        OSError: the kernel does not let us; its filename says what.
    """
    needed = [Path(sys.prefix), Path(sys.base_prefix), PACKAGE_HOME, directory]
    mount_own(keep_visible(needed), None, own_root=True)
    hidden = [path for path in needed if Path("/run") in path.parents]
    handles = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for path in hidden]
    mount("tmpfs", "/run", "tmpfs", _QUIET, "mode=755")
    for path, handle in handles:
        path.mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{handle}", path, None, Mount.BIND | Mount.REC)
        os.close(handle)
    _mount_layers(directory, in_user_namespace)
    _mount_devices()
    config = Path("/etc/openmosix")
    config.mkdir(exist_ok=True)
    mount(NodeFiles(directory, name).config, config, None, Mount.BIND)
    Path("/boot").mkdir(exist_ok=True)
    mount(boot(directory), "/boot", None, Mount.BIND)
    _copy_files(tree(directory))


def _copy_files(source: Path) -> None:
    """Copy regular files to where they belong; a directory that is there stays as it is."""
    for path in sorted(source.rglob("*")):
        target = Path("/", path.relative_to(source))
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            shutil.copy(path, target)


def _mount_layers(directory: Path, in_user_namespace: bool) -> None:
    own = directory / "mCii" / "layers"
    mount("tmpfs", own, "tmpfs", _QUIET, "mode=755")
    # trusted.* attributes are for root of the machine (Documentation/filesystems/overlayfs.rst)
    more = ",userxattr" if in_user_namespace else ""
    for place in LAYERED:
        flat = place.replace("/", "-")
        upper, work = own / flat, own / f"{flat}.work"
        upper.mkdir()
        work.mkdir()
        if "/" not in place:
            Path("/", place).mkdir(exist_ok=True)  # in the root that is ours
        layers = f"lowerdir=/{place},upperdir={upper},workdir={work}{more}"
        mount("overlay", f"/{place}", "overlay", _QUIET, layers)


def _mount_devices() -> None:
    """A /dev of one's own: the log's socket in it is not this machine's."""
    handles = {name: os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC)
               for name in (*_DEVICES, *_DEVICE_TREES) if os.path.exists(f"/dev/{name}")}  # fmt: skip
    mount("tmpfs", "/dev", "tmpfs", Mount.NOSUID, "mode=755,size=1m")
    for name, handle in handles.items():
        place = Path("/dev", name)
        place.parent.mkdir(exist_ok=True)
        if name in _DEVICE_TREES:
            place.mkdir()
        else:
            place.touch()
        mount(f"/proc/self/fd/{handle}", place, None, Mount.BIND | Mount.REC)
        os.close(handle)
    for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"),
                         ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):  # fmt: skip
        os.symlink(target, f"/dev/{name}")

"""A machine whose first program is Debian's systemd, with our units in it: built, booted, and what it said.

It is the lab's image with systemd and a few of its own units in a layer more; no udev, no D-Bus, no network but
loopback. Node 1 is root's agent, node 2 the one of the user tux, so that processes have somewhere to go.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from omtools.errors import MetalImageFailed
from omtools.lab.metal import checks, cpio, elf, identity, image, layers
from omtools.lab.metal.cpio import Entry
from omtools.lab.metal.packages import Apt, Contents

ROOT = Path(__file__).parents[3]
OURS = Path(__file__).with_name("systemd_root")
MEGABYTES = 640
PATIENCE = 600.0
_PROGRAMS = (
    "usr/lib/systemd/systemd", "usr/lib/systemd/systemd-journald", "usr/lib/systemd/systemd-shutdown",
    "usr/lib/systemd/systemd-cgroups-agent", "usr/bin/systemctl", "usr/bin/journalctl",
)  # fmt: skip
_SYSTEM_UNITS = (
    "basic.target", "sysinit.target", "network.target", "network-online.target", "shutdown.target",
    "umount.target", "systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket",
    "user.slice",
)  # fmt: skip
_USER_UNITS = ("basic.target", "default.target", "shutdown.target")
_MOUNTS = {1: b"MFSDIR=none\nHPCDIR=/hpc\n", 2: b"MFSDIR=none\nHPCDIR=none\n"}  # one is enough to wait for
_KERNEL = re.compile(r"linux-image-")


@dataclass(frozen=True)
class Step:
    """What one command of the script said.

    Attributes:
        status: its exit status.
        said: on both of its outputs.
    """

    status: int
    said: str


def packages(cache: Path) -> tuple[list[Path], str]:
    """The files of systemd's packages, and a digest of which they are; pinned in the cache once found."""
    apt, pins = Apt(cache / "packages"), cache / "packages-systemd.json"
    try:
        found = msgspec.json.decode(pins.read_bytes(), type=image.Pins).packages
        apt.fetch(found)
    except (OSError, msgspec.MsgspecError, MetalImageFailed):
        found, _new = apt.obtain(layers.KERNEL, ["systemd"])
        found = [one for one in found if not _KERNEL.match(one.name)]
        pins.write_bytes(msgspec.json.encode(image.Pins(found)))
    return [apt.directory / one.file for one in found], " ".join(one.sha256 for one in found)


def systemd_entries(contents: Contents) -> list[Entry]:
    """Its programs with the libraries that they need, and a few of its units."""
    wanted = [
        *_PROGRAMS,
        *(f"usr/lib/systemd/system/{name}" for name in _SYSTEM_UNITS),
        *(f"usr/lib/systemd/user/{name}" for name in _USER_UNITS),
    ]
    found = {path: contents.follow(contents.files[path]) for path in wanted}
    todo = [entry for entry in found.values() if entry is not None and elf.is_elf(entry.data)]
    while todo:
        for soname in elf.needed(todo.pop().data):
            library = contents.library(soname)
            if library is not None and library.path not in found:
                found[library.path] = library
                todo.append(library)
    return [entry for entry in found.values() if entry is not None]


def layer(cache: Path) -> layers.Layer:
    """The layer of systemd and its libraries."""
    paths, digest = packages(cache)
    own = layers.digest_of([("", digest.encode()), ("", Path(__file__).read_bytes())])
    return layers.Layer("systemd", own, lambda: systemd_entries(Contents.of(paths)))


def own_entries() -> list[Entry]:
    """Our units and those of the proof, and both nodes' configurations."""
    found = [
        cpio.file(str(path.relative_to(OURS)), path.read_bytes(), 0o755 if path.read_bytes()[:2] == b"#!" else 0o644)
        for path in OURS.rglob("*") if path.is_file()
    ]  # fmt: skip
    for kind in ("system", "user"):
        units = (ROOT / "systemd" / kind).glob("*.service")
        found += [cpio.file(f"usr/lib/systemd/{kind}/{path.name}", path.read_bytes()) for path in units]
    keys = identity.new_keys()
    for number, home in ((1, "etc/openmosix"), (2, "home/tux/.config/openmosix")):
        for entry in identity.node_entries(number, keys):
            if entry.path.startswith("etc/openmosix/"):
                more = _MOUNTS[number] if entry.path.endswith(".config") else b""
                found.append(cpio.file(entry.path.replace("etc/openmosix", home), entry.data + more, 0o600))
    return found


def boot(cache: Path) -> dict[str, Step]:
    """Boot the machine, have it run its script, and read what came of each step, by the step's name."""
    built = image.build(cache=cache)
    with image._turn(cache, lambda _line: None):
        extra = image._layer(cache, layer(cache), force=False, report=lambda _line: None)
    with tempfile.NamedTemporaryFile() as root:
        image._concatenate(root, [*built.root, extra])  # type: ignore[arg-type] # it writes bytes
        root.write(cpio.archive(own_entries()))
        root.flush()
        command = [
            checks.EMULATOR, "-M", "q35,graphics=off", "-accel", "tcg,thread=multi", "-cpu", "EPYC", "-smp", "2",
            "-m", str(MEGABYTES), "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot",
            "-device", "virtio-rng-pci", "-serial", "stdio", "-kernel", str(built.kernel), "-initrd", root.name,
            "-append", "console=ttyS0 quiet panic=-1 systemd.unit=proof.target systemd.show_status=no",
        ]  # fmt: skip
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
    return read_steps(done.stdout.decode(errors="replace"))


def read_steps(screen: str) -> dict[str, Step]:
    """The steps that were printed, each between ``@@ NAME`` and ``@@ = STATUS``."""
    text = screen.replace("\r", "")
    found = re.findall(r"^@@ (\S+)\n(.*?)^@@ = (\d+)$", text, re.MULTILINE | re.DOTALL)
    assert "end" in [name for name, _said, _status in found], text[-4000:]
    return {name: Step(int(status), said) for name, said, status in found}

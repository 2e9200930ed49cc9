"""The files of a lab of machines, in its directory."""

from __future__ import annotations

from pathlib import Path

import msgspec

from omtools.lab.state import Being, base_directory, lab_name

MEMORY, NFS = "memory", "nfs"


class Plan(msgspec.Struct):
    """The file `plan.json`: what the supervisor starts machines from.

    Attributes:
        kernel: path of the kernel.
        root: paths of the layers of every machine's root file system.
        server: path of mCii's own layer.
        netroot: path of what a machine boots that has its root by NFS.
        digest: of all of it.
    """

    kernel: str
    root: list[str]
    server: str
    netroot: str
    digest: str


class MetalState(msgspec.Struct):
    """The file `metal.json`: what `omlab` knows of the lab from one command to the next.

    Attributes:
        name: the lab's name, OMLAB_NAME.
        boot: the kernel's boot id, as long as which the pid counts.
        pidns: the pid namespace in which it counts.
        bare: whether mCii was left without its services for diskless machines.
        here: whether mCii is this machine.
        root: where metrakilate's root file system is, "memory" or "nfs".
        supervisor: the process that holds everything.
    """

    name: str
    boot: str
    pidns: int
    bare: bool = False
    here: bool = False
    root: str = MEMORY
    supervisor: Being | None = None


def home() -> Path:
    """The directory of the user's lab of machines; it need not exist.

    Lab names have no dot: it is never that of a lab of namespaces.
    """
    return base_directory() / f"{lab_name()}.metal"


def load(directory: Path) -> Plan:
    """The plan of the lab."""
    return msgspec.json.decode((directory / "plan.json").read_bytes(), type=Plan)


def load_state(directory: Path) -> MetalState:
    """What is known of the lab; raises FileNotFoundError, msgspec.DecodeError."""
    return msgspec.json.decode((directory / "metal.json").read_bytes(), type=MetalState)


def screen(directory: Path, node: str) -> Path:
    """The record of a machine's console."""
    return directory / f"console-{node}.log"


def events(directory: Path) -> Path:
    """The record of what happened."""
    return directory / "events.jsonl"


def control(directory: Path) -> Path:
    """The supervisor's socket."""
    return directory / "control.sock"


def own_archive(directory: Path) -> Path:
    """MCii's own archive, with all keys of the lab."""
    return directory / "mCii.cpio"


def user_key(directory: Path) -> Path:
    """The private key that opens both machines and both agents."""
    return directory / "id_ed25519"


def known_hosts(directory: Path) -> Path:
    """The SSH host keys of the machines, by name."""
    return directory / "known_hosts"

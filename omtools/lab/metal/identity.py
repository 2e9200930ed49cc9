"""What makes a machine that one: its name, keys and map, as a small archive of its own.

The keys of a lab are made when it is first switched on. mCii's archive is on its "disk", behind its root
file system. A diskless machine gets its own from mCii over the wire, by the hardware address of its network
card: `/nodes/52-54-00-77-00-02.cpio` beside kernel and root, appended by iPXE. Whoever is on the wire can
fetch it, as everywhere where machines without memory of their own boot; the wire of a lab is nobody else's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from omtools.lab.metal import cpio
from omtools.lab.metal.cpio import Entry
from omtools.lab.metal.plan import MEMORY
from omtools.lab.settings import AGENT_PORT, lab_address, node_name

SERVER, DISKLESS = 1, 2
NUMBERS = (SERVER, DISKLESS)
_KIND = b"ssh-ed25519"


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key.

    Attributes:
        private: in OpenSSH's format.
        dropbear: the same in dropbear's format.
        public: the line of authorized_keys.
    """

    private: str
    dropbear: bytes
    public: str

    @property
    def bare(self) -> str:
        """The public half without its comment."""
        return " ".join(self.public.split()[:2])


def new_key(comment: str) -> KeyPair:
    """A fresh key."""
    key = Ed25519PrivateKey.generate()
    openssh = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    raw, half = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    # dropbear's signkey.c: the name as an SSH string, then both halves as one
    dropbear = struct.pack(">I", len(_KIND)) + _KIND + struct.pack(">I", len(raw + half)) + raw + half
    return KeyPair(openssh.decode(), dropbear, f"{public.decode()} {comment}\n")


def hardware_address(number: int) -> str:
    """The address of a machine's network card on the wire."""
    return f"52:54:00:77:{number >> 8:02x}:{number & 255:02x}"


def archive_name(number: int) -> str:
    """What iPXE asks for: ${net0/mac:hexhyp}.cpio."""
    return f"{hardware_address(number).replace(':', '-')}.cpio"


@dataclass(frozen=True)
class Keys:
    """All keys of a lab.

    Attributes:
        user: of the person who runs it; opens both machines and both agents.
        hosts: what each machine's SSH server shows, by node number.
        agents: what each agent shows to who connects.
        clients: what each agent shows to its peers.
        roots: what root on each machine shows to the other machine.
    """

    user: KeyPair
    hosts: Mapping[int, KeyPair]
    agents: Mapping[int, KeyPair]
    clients: Mapping[int, KeyPair]
    roots: Mapping[int, KeyPair]


def new_keys(numbers: Sequence[int] = NUMBERS) -> Keys:
    """Fresh keys for a lab."""
    def each(what: str) -> dict[int, KeyPair]:
        return {number: new_key(f"{what}@{node_name(number)}") for number in numbers}

    return Keys(new_key("omlab"), each("host"), each("agent-host"), each("agent"), each("root"))


def node_entries(number: int, keys: Keys, *, bare: bool = False, root: str = MEMORY) -> list[Entry]:
    """The files that make a machine node `number`.

    Args:
        number: of the node.
        keys: of the lab.
        bare: its services for diskless machines are left for somebody to set up.
        root: where those have their root file system, if it is left to these services.
    """
    name, others = node_name(number), sorted(keys.hosts)
    role = "server" if number == SERVER else "diskless"
    about = f"NAME={name}\nNUMBER={number}\nADDRESS={lab_address(number)}\nROLE={role}\n"
    about += f"BARE={'yes' if bare else 'no'}\nROOT={root}\n"
    hosts = "127.0.0.1 localhost\n::1 localhost\n"
    hosts += "".join(f"{lab_address(one)} {node_name(one)}\n" for one in others)
    allowed = keys.user.public + "".join(keys.roots[one].public for one in others)
    # one name to a line: dropbear's client knows no lists of names
    names = [(who, keys.hosts[one].bare) for one in others for who in (node_name(one), lab_address(one))]
    known = "".join(f"{who} {key}\n" for who, key in names)
    found = [
        cpio.file("etc/omlab/node", about),
        cpio.file("etc/hostname", f"{name}\n"),
        cpio.file("etc/hosts", hosts),
        cpio.file("etc/dropbear/host", keys.hosts[number].dropbear, 0o600),
        cpio.directory("root", 0o700),
        cpio.directory("root/.ssh", 0o700),
        cpio.file("root/.ssh/authorized_keys", allowed, 0o600),
        cpio.file("root/.ssh/known_hosts", known, 0o600),
        cpio.file("root/.ssh/id_dropbear", keys.roots[number].dropbear, 0o600),
    ]
    return found + _agent_entries(number, keys)


def _agent_entries(number: int, keys: Keys) -> list[Entry]:
    others = sorted(keys.hosts)
    texts = {
        "openmosix.map": "".join(f"{one} {lab_address(one)} 1\n" for one in others),
        "names": "".join(f"{one} {node_name(one)}\n" for one in others),
        "openmosix.config": f"MYOMID={number}\nLISTEN={lab_address(number)}\nAGENTPORT={AGENT_PORT}\n",
        "known_hosts": "".join(_known_agent(one, keys.agents[one]) for one in others),
        "authorized_nodes": "".join(keys.clients[one].public for one in others),
        "authorized_keys": keys.user.public + "".join(keys.clients[one].public for one in others),
        "ssh_host_ed25519_key": keys.agents[number].private,
        "ssh_host_ed25519_key.pub": keys.agents[number].public,
        "id_ed25519": keys.clients[number].private,
        "id_ed25519.pub": keys.clients[number].public,
    }
    return [cpio.file(f"etc/openmosix/{name}", text, 0o600) for name, text in texts.items()]


def _known_agent(number: int, key: KeyPair) -> str:
    address, name = lab_address(number), node_name(number)
    return f"[{address}]:{AGENT_PORT},{address},{name},[{name}]:{AGENT_PORT} {key.bare}\n"


def server_archive(keys: Keys, *, bare: bool = False, root: str = MEMORY) -> bytes:
    """MCii's own archive, which holds those of the diskless machines."""
    return cpio.archive(server_entries(keys, bare=bare, root=root))


def server_entries(keys: Keys, *, bare: bool = False, root: str = MEMORY) -> list[Entry]:
    """The files that make a machine mCii, among them the archives of the diskless machines."""
    served = [cpio.file(f"var/lib/omlab/nodes/{archive_name(number)}",
                        cpio.archive(node_entries(number, keys)), 0o600)
              for number in keys.hosts if number != SERVER]  # fmt: skip
    return [*node_entries(SERVER, keys, bare=bare, root=root), *served]

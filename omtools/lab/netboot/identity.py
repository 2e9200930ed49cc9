"""The archive that makes a machine a node of this cluster: its name, and keys signed by the cluster's key.

It is made once, when the machine is approved, and fetched at each boot: so the node is the same one every
time, whatever address the router gives it. It finds the others by omdiscd.
"""

from __future__ import annotations

import os
from pathlib import Path

import asyncssh
import msgspec

from omtools.agent import cluster_key
from omtools.agent.config import DEFAULT_PORT, read_settings
from omtools.errors import NetbootRefused, NotInCluster
from omtools.i18n import _
from omtools.lab.metal import cpio
from omtools.lab.metal.identity import new_key
from omtools.lab.netboot.approvals import Machine


def check_cluster(config: Path) -> cluster_key.Membership:
    """This node's place in the cluster whose key it holds.

    Raises:
        NotInCluster: the key is not here.
        BadConfiguration: it cannot be read.
    """
    cluster_key.private_key(config)
    place = cluster_key.membership(config)
    if place is None:
        raise NotInCluster(why=_("this node belongs to no cluster yet"))
    return place


def archive(config: Path, machine: Machine) -> bytes:
    """The archive of a machine that is approved, with fresh keys.

    Args:
        config: the configuration directory of this node, with the cluster's key.
        machine: whose.

    Raises:
        NotInCluster: the key is not here.
        BadConfiguration: it cannot be read.
    """
    own = check_cluster(config)
    settings = read_settings(config / "openmosix.config")
    host, client = new_key(f"root@{machine.name}"), new_key(f"agent@{machine.name}")
    keys = [asyncssh.import_public_key(key.public) for key in (host, client)]
    place = cluster_key.Membership(own.cluster, machine.number, machine.name)
    signed = cluster_key.certify(cluster_key.private_key(config), place, *keys)
    port = settings.port or DEFAULT_PORT
    texts = {
        "openmosix.config": f"MYOMID={machine.number}\nAUTODISC=yes\nAGENTPORT={port}\n",
        "ssh_host_ed25519_key": host.private, "ssh_host_ed25519_key.pub": host.public,
        "id_ed25519": client.private, "id_ed25519.pub": client.public,
        cluster_key.HOST_CERTIFICATE: signed.host, cluster_key.CLIENT_CERTIFICATE: signed.client,
        cluster_key.PUBLIC: signed.cluster_key,
        cluster_key.MEMBERSHIP: msgspec.json.encode(signed.membership).decode() + "\n",
    }  # fmt: skip
    hosts = f"127.0.0.1 localhost {machine.name}\n::1 localhost\n"
    about = f"NAME={machine.name}\nNUMBER={machine.number}\nROLE=diskless\nBARE=no\n"
    return cpio.archive([
        cpio.file("etc/omlab/node", about),
        cpio.file("etc/hostname", f"{machine.name}\n"),
        cpio.file("etc/hosts", hosts),
        *(cpio.file(f"etc/openmosix/{name}", text, 0o600) for name, text in texts.items()),
    ])  # fmt: skip


def keep(directory: Path, config: Path, machine: Machine) -> Path:
    """Make the machine's archive, unless it is there for this number and name; return its path.

    Raises:
        NetbootRefused: it cannot be written.
        NotInCluster: the cluster's key is not here.
    """
    place = directory / "nodes"
    path = place / f"{machine.mac.replace(':', '-')}.{machine.number}.{machine.name}.cpio"
    if path.exists():
        return path
    data = archive(config, machine)
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        drop(directory, machine.mac)
        new = path.with_name(f".{path.name}.new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        new.rename(path)
    except OSError as error:
        raise NetbootRefused(why=f"{error.filename}: {error.strerror}") from None
    return path


def drop(directory: Path, mac: str) -> None:
    """Forget the keys of a machine."""
    for path in (directory / "nodes").glob(f"{mac.replace(':', '-')}.*.cpio"):
        path.unlink(missing_ok=True)

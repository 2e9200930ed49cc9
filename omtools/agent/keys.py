"""SSH keys: the agent's own, and whose it accepts.

In the configuration directory:

    ssh_host_ed25519_key (.pub)   what the agent shows to who connects
    id_ed25519 (.pub)             what it shows to its peers
    known_hosts                   the peers' host keys; nothing else is believed, ever
    authorized_nodes              the peers' client keys (syntax of authorized_keys)
    authorized_keys               people's keys; users/NAME under a root agent

With a cluster key (`omtools.agent.cluster_key`) its certificates count beside these lists.

Files of keys are read anew at every connection: adding a node or a person needs no restart.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from omtools.agent import cluster_key, log
from omtools.agent.api import NODE_USER
from omtools.errors import BadConfiguration
from omtools.i18n import _

HOST_KEY = "ssh_host_ed25519_key"
CLIENT_KEY = "id_ed25519"
KNOWN_HOSTS = "known_hosts"
AUTHORIZED_NODES = "authorized_nodes"
AUTHORIZED_KEYS = "authorized_keys"


@dataclass(frozen=True, slots=True)
class Keys:
    """The agent's own two keys, and the certificates of them where it has some.

    Attributes:
        number: of this node by its certificate, 0 without.
    """

    host: asyncssh.SSHKey
    client: asyncssh.SSHKey
    host_certificate: asyncssh.SSHCertificate | None = None
    client_certificate: asyncssh.SSHCertificate | None = None
    number: int = 0

    @property
    def user(self) -> str:
        """The SSH user name under which this agent meets others."""
        return cluster_key.principal(self.number) if self.number else NODE_USER


def ensure_keys(directory: Path, name: str) -> Keys:
    """Read the agent's keys, making those that are missing.

    Args:
        directory: the configuration directory, made if it is not there.
        name: the node's, for the comment of a new key.

    Raises:
        BadConfiguration: a key cannot be read or written, or others may read it.
    """
    try:
        directory.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadConfiguration(path=str(directory), why=error.strerror or str(error)) from None
    host, client = cluster_key.certificates(directory)
    place = cluster_key.membership(directory)
    return Keys(
        _ensure(directory / HOST_KEY, f"openMosix host {name}"),
        _ensure(directory / CLIENT_KEY, f"openMosix agent {name}"),
        host,
        client,
        place.number if place is not None and client is not None else 0,
    )


def _ensure(path: Path, comment: str) -> asyncssh.SSHKey:
    try:
        if not path.exists():
            _generate(path, comment)
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise BadConfiguration(path=str(path), why=_("others may read this private key; chmod 600 it"))
        return asyncssh.read_private_key(path)
    except OSError as error:
        raise BadConfiguration(path=str(path), why=error.strerror or str(error)) from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise BadConfiguration(path=str(path), why=str(error)) from None


def _generate(path: Path, comment: str) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    # The public half first: whoever sees the private one finds both. O_EXCL: never over a key that is there.
    Path(f"{path}.pub").write_bytes(key.export_public_key())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.export_private_key())


def authorized(directory: Path, username: str) -> tuple[asyncssh.SSHAuthorizedKeys | None, str]:
    """The keys that may log in under that name, and why none may where none may.

    Args:
        directory: the configuration directory.
        username: as the client gave it: an agent, or a person.
    """
    if username == NODE_USER:
        return _read_authorized(directory / AUTHORIZED_NODES, None)
    if number := cluster_key.number_of(username):
        return _certified_nodes(directory, number)
    try:
        person = pwd.getpwnam(username)
    except KeyError:
        return None, f"there is no user {username!r}"
    if os.geteuid() not in (0, person.pw_uid):
        return None, f"this agent serves {pwd.getpwuid(os.geteuid()).pw_name} only"
    listed, why = _listed(directory, person)
    authority = _authority(directory)
    if not authority:
        return listed, why
    listed = listed or asyncssh.import_authorized_keys("")
    listed.load(authority)
    return listed, ""


def node_number(username: str) -> int | None:
    """Which node it is that logs in under that name: 0 one with a pinned key; None: a person."""
    return 0 if username == NODE_USER else cluster_key.number_of(username) or None


def _certified_nodes(directory: Path, number: int) -> tuple[asyncssh.SSHAuthorizedKeys | None, str]:
    authority = _authority(directory)
    if not authority:
        return None, f"{directory / cluster_key.PUBLIC} does not exist"
    if number in cluster_key.retired(directory):
        return None, f"node {number} is retired"
    return asyncssh.import_authorized_keys(authority), ""


def _authority(directory: Path) -> str:
    """The cluster's key as a line of authorized_keys: whom it signed may log in under the name signed for."""
    try:
        key = cluster_key.public_key(directory)
    except BadConfiguration as error:
        log.warn("the cluster's key is not believed", why=error)
        return ""
    return f"cert-authority {key.export_public_key().decode()}" if key is not None else ""


def _listed(
    directory: Path, person: pwd.struct_passwd
) -> tuple[asyncssh.SSHAuthorizedKeys | None, str]:
    if person.pw_uid == os.geteuid():
        keys, why = _read_authorized(directory / AUTHORIZED_KEYS, None)
        if keys is not None or person.pw_uid != 0:
            return keys, why
    # NAME comes from the account database, not from the client, so it holds no slash.
    keys, _why = _read_authorized(directory / "users" / person.pw_name, None)
    if keys is not None:
        return keys, ""
    return _read_authorized(Path(person.pw_dir) / ".config/openmosix" / AUTHORIZED_KEYS, person)


def _read_authorized(
    path: Path, owner: pwd.struct_passwd | None
) -> tuple[asyncssh.SSHAuthorizedKeys | None, str]:
    if owner is not None and (why := _unsafe(path, owner)):
        return None, why
    try:
        text = path.read_text()
        if not text.strip():
            return None, f"{path} is empty"
        return asyncssh.import_authorized_keys(text), ""
    except FileNotFoundError:
        return None, f"{path} does not exist"
    except (OSError, ValueError) as error:
        return None, f"{path}: {error}"


def _unsafe(path: Path, owner: pwd.struct_passwd) -> str:
    """What sshd's StrictModes would say: only the owner or root may write the file and the way to it."""
    home = Path(owner.pw_dir)
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except OSError as error:
            return f"{place}: {error.strerror}"
        if found.st_uid not in (0, owner.pw_uid) or found.st_mode & 0o022:
            return f"{place} is not {owner.pw_name}'s alone to write"
        if place == home:
            break
    return ""

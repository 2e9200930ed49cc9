"""The cluster's key: it signs the keys of nodes and people, so that nobody needs a list of them.

In the configuration directory, beside the agent's own keys:

    cluster_key                    the private half, on the node (or few) where newcomers are accepted
    cluster_key.pub                the public half, on every node of the cluster
    ssh_host_ed25519_key-cert.pub  this node's certificates (OpenSSH's format: PROTOCOL.certkeys)
    id_ed25519-cert.pub
    cluster.json                   number and name of this node, name of the cluster
    retired                        numbers of nodes that are believed no more, one on each line

A certificate names its node by number (principal ``openmosix-node-N``), never by address: a node that comes
back with another address is the same node. Pinned keys (`omtools.agent.keys`) go on to work beside it.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import asyncssh
import msgspec
from asyncssh.public_key import CERT_TYPE_HOST, CERT_TYPE_USER, SSHOpenSSHCertificate

from omtools.agent.api import NODE_USER
from omtools.errors import BadCertificate, BadConfiguration, NotInCluster
from omtools.i18n import _

DAYS = 90  # that a node's certificates are valid
DAY_S = 86400
PRIVATE = "cluster_key"
PUBLIC = "cluster_key.pub"
MEMBERSHIP = "cluster.json"
RETIRED = "retired"
HOST_CERTIFICATE = "ssh_host_ed25519_key-cert.pub"
CLIENT_CERTIFICATE = "id_ed25519-cert.pub"
_PRINCIPAL = re.compile(rf"{re.escape(NODE_USER)}-([1-9][0-9]{{0,4}})")


class Membership(msgspec.Struct, frozen=True):
    """What a node knows of its place in the cluster; the certificates prove it.

    Attributes:
        cluster: what people call it.
        number: of this node.
        name: of this node.
    """

    cluster: str
    number: int
    name: str


class Certified(msgspec.Struct, frozen=True):
    """What a newcomer gets: all of it may be read by anybody."""

    cluster_key: str
    host: str
    client: str
    membership: Membership


def principal(number: int) -> str:
    """The name under which a node is known to SSH."""
    return f"{NODE_USER}-{number}"


def number_of(word: str) -> int:
    """The node that such a name means, 0 if none."""
    found = _PRINCIPAL.fullmatch(word)
    return int(found[1]) if found and int(found[1]) <= 65535 else 0


def fingerprint(key: asyncssh.SSHKey) -> str:
    """As ssh-keygen -l shows it, without "SHA256:"."""
    return key.get_fingerprint().removeprefix("SHA256:")


# ---------------------------------------------------------------------------------------- reading


def public_key(directory: Path) -> asyncssh.SSHKey | None:
    """The cluster's public key, None where there is none.

    Raises:
        BadConfiguration: the file is no key.
    """
    text = _read(directory / PUBLIC)
    if text is None:
        return None
    try:
        return asyncssh.import_public_key(text)
    except asyncssh.KeyImportError as error:
        raise BadConfiguration(path=str(directory / PUBLIC), why=str(error)) from None


def private_key(directory: Path) -> asyncssh.SSHKey:
    """The cluster's private key.

    Raises:
        NotInCluster: it is not on this node.
        BadConfiguration: it cannot be read.
    """
    path = directory / PRIVATE
    try:
        if path.stat().st_mode & 0o077:
            raise BadConfiguration(path=str(path), why=_("others may read this private key; chmod 600 it"))
        return asyncssh.read_private_key(path)
    except FileNotFoundError:
        raise NotInCluster(why=_("the cluster's private key is not on this node")) from None
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise BadConfiguration(path=str(path), why=str(error)) from None


def membership(directory: Path) -> Membership | None:
    """This node's place in the cluster, None where it belongs to none.

    Raises:
        BadConfiguration: the file cannot be read.
    """
    text = _read(directory / MEMBERSHIP)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Membership)
    except msgspec.MsgspecError as error:
        raise BadConfiguration(path=str(directory / MEMBERSHIP), why=str(error)) from None


def certificates(directory: Path) -> tuple[asyncssh.SSHCertificate | None, asyncssh.SSHCertificate | None]:
    """The agent's own two certificates, of its host key and of its client key.

    Raises:
        BadConfiguration: a file is no certificate.
    """
    return _certificate(directory / HOST_CERTIFICATE), _certificate(directory / CLIENT_CERTIFICATE)


def _certificate(path: Path) -> asyncssh.SSHCertificate | None:
    text = _read(path)
    if text is None:
        return None
    try:
        return asyncssh.import_certificate(text)
    except asyncssh.KeyImportError as error:
        raise BadConfiguration(path=str(path), why=str(error)) from None


def retired(directory: Path) -> frozenset[int]:
    """Numbers of nodes that are believed no more."""
    words = (_read(directory / RETIRED) or "").split()
    return frozenset(int(word) for word in words if word.isdecimal())


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(path=str(path), why=str(error)) from None


# ---------------------------------------------------------------------------------------- signing


def create(directory: Path, name: str) -> asyncssh.SSHKey:
    """Make a cluster key; it must not be there yet.

    Raises:
        BadConfiguration: this node has one, or belongs to a cluster.
    """
    for taken in (directory / PRIVATE, directory / PUBLIC):
        if taken.exists():
            raise BadConfiguration(path=str(taken), why=_("this node belongs to a cluster already"))
    key = asyncssh.generate_private_key("ssh-ed25519", comment=f"openMosix cluster {name}")
    write(directory / PRIVATE, key.export_private_key().decode(), 0o600)
    return key


def certify(
    key: asyncssh.SSHKey, place: Membership, host: asyncssh.SSHKey, client: asyncssh.SSHKey
) -> Certified:
    """Sign the two keys of a node, for `DAYS`.

    Args:
        key: the cluster's, private.
        place: what it is to be.
        host: public, what its agent shows.
        client: public, what its agent shows to peers.
    """
    told = f"openMosix node {place.number} {place.name}"
    who = [principal(place.number)]
    before = int(time.time()) + DAYS * DAY_S
    # Valid from the beginning of time: no clock that is behind refuses it.
    signed_host = key.generate_host_certificate(
        host, told, serial=place.number, principals=who, valid_after=0, valid_before=before
    )
    signed_client = key.generate_user_certificate(
        client, told, serial=place.number, principals=who, valid_after=0, valid_before=before
    )
    return Certified(
        key.export_public_key().decode(),
        signed_host.export_certificate().decode(),
        signed_client.export_certificate().decode(),
        place,
    )


def certify_person(key: asyncssh.SSHKey, name: str, theirs: asyncssh.SSHKey, days: int) -> str:
    """A certificate for a person: it lets them at the agents, under that name.

    Raises:
        BadCertificate: that is a name of nodes.
    """
    if name.startswith(NODE_USER):
        raise BadCertificate(why=_("{name} is a name of nodes").format(name=name))
    made = key.generate_user_certificate(
        theirs, f"openMosix person {name}", principals=[name], valid_before=f"{days}d"
    )
    return made.export_certificate().decode()


def install(
    directory: Path, given: Certified, host: asyncssh.SSHKey, client: asyncssh.SSHKey, cluster: str
) -> None:
    """Check what was signed for this node, and keep it.

    Args:
        directory: the configuration directory.
        given: as it came, from wherever.
        host: this node's host key.
        client: this node's client key.
        cluster: fingerprint of the key that somebody decided to trust.

    Raises:
        BadCertificate: it is not what was asked for.
    """
    try:
        authority = asyncssh.import_public_key(given.cluster_key)
        signed = [asyncssh.import_certificate(text) for text in (given.host, given.client)]
    except (asyncssh.KeyImportError, ValueError) as error:
        raise BadCertificate(why=str(error)) from None
    if fingerprint(authority) != cluster:
        raise BadCertificate(why=_("it is of another cluster"))
    who = principal(given.membership.number)
    wanted = ((host, CERT_TYPE_HOST), (client, CERT_TYPE_USER))
    for certificate, (own, kind) in zip(signed, wanted, strict=True):
        if not isinstance(certificate, SSHOpenSSHCertificate) or certificate.principals != [who]:
            raise BadCertificate(why=_("it is no certificate for node {n}").format(n=given.membership.number))
        if certificate.signing_key != authority or certificate.key != own.convert_to_public():
            raise BadCertificate(why=_("it is not of this node's keys, or not signed by the cluster's"))
        try:
            certificate.validate(kind, who)
        except ValueError as error:
            raise BadCertificate(why=str(error)) from None
    write(directory / HOST_CERTIFICATE, given.host, 0o644)
    write(directory / CLIENT_CERTIFICATE, given.client, 0o644)
    write(directory / MEMBERSHIP, msgspec.json.encode(given.membership).decode() + "\n", 0o644)
    write(directory / PUBLIC, given.cluster_key, 0o644)  # last: with it the rest counts


def write(path: Path, text: str, mode: int) -> None:
    """Replace a file as a whole.

    Raises:
        BadConfiguration: it cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
        os.replace(new, path)
    except OSError as error:
        raise BadConfiguration(path=str(path), why=error.strerror or str(error)) from None

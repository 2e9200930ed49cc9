"""Certificates of nodes expire, and are renewed in time without anybody's doing.

A node's two certificates are valid for `DAYS`. When half of that is over, its omdiscd asks the node with
the cluster's key for new ones, by the conversation by which it joined (`omtools.agent.joining`): what
travels is not secret, and the answer is of use only to the owner of the keys. That node signs again what it
has accepted once, unless the number was retired or the entry forgotten. So whoever loses a machine, and
retires or forgets it, is rid of it everywhere after `DAYS` at the latest.

Clocks: a certificate is valid from the beginning of time, so that no clock that is behind refuses it. A
node whose clock is ahead by more than what is left believes no other; links that stand go on, and when its
clock is right again everything is as before. What has expired can be renewed too: asking needs none.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncssh

from omtools.agent import cluster_key, log
from omtools.agent.cluster_key import DAY_S, DAYS
from omtools.agent.keys import Keys, ensure_keys
from omtools.errors import OmError

_FOR_EVER = (1 << 64) - 1  # PROTOCOL.certkeys: valid_before of one that does not expire


def valid_until(certificate: asyncssh.SSHCertificate) -> int:
    """When a node's certificate expires, in seconds since 1970; 0: never.

    Raises:
        ValueError: it is no certificate of an Ed25519 key (PROTOCOL.certkeys).
    """
    data, at = certificate.public_data, 0
    try:
        for _string in ("kind", "nonce", "key"):
            at += 4 + struct.unpack_from(">I", data, at)[0]
        at += 12  # serial, and whether of a user or a host
        for _string in ("identity", "principals"):
            at += 4 + struct.unpack_from(">I", data, at)[0]
        _after, before = struct.unpack_from(">QQ", data, at)
    except struct.error:
        raise ValueError(certificate.algorithm) from None
    return 0 if before == _FOR_EVER else int(before)


def day_of(moment: int) -> str:
    """That day, as people and programs read it; "" for never."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d") if moment else ""


def until(given: cluster_key.Certified) -> int:
    """When the first of a node's two certificates expires; 0: never, or it cannot be read."""
    try:
        found = [valid_until(asyncssh.import_certificate(text)) for text in (given.host, given.client)]
    except ValueError:  # KeyImportError is one
        return 0
    return min((one for one in found if one), default=0)


def is_due(moment: int, now: float) -> bool:
    """Whether what expires then should be renewed now: half of its time is over."""
    return bool(moment) and moment - now < DAYS * DAY_S / 2


def own_until(directory: Path) -> int:
    """When this node's certificates expire; 0: never, or it has none.

    Raises:
        BadConfiguration: they cannot be read.
    """
    found = [valid_until(one) for one in cluster_key.certificates(directory) if one is not None]
    return min((one for one in found if one), default=0)


class Renewed:
    """Sees that certificates have been renewed under a running agent."""

    def __init__(self, directory: Path, name: str, apply: Callable[[Keys], None]) -> None:
        """`apply` gets this node's keys with new certificates."""
        self._directory = directory
        self._name = name
        self._apply = apply
        self._seen = self._stamps()
        self._again = 0.0

    def look(self) -> None:
        """Once a second will do; the files are looked at less often."""
        now = time.monotonic()
        if now < self._again:
            return
        self._again = now + 10.0
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps
            try:
                self._apply(ensure_keys(self._directory, self._name))
            except OmError as error:  # half written: the other half is another change
                log.warn("this node's certificates cannot be used", why=error)
            else:
                log.info("this node's certificates were renewed", until=day_of(own_until(self._directory)))

    def _stamps(self) -> list[tuple[int, int]]:
        found = []
        for name in (cluster_key.HOST_CERTIFICATE, cluster_key.CLIENT_CERTIFICATE):
            try:
                status = (self._directory / name).stat()
                found.append((status.st_mtime_ns, status.st_ino))
            except OSError:
                found.append((0, 0))
        return found


def renew_own(directory: Path, own: Keys, now: float) -> bool:
    """Sign this node's own keys again, if it has the cluster's key and it is time; returns whether it did.

    Raises:
        OmError: the keys cannot be read or written.
    """
    place = cluster_key.membership(directory)
    if place is None or not is_due(own_until(directory), now):
        return False
    key = cluster_key.private_key(directory)
    given = cluster_key.certify(key, place, own.host, own.client)
    cluster_key.install(directory, given, own.host, own.client, cluster_key.fingerprint(key))
    return True


def replace_own(directory: Path, own: Keys, given: cluster_key.Certified) -> bool:
    """Take what the node with the cluster's key sent; returns whether it is newer than what there is.

    Raises:
        BadCertificate: it is not of this cluster, not for this node, or not of its keys.
        OmError: it cannot be written.
    """
    place, authority = cluster_key.membership(directory), cluster_key.public_key(directory)
    if place is None or authority is None or given.membership.number != place.number:
        return False
    if until(given) <= own_until(directory):
        return False
    cluster_key.install(directory, given, own.host, own.client, cluster_key.fingerprint(authority))
    return True


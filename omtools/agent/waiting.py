"""Who asks to join the cluster, and what became of it: a list in the configuration directory.

A newcomer sends its two public keys to a node that has the cluster's private key. There it waits until
somebody says yes or no (`omkey accept`, `omkey refuse`). Nothing that travels is secret: the certificates
are of use to nobody but the owner of the keys, and the newcomer takes only what is signed by the key whose
cluster it chose. What must not happen is that somebody between the two swaps keys; against that both sides
show the same *code*, 120 bits that stand for all three keys at once: whoever compares it has checked both
directions with one look.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import asyncssh
import msgspec

from omtools.agent import cluster_key, log, renewal
from omtools.agent.cluster_key import Certified, Membership
from omtools.cluster.map import MAX_NUMBER
from omtools.errors import BadCertificate, NotWaiting
from omtools.i18n import _

MOST = 64  # that may wait; who comes later is told so
_MOST_FROM_ONE = 8  # of these, from one address
DIRECTORY = "joining"

Key = Annotated[str, msgspec.Meta(max_length=1024)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")]


class Asked(msgspec.Struct, tag="join", frozen=True):
    """What a newcomer sends.

    Attributes:
        cluster: fingerprint of the key of the cluster that it wants to join.
        name: its host name.
        number: the number it would like, 0: any.
        host: its agent's host key, public, as in known_hosts.
        client: its agent's client key, public.
    """

    cluster: Annotated[str, msgspec.Meta(max_length=64)]
    name: Name
    number: Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
    host: Key
    client: Key


class Told(msgspec.Struct, tag="told", frozen=True):
    """What it hears.

    Attributes:
        state: "full": there are too many who wait; "not_here": this is another cluster.
        given: once it is accepted.
    """

    state: Literal["waiting", "accepted", "refused", "full", "not_here"]
    given: Certified | None = None


class Waiting(msgspec.Struct, frozen=True):
    """One entry of the list.

    Attributes:
        asked: by the newcomer.
        code: to compare with what the newcomer shows.
        address: where it came from.
        since: seconds since 1970, for people.
        state: what was decided.
        given: what it got.
    """

    asked: Asked
    code: str
    address: str
    since: int
    state: Literal["waiting", "accepted", "refused"] = "waiting"
    given: Certified | None = None


def code_of(cluster: str, host: asyncssh.SSHKey, client: asyncssh.SSHKey) -> str:
    """What both sides show: 24 letters and digits for three keys together; `cluster` is a fingerprint."""
    digest = hashlib.sha256(b"openMosix join 1")
    for one in (cluster, cluster_key.fingerprint(host), cluster_key.fingerprint(client)):
        digest.update(base64.b64decode(one + "="))
    word = base64.b32encode(digest.digest()[:15]).decode().lower()
    return "-".join(word[at : at + 4] for at in range(0, 24, 4))


class WaitingList:
    """The list of one configuration directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / DIRECTORY

    def all(self) -> list[Waiting]:
        """Everybody who has asked, in the order in which they came."""
        found = []
        for path in sorted(self._path.glob("*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Waiting))
            except (OSError, msgspec.MsgspecError) as error:
                log.warn("who waits to join cannot be read", file=path, why=error)
        return sorted(found, key=lambda one: one.since)

    def ask(self, asked: Asked, address: str) -> Told:
        """A newcomer asks, for the first time or again."""
        authority = cluster_key.public_key(self._directory)
        if authority is None or cluster_key.fingerprint(authority) != asked.cluster:
            return Told("not_here")
        host, client = _key(asked.host), _key(asked.client)
        with self._alone():
            path = self._place(host, client)
            there = self.all()
            known = next((one for one in there if self._place_of(one) == path), None)
            if known is None:
                waiting = [one for one in there if one.state == "waiting"]
                near = [one for one in waiting if one.address == address]
                if len(waiting) >= MOST or len(near) >= _MOST_FROM_ONE:
                    return Told("full")
                code = code_of(asked.cluster, host, client)
                known = Waiting(asked, code, address, int(time.time()))
                self._write(path, known)
                log.info("a node asks to join", name=asked.name, address=address, code=code)
            if known.state == "accepted" and known.given is not None:
                known = self._renewed(path, known, known.given)
            return Told(known.state, known.given)

    def _renewed(self, path: Path, known: Waiting, given: Certified) -> Waiting:
        """The same, signed again if it is time for that: a node that was accepted once need not ask twice."""
        number = given.membership.number
        holds_key = (self._directory / cluster_key.PRIVATE).exists()
        if not holds_key or number in cluster_key.retired(self._directory):
            return known
        if not renewal.is_due(renewal.until(given), time.time()):
            return known
        key = cluster_key.private_key(self._directory)
        given = cluster_key.certify(key, given.membership, _key(known.asked.host), _key(known.asked.client))
        known = msgspec.structs.replace(known, given=given)
        self._write(path, known)
        day = renewal.day_of(renewal.until(given))
        log.info("a node's certificates are renewed", number=number, until=day)
        return known

    def accept(self, word: str, number: int = 0) -> Waiting:
        """Sign the keys of one who waits.

        Args:
            word: name, code or address.
            number: the node is to have; 0: the one that it asked for, or the next that is free.

        Raises:
            NotWaiting: nobody like that.
            NotInCluster: the cluster's private key is not here.
            BadCertificate: the number is another node's.
        """
        key = cluster_key.private_key(self._directory)
        with self._alone():
            found = self._find(word)
            taken = self._taken()
            if number in taken:
                raise BadCertificate(why=_("{n} is another node's number").format(n=number))
            chosen = number or _free(found.asked.number, taken)
            own = cluster_key.membership(self._directory)
            names = {one.given.membership.name for one in self.all() if one.given is not None}
            names |= {own.name} if own is not None else set()
            name = found.asked.name if found.asked.name not in names else f"node{chosen}"
            place = Membership(own.cluster if own is not None else "", chosen, name)
            given = cluster_key.certify(key, place, _key(found.asked.host), _key(found.asked.client))
            return self._decide(found, "accepted", given)

    def refuse(self, word: str) -> Waiting:
        """Say no to one who waits. Raises NotWaiting."""
        with self._alone():
            return self._decide(self._find(word), "refused", None)

    def forget(self, word: str) -> Waiting:
        """Take one off the list: it may ask again. Raises NotWaiting."""
        with self._alone():
            found = self._find(word, every=True)
            self._place_of(found).unlink(missing_ok=True)
            return found

    # -- inside

    def _find(self, word: str, every: bool = False) -> Waiting:
        found = [
            one
            for one in self.all()
            if (every or one.state != "accepted") and word in (one.asked.name, one.code, one.address)
        ]
        if len(found) != 1:
            raise NotWaiting(who=word if not found else _("{who} ({n} of them; give the code)").format(
                who=word, n=len(found)
            ))  # fmt: skip
        return found[0]

    def _taken(self) -> set[int]:
        own = cluster_key.membership(self._directory)
        accepted = {one.given.membership.number for one in self.all() if one.given is not None}
        return accepted | ({own.number} if own is not None else set()) | cluster_key.retired(self._directory)

    def _decide(
        self, one: Waiting, state: Literal["accepted", "refused"], given: Certified | None
    ) -> Waiting:
        decided = msgspec.structs.replace(one, state=state, given=given)
        self._write(self._place_of(one), decided)
        return decided

    def _place_of(self, one: Waiting) -> Path:
        return self._place(_key(one.asked.host), _key(one.asked.client))

    def _place(self, host: asyncssh.SSHKey, client: asyncssh.SSHKey) -> Path:
        both = hashlib.sha256(host.public_data + client.public_data).hexdigest()
        return self._path / f"{both[:32]}.json"

    def _write(self, path: Path, one: Waiting) -> None:
        cluster_key.write(path, msgspec.json.encode(one).decode(), 0o600)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _free(wanted: int, taken: set[int]) -> int:
    if wanted and wanted not in taken:
        return wanted
    for number in range(1, MAX_NUMBER + 1):
        if number not in taken:
            return number
    raise BadCertificate(why=_("there is no number left"))


def _key(text: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(text)
    except (asyncssh.KeyImportError, ValueError) as error:
        raise BadCertificate(why=str(error)) from None

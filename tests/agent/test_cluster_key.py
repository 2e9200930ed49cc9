"""Certificates: nodes that know each other by the cluster's key alone, and what that key does not open."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import msgspec
import pytest

from omtools.agent import api, cluster_key, keys
from omtools.agent.cluster_key import Certified, Membership
from omtools.agent.peers import Link, connect
from omtools.cluster.map import Node
from omtools.errors import (
    BadCertificate,
    BadConfiguration,
    HostKeyWrong,
    KeyNotAuthorised,
    NotInCluster,
    OmError,
)

from .support import Cluster


def authority() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519", comment="a cluster")


def join(cluster: Cluster, number: int, key: asyncssh.SSHKey, as_number: int = 0) -> None:
    """Give a node certificates in place of its lists of pinned keys."""
    directory = cluster.config(number)
    own = keys.ensure_keys(directory, "x")
    place = Membership("valladolid", as_number or number, cluster.names[number])
    given = cluster_key.certify(key, place, own.host.convert_to_public(), own.client.convert_to_public())
    cluster_key.install(directory, given, own.host, own.client, cluster_key.fingerprint(key))
    for name in ("known_hosts", "authorized_nodes"):
        (directory / name).unlink(missing_ok=True)


async def reach(cluster: Cluster, source: int, target: int, user: str = "") -> Link:
    own = keys.ensure_keys(cluster.config(source), "x")
    return await connect(
        Node(target, cluster.names[target], cluster.addresses[target]),
        cluster.port,
        user=user or own.user,
        client_keys=[own.client],
        client_certificate=own.client_certificate,
        known_hosts=cluster.config(source) / keys.KNOWN_HOSTS,
        patience=20,
    )


async def fails(cluster: Cluster, source: int, target: int, error: type[OmError], user: str = "") -> None:
    with pytest.raises(error):
        await reach(cluster, source, target, user)


async def test_nodes_of_one_key_know_each_other(short: Path) -> None:
    cluster, key = Cluster(short, 3), authority()
    for number in cluster.addresses:
        join(cluster, number, key)
    await cluster.start()
    async with cluster.asking(1) as asker:
        report = await asker.ask(api.NodeInfo("2"))
        assert report.error is None
        link = await reach(cluster, 2, 3)
        with pytest.raises(OmError, match="in the name of node 7"):
            await link.session.call(api.PrepareGuest("7-1-aa", 1, 0, "", 0, 7, "h", cluster.agents[1].guests.platform, 1, ""),
                                    api.GuestReady)  # fmt: skip
        await link.close()
    await cluster.end()


async def test_another_clusters_nodes_stay_outside(short: Path) -> None:
    cluster = Cluster(short, 2)
    ours, theirs = authority(), authority()
    join(cluster, 1, ours)
    join(cluster, 2, theirs)
    await cluster.start()
    await fails(cluster, 1, 2, HostKeyWrong)
    # Even a node that believed the other's host would not be let in.
    (cluster.config(1) / "cluster_key.pub").write_bytes(theirs.export_public_key())
    await fails(cluster, 1, 2, KeyNotAuthorised)
    await cluster.end()


async def test_a_certificate_is_for_one_number(short: Path) -> None:
    cluster, key = Cluster(short, 3), authority()
    join(cluster, 1, key)
    join(cluster, 2, key)
    join(cluster, 3, key, as_number=2)  # its address in the map is node 3's
    await cluster.start(1, 2)
    await fails(cluster, 1, 2, KeyNotAuthorised, user="openmosix-node-9")
    await fails(cluster, 1, 2, KeyNotAuthorised, user="openmosix-node")  # pinned keys only: there are none
    await fails(cluster, 1, 2, KeyNotAuthorised, user="root")
    await cluster.start(3)
    await fails(cluster, 1, 3, HostKeyWrong)
    await cluster.end()


async def test_who_is_retired_is_believed_no_more(short: Path) -> None:
    cluster, key = Cluster(short, 2), authority()
    join(cluster, 1, key)
    join(cluster, 2, key)
    await cluster.start()
    await (await reach(cluster, 2, 1)).close()
    (cluster.config(1) / "retired").write_text("2\n")
    await fails(cluster, 2, 1, KeyNotAuthorised)
    await fails(cluster, 1, 2, HostKeyWrong)
    await cluster.end()


async def test_a_person_with_a_certificate(short: Path) -> None:
    import getpass

    cluster, key = Cluster(short, 1), authority()
    join(cluster, 1, key)
    await cluster.start()
    person = asyncssh.generate_private_key("ssh-ed25519")
    signed = cluster_key.certify_person(key, getpass.getuser(), person.convert_to_public(), 1)
    node = Node(1, "mCii", cluster.addresses[1])
    known = cluster.config(1) / "known_hosts"

    async def log_in(certificate: str | None) -> Link:
        made = asyncssh.import_certificate(certificate) if certificate else None
        return await connect(node, cluster.port, user=getpass.getuser(), client_keys=[person],
                             client_certificate=made, known_hosts=known, patience=20)  # fmt: skip

    link = await log_in(signed)
    assert (await link.session.call(api.Whois(), api.NodeName)).number == 1
    await link.close()
    for wrong in (None, cluster_key.certify_person(key, "somebody-else", person.convert_to_public(), 1),
                  cluster_key.certify_person(authority(), getpass.getuser(), person.convert_to_public(), 1)):  # fmt: skip
        with pytest.raises(KeyNotAuthorised):
            await log_in(wrong)
    with pytest.raises(BadCertificate, match="name of nodes"):
        cluster_key.certify_person(key, "openmosix-node-3", person.convert_to_public(), 1)
    await cluster.end()


def test_only_what_was_asked_for_is_installed(short: Path) -> None:
    key, other = authority(), authority()
    own = keys.ensure_keys(short / "a", "a")
    stranger = keys.ensure_keys(short / "b", "b")
    place = Membership("c", 5, "a")
    good = cluster_key.certify(key, place, own.host, own.client)
    trusted = cluster_key.fingerprint(key)
    forged = cluster_key.certify(other, place, own.host, own.client)
    wrong: list[Certified] = [
        msgspec.structs.replace(good, cluster_key=other.export_public_key().decode()),
        msgspec.structs.replace(forged, cluster_key=good.cluster_key),
        msgspec.structs.replace(good, host=good.client, client=good.host),
        msgspec.structs.replace(good, membership=Membership("c", 6, "a")),
        msgspec.structs.replace(good, host="nonsense"),
        cluster_key.certify(key, place, stranger.host, own.client),
        cluster_key.certify(key, place, own.host, stranger.client),
        forged,
    ]
    for given in wrong:
        with pytest.raises(BadCertificate):
            cluster_key.install(short / "a", given, own.host, own.client, trusted)
        assert cluster_key.public_key(short / "a") is None
    cluster_key.install(short / "a", good, own.host, own.client, trusted)
    assert cluster_key.membership(short / "a") == place
    assert keys.ensure_keys(short / "a", "a").user == "openmosix-node-5"


def test_the_key_is_made_once_and_kept_secret(short: Path) -> None:
    key = cluster_key.create(short, "c")
    assert cluster_key.private_key(short) == key
    with pytest.raises(BadConfiguration, match="already"):
        cluster_key.create(short, "c")
    (short / "cluster_key").chmod(0o644)
    with pytest.raises(BadConfiguration, match="others may read"):
        cluster_key.private_key(short)
    with pytest.raises(NotInCluster):
        cluster_key.private_key(short / "nowhere")

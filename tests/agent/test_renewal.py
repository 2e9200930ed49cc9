"""Certificates that expire: renewed in time, by whom they should be, under running agents, whatever clocks say."""

from __future__ import annotations

import time
from pathlib import Path

import asyncssh
import pytest

from omtools.agent import api, cluster_key, keys, renewal
from omtools.agent.cluster_key import DAY_S, DAYS, Certified, Membership
from omtools.agent.config import Settings
from omtools.agent.discovering import Discovering
from omtools.agent.joining import JoinServer
from omtools.agent.waiting import Asked, WaitingList
from omtools.cluster.discovery import Announcement
from omtools.errors import BadCertificate, OmError

from .support import Cluster
from .test_cluster_key import authority, join, reach


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Have every clock here show so many days more."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + days * DAY_S)


def made(key: asyncssh.SSHKey, own: keys.Keys, number: int = 2) -> Certified:
    return cluster_key.certify(key, Membership("c", number, "metrakilate"), own.host, own.client)


class Pair:
    """The node with the cluster's key, and one that it has accepted."""

    def __init__(self, short: Path) -> None:
        self.first, self.second = short / "1", short / "2"
        own = keys.ensure_keys(self.first, "mCii")
        self.key = cluster_key.create(self.first, "c")
        signed = cluster_key.certify(self.key, Membership("c", 1, "mCii"), own.host, own.client)
        self.trusted = cluster_key.fingerprint(self.key)
        cluster_key.install(self.first, signed, own.host, own.client, self.trusted)
        self.own = keys.ensure_keys(self.second, "metrakilate")
        host, client = (key.export_public_key().decode() for key in (self.own.host, self.own.client))
        self.asked = Asked(self.trusted, "metrakilate", 2, host, client)
        self.list = WaitingList(self.first)
        self.list.ask(self.asked, "127.0.0.1")
        given = self.list.accept("metrakilate").given
        assert given is not None
        self.given = given
        cluster_key.install(self.second, given, self.own.host, self.own.client, self.trusted)

    def again(self) -> Certified:
        given = self.list.ask(self.asked, "127.0.0.1").given
        assert given is not None
        return given


def test_when_it_expires() -> None:
    key, now = authority(), int(time.time())
    for until in (now + 5, now + 10**9):
        certificate = key.generate_host_certificate(key, "x", principals=["a", "bc"], valid_after=0, valid_before=until)
        assert renewal.valid_until(certificate) == until
    assert renewal.valid_until(key.generate_user_certificate(key, "x" * 300, principals=["a"])) == 0
    assert (renewal.day_of(0), renewal.day_of(86400 * 365)) == ("", "1971-01-01")
    assert renewal.until(Certified("", "nonsense", "", Membership("c", 1, "a"))) == 0
    half = DAYS * DAY_S / 2
    assert not renewal.is_due(0, now)
    assert not renewal.is_due(now + int(half) + 5, now)
    assert renewal.is_due(now + int(half) - 5, now)
    assert renewal.is_due(now - 5, now)


def test_who_was_accepted_once_is_signed_again_in_time(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(short)
    assert pair.again() == pair.given  # it is new
    later(monkeypatch, DAYS / 2 + 1)
    fresh = pair.again()
    assert renewal.until(fresh) - renewal.until(pair.given) >= (DAYS / 2 + 1) * DAY_S - 60
    assert fresh.membership == pair.given.membership
    assert pair.again() == fresh
    assert renewal.replace_own(pair.second, pair.own, fresh)
    assert renewal.own_until(pair.second) == renewal.until(fresh)
    assert not renewal.replace_own(pair.second, pair.own, fresh)
    assert not renewal.replace_own(pair.second, pair.own, pair.given)  # an old one, by whomever
    later(monkeypatch, 10 * DAYS)  # it was off for long: what has expired is renewed as well
    assert renewal.replace_own(pair.second, pair.own, pair.again())


def test_who_is_retired_or_forgotten_is_not(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(short)
    later(monkeypatch, DAYS + 1)
    (pair.first / "retired").write_text("2\n")
    assert pair.again() == pair.given
    (pair.first / "retired").unlink()
    pair.list.forget("metrakilate")
    assert pair.list.ask(pair.asked, "127.0.0.1").state == "waiting"


def test_only_the_own_cluster_renews(short: Path) -> None:
    pair, stranger = Pair(short), authority()
    (pair.second / cluster_key.HOST_CERTIFICATE).write_text(_expired(pair).host)
    with pytest.raises(BadCertificate):
        renewal.replace_own(pair.second, pair.own, made(stranger, pair.own))
    assert not renewal.replace_own(pair.second, pair.own, made(pair.key, pair.own, number=3))


def _expired(pair: Pair) -> Certified:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_key, "DAYS", -1)
        return made(pair.key, pair.own)


def test_a_clock_that_is_behind_refuses_nobody(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, -5000)
    pair = Pair(short)
    assert not renewal.renew_own(pair.first, keys.ensure_keys(pair.first, "x"), time.time())
    later(monkeypatch, 5000 + DAYS)
    assert renewal.renew_own(pair.first, keys.ensure_keys(pair.first, "x"), time.time())


async def test_omdiscd_sees_to_it(short: Path) -> None:
    pair = Pair(short)
    server = JoinServer(pair.list)
    await server.open(["127.0.0.1"])
    one, two = (
        Discovering(directory, short / "run", Settings(), ["lo"]) for directory in (pair.first, pair.second)
    )
    two.roll.heard("nobody", Announcement(pair.trusted, "c", 5, "gone", 4660, 1, ("127.0.0.1",)))
    two.roll.heard("first", Announcement(pair.trusted, "c", 1, "mCii", 4660, server.port, ("127.0.0.1",)))
    before = [renewal.own_until(directory) for directory in (pair.first, pair.second)]
    for days, renewed in ((1, False), (DAYS / 2 + 1, True)):
        with pytest.MonkeyPatch.context() as patch:
            later(patch, days)
            await one._renew()
            await two._renew()
            after = [renewal.own_until(directory) for directory in (pair.first, pair.second)]
        assert [new > old for new, old in zip(after, before, strict=True)] == [renewed] * 2
    (pair.second / cluster_key.HOST_CERTIFICATE).write_text("nonsense")
    await two._renew()  # is told in the log
    await server.close()


async def test_agents_take_what_was_renewed_without_a_restart(short: Path) -> None:
    cluster, key = Cluster(short, 2), authority()
    for number in cluster.addresses:
        join(cluster, number, key)
    await cluster.start()
    link = await reach(cluster, 1, 2)
    with pytest.MonkeyPatch.context() as patch:  # node 2's have expired now; it does not know that yet
        patch.setattr(cluster_key, "DAYS", -1)
        with pytest.raises(BadCertificate):
            join(cluster, 2, key)
        own = keys.ensure_keys(cluster.config(2), "x")
        given = cluster_key.certify(key, Membership("valladolid", 2, "metrakilate"), own.host, own.client)
    cluster_key.write(cluster.config(2) / cluster_key.HOST_CERTIFICATE, given.host, 0o644)
    cluster_key.write(cluster.config(2) / cluster_key.CLIENT_CERTIFICATE, given.client, 0o644)
    look(cluster, 2)
    assert (await link.session.call(api.Whois(), api.NodeName)).number == 2  # what stands goes on
    for source, target in ((1, 2), (2, 1)):
        with pytest.raises(OmError):
            await reach(cluster, source, target)
    join(cluster, 2, key)
    look(cluster, 2)
    for source, target in ((1, 2), (2, 1)):
        await (await reach(cluster, source, target)).close()
    await link.close()
    await cluster.end()


def look(cluster: Cluster, number: int) -> None:
    """Have that agent look now whether it has other certificates."""
    renewed = cluster.agents[number]._renewed
    renewed._again = 0.0
    renewed.look()

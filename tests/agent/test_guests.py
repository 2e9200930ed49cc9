from __future__ import annotations

import asyncio
import os
import pwd

import pytest

from omtools.agent import api, guests
from omtools.agent.callers import Caller
from omtools.cluster.load import Memory
from omtools.errors import BadRequest, NodeFull, NotAllowed

from .support import Cluster

NODE = Caller("node", -1)
MB = 1 << 20


def wanted(cluster: Cluster, name: str = "1-4711-a", size: int = MB, home: int = 1) -> api.PrepareGuest:
    return api.PrepareGuest(
        name,
        4711,
        os.getuid(),
        pwd.getpwuid(os.getuid()).pw_name,
        os.getgid(),
        home,
        "mCii",
        cluster.agents[2].guests.platform,
        size,
        "a certificate",
    )


async def test_memory_is_promised_once(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    host = pair.agents[2]
    monkeypatch.setattr(host.gauge, "memory", lambda: Memory(1000 * MB, 100 * MB, 100 * MB))
    await host.guests.prepare(wanted(pair, "1-4711-a", 60 * MB), NODE, blocked=False)
    with pytest.raises(NodeFull) as caught:
        await host.guests.prepare(wanted(pair, "1-4711-b", 60 * MB), NODE, blocked=False)
    assert caught.value.fields == {"node": "metrakilate", "free_mb": 39, "needed_mb": 60}
    pair.engine.only("guest").say("failed")  # the deputy never came
    while host.keepers.all():
        await asyncio.sleep(0.001)
    await host.guests.prepare(wanted(pair, "1-4711-b", 60 * MB), NODE, blocked=False)


async def test_who_has_just_come_counts_until_the_load_shows_it(pair: Cluster) -> None:
    host = pair.agents[2]
    host.gauge.stop()
    assert host.guests._arriving() == 0
    await host.guests.prepare(wanted(pair), NODE, blocked=False)
    assert host.guests._arriving() == 1
    pair.engine.only("guest").say("away")
    while host.guests.expected:
        await asyncio.sleep(0.001)
    host.gauge.sampled = host.keepers.all()[0].away_since - 0.001
    assert host.guests._arriving() == 1
    host.gauge.sampled = host.keepers.all()[0].away_since
    assert host.guests._arriving() == 0


async def test_the_same_migration_twice(pair: Cluster) -> None:
    await pair.agents[2].guests.prepare(wanted(pair), NODE, blocked=False)
    with pytest.raises(BadRequest, match="under way"):
        await pair.agents[2].guests.prepare(wanted(pair), NODE, blocked=False)


async def test_not_from_itself(pair: Cluster) -> None:
    with pytest.raises(BadRequest, match="itself"):
        await pair.agents[2].guests.prepare(wanted(pair, home=2), NODE, blocked=False)


async def test_only_agents_ask(pair: Cluster) -> None:
    with pytest.raises(NotAllowed):
        await pair.agents[2].guests.prepare(wanted(pair), Caller("user", 0), blocked=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="what root's agent hosts")
def test_uids_are_the_same_everywhere() -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    assert guests.wrong_user(0, "root") == ""
    assert guests.wrong_user(nobody, "nobody") == ""
    assert guests.wrong_user(4_000_000, "") == ""
    assert guests.wrong_user(4_000_000, "unknown-here") == ""
    assert "nobody there" in guests.wrong_user(nobody, "ann")
    assert f"has the uid {nobody}" in guests.wrong_user(4_000_000, "nobody")


def test_a_users_agent_hosts_that_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    assert guests.wrong_user(1234, "ann") == ""
    assert "1234" in guests.wrong_user(0, "root")

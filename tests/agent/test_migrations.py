from __future__ import annotations

import asyncio
import os

import pytest

from omtools.agent import api, guests
from omtools.agent.callers import Caller
from omtools.errors import (
    AtHomeAlready,
    CannotMigrate,
    HostKeyUnknown,
    HostKeyWrong,
    KernelDiffers,
    KeyNotAuthorised,
    MigrationRunning,
    MigrationStalled,
    NodeDown,
    NodeFull,
    NodeRefuses,
    NoSuchProcess,
    NotAllowed,
    NotYourProcess,
    OmError,
    RestoreFailed,
    ThereAlready,
    UnknownNode,
)
from omtools.image.platform import Platform

from .support import Cluster, there

PID = 4711


async def empty(cluster: Cluster) -> bool:
    """Wait until no keeper is left."""
    async with asyncio.timeout(5):
        # The fakes end by themselves, and the agents hear of it.
        while cluster.engine.keepers or any(agent.keepers.all() for agent in cluster.agents.values()):
            await asyncio.sleep(0.005)
    return True


async def test_there_and_back(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        moved = await asker.ask(api.Migrate(PID, "metrakilate"))
        assert 0 < moved.total_ms < 10_000
        assert moved == api.Moved(PID, 1, 2, 10_000_000, 12.5, moved.total_ms, 800.0)
        (info,) = (await asker.ask(api.Processes())).processes
        assert (info.pid, info.where, info.role, info.phase) == (PID, 2, "deputy", "away")
        report = await asker.ask(api.NodeInfo("2"))
        assert (report.guests, report.away) == (1, 0)
        moved = await asker.ask(api.Migrate(PID, "home"))
        assert (moved.source, moved.target) == (2, 1)
        assert await empty(pair)
        assert (await asker.ask(api.Processes())).processes == []
    assert not list(pair.run(1).glob("keepers/*"))
    assert not list(pair.run(2).glob("keepers/*"))


@pytest.mark.parametrize("word", ["2", "metrakilate", "METRAKILATE", "address"])
async def test_any_name_of_the_node_will_do(pair: Cluster, word: str) -> None:
    async with pair.asking(1) as asker:
        moved = await asker.ask(api.Migrate(PID, pair.addresses[2] if word == "address" else word))
    assert moved.target == 2


async def test_a_guest_is_sent_home_by_its_host(pair: Cluster) -> None:
    async with pair.asking(1) as at_home, pair.asking(2) as there:
        await at_home.ask(api.Migrate(PID, "2"))
        (info,) = (await there.ask(api.Processes(all=True))).processes
        assert (info.role, info.pid, info.home, info.where) == ("guest", PID, 1, 2)
        moved = await there.ask(api.Migrate(info.local_pid, "home"))
        assert (moved.pid, moved.source, moved.target) == (info.local_pid, 2, 1)
        assert moved.frozen_ms == 12.5  # its home has the figures


async def test_a_guest_is_sent_home_although_its_homes_agent_is_down(pair: Cluster) -> None:
    async with pair.asking(1) as at_home:
        await at_home.ask(api.Migrate(PID, "2"))
    await pair.stop(1)
    async with pair.asking(2) as there:
        (info,) = (await there.ask(api.Processes())).processes
        moved = await there.ask(api.Migrate(info.local_pid, "home"))
        assert (moved.source, moved.target) == (2, 1)


async def test_on_to_a_third_node_and_back_again(three: Cluster) -> None:
    async with three.asking(1) as asker:
        await asker.ask(api.Migrate(PID, "2"))
        moved = await asker.ask(api.Migrate(PID, "3"))
        assert (moved.source, moved.target) == (2, 3)
        moved = await asker.ask(api.Migrate(PID, "2"))
        assert (moved.source, moved.target) == (3, 2)
        moved = await asker.ask(api.Migrate(PID, "mCii"))
        assert (moved.source, moved.target) == (2, 1)
    assert await empty(three)


async def test_a_host_sends_a_guest_on_through_its_home(three: Cluster) -> None:
    async with three.asking(1) as at_home, three.asking(2) as there:
        await at_home.ask(api.Migrate(PID, "2"))
        (info,) = (await there.ask(api.Processes())).processes
        moved = await there.ask(api.Migrate(info.local_pid, "ixchel"))
        assert (moved.pid, moved.source, moved.target) == (info.local_pid, 2, 3)
        (info,) = (await at_home.ask(api.Processes())).processes
        assert info.where == 3


async def test_where_it_is_already(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        for home in ("home", "1", "mCii"):
            with pytest.raises(AtHomeAlready):
                await asker.ask(api.Migrate(PID, home))
        await asker.ask(api.Migrate(PID, "2"))
        with pytest.raises(ThereAlready):
            await asker.ask(api.Migrate(PID, "2"))
    async with pair.asking(2) as asker:
        (info,) = (await asker.ask(api.Processes())).processes
        with pytest.raises(ThereAlready):
            await asker.ask(api.Migrate(info.local_pid, "2"))


async def test_what_cannot_move_is_at_home_too(pair: Cluster) -> None:
    pair.engine.tied.add(PID)
    async with pair.asking(1) as asker:
        with pytest.raises(CannotMigrate):
            await asker.ask(api.Migrate(PID, "2"))
        with pytest.raises(AtHomeAlready):
            await asker.ask(api.Migrate(PID, "home"))


async def test_unknown_node_and_process(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        with pytest.raises(UnknownNode, match="node 9 "):
            await asker.ask(api.Migrate(PID, "9"))
        with pytest.raises(NoSuchProcess):
            await asker.ask(api.Migrate(4712, "2"))


async def test_nobody_moves_the_agent(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        with pytest.raises(CannotMigrate, match="openMosix itself"):
            await asker.ask(api.Migrate(os.getpid(), "2"))


async def test_one_move_at_a_time(pair: Cluster) -> None:
    pair.engine.stuck = True
    async with pair.asking(1) as first, pair.asking(1) as second, pair.asking(1) as events:
        await events.ask(api.Subscribe())
        waiting = asyncio.create_task(first.ask(api.Migrate(PID, "2")))
        await events.event(lambda event: event.process.role == "deputy")
        with pytest.raises(MigrationRunning):
            await second.ask(api.Migrate(PID, "2"))
        pair.engine.only("deputy").say("failed", error=NoSuchProcess(pid=PID).to_wire())
        with pytest.raises(NoSuchProcess):
            await waiting


async def test_who_asked_goes_away_the_move_goes_on(pair: Cluster) -> None:
    pair.engine.stuck = True
    async with pair.asking(1) as events:
        await events.ask(api.Subscribe())
        async with pair.asking(1) as impatient:
            waiting = asyncio.create_task(impatient.ask(api.Migrate(PID, "2")))
            await events.event(lambda event: event.process.role == "deputy")
            waiting.cancel()
        pair.engine.only("deputy").say("away", node=2)
        await events.event(lambda event: event.process.phase == "away" and event.process.role == "deputy")


async def test_a_blocked_node_refuses(pair: Cluster) -> None:
    async with pair.asking(2) as there, pair.asking(1) as asker:
        await there.ask(api.Switch("block", True))
        with pytest.raises(NodeRefuses, match="metrakilate"):
            await asker.ask(api.Migrate(PID, "2"))
        assert (await asker.ask(api.NodeInfo("2"))).status & 16
        await there.ask(api.Switch("block", False))
        await asker.ask(api.Migrate(PID, "2"))


async def test_a_full_node_refuses(pair: Cluster) -> None:
    pair.engine.resident = 1 << 50
    async with pair.asking(1) as asker:
        with pytest.raises(NodeFull) as caught:
            await asker.ask(api.Migrate(PID, "2"))
    assert caught.value.fields["needed_mb"] == 1 << 30


async def test_another_kernel_refuses(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = Platform("5.14.0", "aarch64", (), 4096)
    monkeypatch.setattr(pair.agents[2].guests, "_platform", theirs)
    async with pair.asking(1) as asker:
        with pytest.raises(KernelDiffers, match=r"5\.14\.0"):
            await asker.ask(api.Migrate(PID, "2"))


async def test_a_uid_that_is_somebody_elses_there(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guests, "wrong_user", lambda uid, user: f"uid {uid} is not {user}")
    async with pair.asking(1) as asker:
        with pytest.raises(NodeRefuses, match="uid"):
            await asker.ask(api.Migrate(PID, "2"))


async def test_a_node_that_is_down(pair: Cluster) -> None:
    await pair.stop(2)
    async with pair.asking(1) as asker:
        with pytest.raises(NodeDown, match=r"metrakilate does not answer at .*: Connection refused"):
            await asker.ask(api.Migrate(PID, "2"))
        report = await asker.ask(api.NodeInfo("2"))
        assert report.status == 1
        assert isinstance(OmError.from_wire(report.error), NodeDown)


async def test_a_node_that_comes_up_again(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        assert (await asker.ask(api.NodeInfo("2"))).status & 2
        await pair.stop(2)
        assert not (await asker.ask(api.NodeInfo("2"))).status & 2
        await pair.start(2)
        assert (await asker.ask(api.NodeInfo("2"))).status & 2
        await asker.ask(api.Migrate(PID, "2"))


async def test_a_silent_node(pair: Cluster) -> None:
    """Something listens there and says nothing."""
    await pair.stop(2)
    settings = pair.config(1) / "openmosix.config"
    settings.write_text(settings.read_text() + "CONNECTTIMEOUT=0.2\n")
    await pair.stop(1)
    await pair.start(1)
    writers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _r, w: writers.append(w), pair.addresses[2], pair.port)
    try:
        async with pair.asking(1) as asker:
            with pytest.raises(NodeDown, match="in time"):
                await asker.ask(api.Migrate(PID, "2"))
    finally:
        silent.close()
        for writer in writers:
            writer.close()


async def test_a_wrong_host_key(apart: Cluster) -> None:
    known = apart.config(1) / "known_hosts"
    lines = known.read_text().splitlines()
    known.write_text(f"{lines[0]}\n{lines[1].split()[0]} {' '.join(lines[0].split()[1:])}\n")
    await apart.start()
    async with apart.asking(1) as asker:
        with pytest.raises(HostKeyWrong, match="known_hosts"):
            await asker.ask(api.Migrate(PID, "2"))


@pytest.mark.parametrize("content", [None, "", "# nobody\n"])
async def test_an_unknown_host_is_not_trusted(apart: Cluster, content: str | None) -> None:
    known = apart.config(1) / "known_hosts"
    known.unlink() if content is None else known.write_text(content)
    await apart.start()
    async with apart.asking(1) as asker:
        with pytest.raises(HostKeyUnknown, match=r"`ssh-keyscan -p \d+ 127\.\S+` prints the line"):
            await asker.ask(api.Migrate(PID, "2"))


@pytest.mark.parametrize("content", [None, "", "not a key\n", "other"])
async def test_an_unauthorised_key(apart: Cluster, content: str | None) -> None:
    authorized = apart.config(2) / "authorized_nodes"
    if content is None:
        authorized.unlink()
    else:
        first = authorized.read_text().splitlines()[1]  # node 2's own
        authorized.write_text(first if content == "other" else content)
    await apart.start()
    async with apart.asking(1) as asker:
        with pytest.raises(KeyNotAuthorised, match="metrakilate"):
            await asker.ask(api.Migrate(PID, "2"))


async def test_a_key_authorised_meanwhile_needs_no_restart(apart: Cluster) -> None:
    authorized = apart.config(2) / "authorized_nodes"
    text = authorized.read_text()
    authorized.unlink()
    await apart.start()
    async with apart.asking(1) as asker:
        with pytest.raises(KeyNotAuthorised):
            await asker.ask(api.Migrate(PID, "2"))
        authorized.write_text(text)
        await asker.ask(api.Migrate(PID, "2"))


async def test_the_engine_refuses(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        pair.engine.refusal = RestoreFailed(node="metrakilate", why="no")
        with pytest.raises(RestoreFailed, match="no"):
            await asker.ask(api.Migrate(PID, "2"))
        pair.engine.refusal = None
        pair.engine.launch_error = CannotMigrate(pid=PID, reason="it does not want to")
        with pytest.raises(CannotMigrate, match="want"):
            await asker.ask(api.Migrate(PID, "2"))


async def test_a_hop_that_fails_leaves_it_where_it_was(three: Cluster) -> None:
    async with three.asking(1) as asker:
        await asker.ask(api.Migrate(PID, "2"))
        three.engine.refusal = RestoreFailed(node="ixchel", why="no")
        with pytest.raises(RestoreFailed):
            await asker.ask(api.Migrate(PID, "3"))
        (info,) = (await asker.ask(api.Processes())).processes
        assert (info.where, info.phase) == (2, "away")
        three.engine.refusal = None
        assert (await asker.ask(api.Migrate(PID, "3"))).target == 3


async def test_a_keeper_killed_on_the_way(pair: Cluster) -> None:
    pair.engine.stuck = True
    async with pair.asking(1) as asker, pair.asking(1) as events:
        await events.ask(api.Subscribe())
        waiting = asyncio.create_task(asker.ask(api.Migrate(PID, "2")))
        await events.event(lambda event: event.process.role == "deputy")
        keeper = pair.engine.only("deputy")
        await keeper.end(killed=True)
        with pytest.raises(OmError, match="keeper"):
            await waiting
        assert not there(keeper.order.control)
        assert (await asker.ask(api.Processes())).processes == []


# ------------------------------------------------------------------------------------ whose process


async def test_a_user_never_touches_anothers(pair: Cluster) -> None:
    """Asked of the agent itself: the test cannot be two users."""
    pair.engine.owners[5000] = 12345
    stranger, owner, root = Caller("user", 54321), Caller("user", 12345), Caller("user", 0)
    migrations = pair.agents[1].migrations
    with pytest.raises(NotYourProcess, match="12345"):
        await migrations.migrate(5000, "2", stranger)
    if os.geteuid() != 0:
        pytest.skip("only root's agent moves everybody's processes")
    assert (await migrations.migrate(5000, "2", owner)).target == 2
    for to in ("home", "2"):
        with pytest.raises(NotYourProcess):
            await migrations.migrate(5000, to, stranger)
    for to in ("home", "1"):
        with pytest.raises(NotYourProcess):
            await pair.agents[2].migrations.migrate(105000, to, stranger)
    assert (await migrations.migrate(5000, "home", root)).target == 1


def test_a_user_cannot_act_for_another() -> None:
    """The uid in a call is believed of agents only."""
    caller = Caller("user", 54321)
    assert caller.acting_for(0) == caller
    assert Caller("node", -1).acting_for(7).uid == 7
    assert Caller("user", 0).acting_for(7) == Caller("user", 7), "root gives rights away"
    assert Caller("user", 0).acting_for(None).uid == 0


async def test_only_agents_prepare_guests(pair: Cluster) -> None:
    request = api.PrepareGuest("1-1-a", 1, 0, "", 0, 1, "h", pair.agents[1].guests.platform, 0, "")
    async with pair.asking(2) as asker:
        with pytest.raises(OmError, match="only agents"):
            await asker.ask(request)


async def test_peers_act_for_somebody_and_not_for_themselves(pair: Cluster) -> None:
    here, there = pair.agents[2], pair.agents[2].configuration.map.number(1)
    for uid in (None, 54321):
        with pytest.raises(NotYourProcess):
            await here.peers.call(there, api.Migrate(PID, "2"), api.Moved, uid=uid)
        with pytest.raises(NotAllowed):
            await here.peers.call(there, api.Switch("block", True), api.Done, uid=uid)
    moved = await here.peers.call(there, api.Migrate(PID, "2"), api.Moved, uid=os.getuid())
    assert moved.target == 2


async def test_a_keeper_that_says_nothing(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omtools.agent.following._STAGE_PATIENCE", 0.05)
    pair.engine.stuck = True
    async with pair.asking(1) as asker:
        with pytest.raises(MigrationStalled, match="linking"):
            await asker.ask(api.Migrate(PID, "2"))
        with pytest.raises(MigrationRunning):  # its keeper may still get on with it
            await asker.ask(api.Migrate(PID, "2"))


async def test_the_agent_is_killed_while_a_process_moves(pair: Cluster) -> None:
    """Another one finds the keeper where it is, and it arrives."""
    pair.engine.stuck = True
    async with pair.asking(1) as asker, pair.asking(1) as events:
        await events.ask(api.Subscribe())
        waiting = asyncio.create_task(asker.ask(api.Migrate(PID, "2")))
        await events.event(lambda event: event.process.role == "deputy")
        await pair.stop(1)
        with pytest.raises(EOFError):
            await waiting
    await pair.start(1)
    async with pair.asking(1) as asker, pair.asking(1) as events:
        await events.ask(api.Subscribe())
        pair.engine.only("deputy").say("away", node=2)
        await events.event(lambda event: event.process.phase == "away")
        assert (await asker.ask(api.Migrate(PID, "home"))).source == 2


async def test_there_and_back_many_times(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        for _time in range(50):
            await asker.ask(api.Migrate(PID, "2"))
            await asker.ask(api.Migrate(PID, "home"))
    assert await empty(pair)
    assert len(pair.agents[1].peers._links) == 1
    assert not pair.agents[2].guests._expected
    assert not pair.agents[1].migrations._gids

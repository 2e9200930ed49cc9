from __future__ import annotations

import asyncio
import os
import pwd
import socket
import stat
import time
from pathlib import Path

import asyncssh
import pytest

from omtools.agent import api
from omtools.agent.client import Client
from omtools.agent.peers import Link, connect
from omtools.errors import (
    AgentVersion,
    BadConfiguration,
    KeyNotAuthorised,
    NodeDown,
    NotAllowed,
    NotYourProcess,
    OmError,
)

from .support import Asker, Cluster

ME = pwd.getpwuid(os.getuid()).pw_name


async def test_a_hundred_clients_at_once(pair: Cluster) -> None:
    async def one(number: int) -> int:
        async with pair.asking(1) as asker:
            report = await asker.ask(api.NodeInfo(str(1 + number % 2)))
            assert isinstance(report.number, int)
            return report.number

    assert sorted(await asyncio.gather(*(one(number) for number in range(100)))) == [1] * 50 + [2] * 50
    assert len(pair.agents[1].peers._links) == 1  # they shared one connection


async def test_the_socket_is_for_its_owner_or_checked(pair: Cluster) -> None:
    mode = stat.S_IMODE((pair.run(1) / "agent.sock").stat().st_mode)
    assert mode == (0o666 if os.geteuid() == 0 else 0o600)
    assert stat.S_IMODE((pair.run(1) / "keepers").stat().st_mode) == 0o700


async def test_another_version_over_the_socket(pair: Cluster) -> None:
    reader, writer = await asyncio.open_unix_connection(pair.run(1) / "agent.sock")
    asker = Asker(reader, writer)
    await asker.greet(version=2)
    failure = await asker.receive()
    assert isinstance(failure, api.Failure)
    assert isinstance(OmError.from_wire(failure.error), AgentVersion)
    with pytest.raises(EOFError):
        await asker.receive()
    writer.close()


async def test_whois_and_nodes(pair: Cluster) -> None:
    async with pair.asking(2) as asker:
        assert (await asker.ask(api.Whois())).name == "metrakilate"
        assert (await asker.ask(api.Whois(pair.addresses[1]))).number == 1
        nodes = await asker.ask(api.Nodes())
        assert nodes.own == 2
        assert [node.name for node in nodes.nodes] == ["mCii", "metrakilate"]


async def test_switches_are_told_to_subscribers(pair: Cluster) -> None:
    async with pair.asking(1) as asker, pair.asking(1) as events:
        await events.ask(api.Subscribe())
        await asker.ask(api.Switch("block", True))
        assert await events.event(lambda _event: True) == api.SwitchChanged(1, 1 | 2 | 16)


# ----------------------------------------------------------------------------------------------- SSH


async def test_people_log_in_with_their_name(pair: Cluster) -> None:
    key = _new_person(pair, 2)
    link = await _connect(pair, 2, ME, key)
    try:
        assert (await link.session.call(api.Whois(), api.NodeName)).number == 2
        await link.session.call(api.Switch("block", True), api.Done)
        report = await link.session.call(api.NodeInfo(), api.NodeReport)
        assert report.status & 16
        with pytest.raises(NotAllowed):
            await link.session.call(_prepare(pair), api.GuestReady)
    finally:
        await link.close()


async def test_a_persons_key_is_no_agents_key(pair: Cluster) -> None:
    key = _new_person(pair, 2)
    with pytest.raises(KeyNotAuthorised):
        await _connect(pair, 2, api.NODE_USER, key)
    with pytest.raises(KeyNotAuthorised):
        await _connect(pair, 2, ME, pair.agents[1].keys.client)


@pytest.mark.parametrize("name", ["daemon", "no-such-user", "../../root", "", "x" * 1000])
async def test_strangers(pair: Cluster, name: str) -> None:
    key = _new_person(pair, 2)
    with pytest.raises((KeyNotAuthorised, NodeDown)):
        await _connect(pair, 2, name, key)


async def test_no_shell_no_command_no_forwarding(pair: Cluster) -> None:
    link = await _connect(pair, 2, ME, _new_person(pair, 2))
    connection = link.connection
    try:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process()
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process("id")
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process(subsystem="netconf")
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", 22)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_unix_connection(str(pair.run(2) / "agent.sock"))
        with pytest.raises((asyncssh.ChannelListenError, OSError)):
            await connection.forward_remote_port("", 0, "127.0.0.1", 1)
    finally:
        await link.close()


async def test_passwords_are_no_way_in(pair: Cluster) -> None:
    with pytest.raises(asyncssh.PermissionDenied):
        await asyncssh.connect(
            pair.addresses[2],
            pair.port,
            username=ME,
            password="",
            known_hosts=None,
            client_keys=None,
            agent_path=None,
            config=None,
        )


async def test_rubbish_instead_of_ssh(pair: Cluster) -> None:
    reader, writer = await asyncio.open_connection(pair.addresses[2], pair.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n" * 1000)
    await writer.drain()
    await reader.read()
    writer.close()
    async with pair.asking(1) as asker:
        assert (await asker.ask(api.NodeInfo("2"))).status & 2


async def test_the_encryption_is_the_fast_one(pair: Cluster) -> None:
    link = await pair.agents[1].peers.link(pair.agents[1].configuration.map.number(2))
    assert link.connection.get_extra_info("send_cipher") == "aes128-gcm@openssh.com"
    assert link.connection.get_extra_info("send_compression") == "none"


@pytest.mark.alone
async def test_an_idle_agent_uses_next_to_nothing(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        await asker.ask(api.NodeInfo("2"))
        begun = time.process_time()
        await asyncio.sleep(3)
        used = time.process_time() - begun
    assert used < 3 * 2 * 0.005  # two agents live in this process


def _new_person(cluster: Cluster, number: int) -> asyncssh.SSHKey:
    key = asyncssh.generate_private_key("ssh-ed25519")
    (cluster.config(number) / "authorized_keys").write_bytes(key.export_public_key())
    return key


async def _connect(cluster: Cluster, number: int, user: str, key: asyncssh.SSHKey) -> Link:
    node = cluster.agents[1].configuration.map.number(number)
    known = cluster.config(1) / "known_hosts"
    return await connect(node, cluster.port, user=user, client_keys=[key], known_hosts=known, patience=10)


def _prepare(cluster: Cluster) -> api.PrepareGuest:
    return api.PrepareGuest("1-1-a", 1, 0, "", 0, 1, "h", cluster.agents[1].guests.platform, 0, "")


# -------------------------------------------------------------------------- another user of this node


@pytest.mark.skipif(os.geteuid() != 0, reason="root can act as somebody else")
async def test_another_user_may_ask_and_not_command(pair: Cluster) -> None:
    pair.directory.chmod(0o755)
    (pair.directory / "1").chmod(0o755)
    pair.engine.owners[5000] = 65534
    asked: list[tuple[api.Request, type, type[OmError] | None]] = [
        (api.NodeInfo(), api.NodeReport, None),
        (api.Migrate(5000, "2"), api.Moved, None),
        (api.Migrate(4711, "2"), api.Moved, NotYourProcess),
        (api.Switch("block", True), api.Done, NotAllowed),
        (api.Lock(1, True), api.Done, NotYourProcess),
        (_prepare(pair), api.GuestReady, NotAllowed),
    ]
    for request, result, expected in asked:
        told = await asyncio.to_thread(_as_nobody, pair.run(1) / "agent.sock", request, result)
        assert told == (expected.exit_status if expected else 0), request


def _as_nobody(path: Path, request: api.Request, result: type) -> int:
    """Ask as user 65534; returns the error's exit status."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            with Client(path) as agent:
                agent.call(request, result)
            status = 0
        except OmError as error:
            status = error.exit_status
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def test_a_port_that_somebody_has(apart: Cluster) -> None:
    with (
        socket.create_server((apart.addresses[1], apart.port)),
        pytest.raises(BadConfiguration, match=r"another program serves there.*AGENTPORT"),
    ):
        await apart.start(1)
    await apart.start(1)

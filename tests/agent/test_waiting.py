"""Who asks to join: the list, the decisions, and how both sides talk."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import asyncssh
import pytest

from omtools.agent import cluster_key, keys
from omtools.agent.joining import JoinServer, ask
from omtools.agent.waiting import MOST, Asked, WaitingList, code_of
from omtools.errors import BadCertificate, NotInCluster, NotJoined, NotWaiting


def public() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()


@pytest.fixture
def holder(short: Path) -> WaitingList:
    """The list of a node that has the cluster's key, and is node 1."""
    own = keys.ensure_keys(short, "mCii")
    key = cluster_key.create(short, "c")
    signed = cluster_key.certify(key, cluster_key.Membership("c", 1, "mCii"), own.host, own.client)
    cluster_key.install(short, signed, own.host, own.client, cluster_key.fingerprint(key))
    return WaitingList(short)


def asked_of(short: Path, name: str = "metrakilate", number: int = 2) -> Asked:
    key = cluster_key.public_key(short)
    assert key is not None
    return Asked(cluster_key.fingerprint(key), name, number, public(), public())


def test_waiting_until_somebody_decides(holder: WaitingList, short: Path) -> None:
    asked = asked_of(short)
    assert [holder.ask(asked, "10.0.0.2").state for _time in range(3)] == ["waiting"] * 3
    (one,) = holder.all()
    host, client = (asyncssh.import_public_key(text) for text in (asked.host, asked.client))
    assert one.code == code_of(asked.cluster, host, client)
    assert len(one.code.replace("-", "")) == 24
    given = holder.accept("metrakilate").given
    assert given is not None
    assert given.membership.number == 2
    assert holder.ask(asked, "10.0.0.2").given == given
    with pytest.raises(NotWaiting):
        holder.accept("metrakilate")


def test_refused_and_forgotten(holder: WaitingList, short: Path) -> None:
    asked = asked_of(short)
    holder.ask(asked, "10.0.0.2")
    holder.refuse(holder.all()[0].code)
    assert holder.ask(asked, "10.0.0.2").state == "refused"
    holder.forget("10.0.0.2")
    assert holder.all() == []
    assert holder.ask(asked, "10.0.0.2").state == "waiting"


def test_numbers_and_names_are_given_once(holder: WaitingList, short: Path) -> None:
    for name, number in (("mCii", 1), ("tikal", 7), ("ixchel", 7)):
        holder.ask(asked_of(short, name, number), "10.0.0.2")
    places = []
    for name in ("mCii", "tikal", "ixchel"):
        given = holder.accept(name).given
        assert given is not None
        places.append((given.membership.number, given.membership.name))
    assert places == [(2, "node2"), (7, "tikal"), (3, "ixchel")]
    holder.ask(asked_of(short, "palenque", 9), "10.0.0.2")
    with pytest.raises(BadCertificate, match="another node's number"):
        holder.accept("palenque", 7)
    cluster_key.write(short / "retired", "9\n", 0o644)
    given = holder.accept("palenque").given
    assert given is not None
    assert given.membership.number == 4


def test_two_of_one_name_are_told_apart_by_their_codes(holder: WaitingList, short: Path) -> None:
    for _one in range(2):
        holder.ask(asked_of(short), "10.0.0.2")
    with pytest.raises(NotWaiting, match="give the code"):
        holder.accept("metrakilate")
    assert holder.accept(holder.all()[0].code).state == "accepted"


def test_a_flood_fills_no_disk(holder: WaitingList, short: Path) -> None:
    states = [holder.ask(asked_of(short, f"n{n}"), "10.0.0.9").state for n in range(12)]
    assert states == ["waiting"] * 8 + ["full"] * 4
    states = [holder.ask(asked_of(short, f"m{n}"), f"10.0.1.{n}").state for n in range(MOST)]
    assert states.count("waiting") == MOST - 8
    assert len(holder.all()) == MOST


def test_without_the_clusters_key(holder: WaitingList, short: Path) -> None:
    asked = asked_of(short)
    assert WaitingList(short / "nothing").ask(asked, "10.0.0.2").state == "not_here"
    holder.ask(asked, "10.0.0.2")
    (short / "cluster_key").unlink()
    with pytest.raises(NotInCluster):
        holder.accept("metrakilate")


async def test_over_the_wire(holder: WaitingList, short: Path) -> None:
    server = JoinServer(holder)
    await server.open(["127.0.0.1"])
    asked = asked_of(short)
    assert (await ask("127.0.0.1", server.port, asked)).state == "waiting"
    assert holder.all()[0].address == "127.0.0.1"
    for line in (b"nonsense\n", b"x" * 40000 + b"\n", b'{"type":"join","name":"../../etc"}\n', b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(line)
        writer.write_eof()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    assert len(holder.all()) == 1
    port = server.port
    await server.close()
    with pytest.raises(NotJoined):
        await ask("127.0.0.1", port, asked)

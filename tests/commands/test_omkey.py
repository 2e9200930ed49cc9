"""omkey and omdiscd without a wire: what they make, what they say, what they refuse. The wire: tests/lab."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import asyncssh
import pytest
from short import short_directory

from omtools.agent import keys
from omtools.agent.cluster_key import fingerprint, public_key
from omtools.agent.waiting import Asked, WaitingList
from omtools.cluster.discovery import Announcement
from omtools.commands import omdiscd, omkey
from omtools.errors import NotJoined


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A configuration directory that is the environment's; a short path, for unix sockets."""
    directory = short_directory()
    monkeypatch.setenv("OPENMOSIX_CONFIG", str(directory / "etc"))
    monkeypatch.setenv("OPENMOSIX_RUN", str(directory / "run"))
    yield directory / "etc"
    shutil.rmtree(directory)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> object:
    assert omkey.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def fails(capsys: pytest.CaptureFixture[str], status: int, words: str, *arguments: str) -> None:
    assert omkey.main(list(arguments)) == status
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def asked(place: Path, name: str) -> Asked:
    key = public_key(place)
    assert key is not None
    host, client = (asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode() for _one in "ab")
    return Asked(fingerprint(key), name, 2, host, client)


def test_a_cluster_is_made_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, 69, "belongs to no cluster", "show")
    made = told(capsys, "create", "valladolid", "--number", "7")
    shown = told(capsys, "show")
    assert isinstance(made, dict)
    assert isinstance(shown, dict)
    assert (made["key"], made["number"], made["cluster"]) == (shown["key"], 7, "valladolid")
    assert shown["holds_key"] is True
    assert 80 < (datetime.fromisoformat(shown["until"]) - datetime.now()).days <= 90
    assert keys.ensure_keys(place, "x").number == 7
    assert (place / "cluster_key").stat().st_mode & 0o777 == 0o600
    fails(capsys, 35, "belongs to a cluster already", "create", "other")
    fails(capsys, 72, "is node 7 of valladolid already", "join", "other")


def test_those_who_wait(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "create", "valladolid", "--number", "1")
    assert omkey.main(["list"]) == 0
    assert capsys.readouterr().out == "Nobody has asked to join.\n"
    waiting = WaitingList(place)
    for name in ("metrakilate", "tikal"):
        waiting.ask(asked(place, name), "10.0.0.2")
    fails(capsys, 71, "Nobody called uxmal", "accept", "uxmal")
    assert omkey.main(["accept", "metrakilate"]) == 0
    assert capsys.readouterr().out == "metrakilate is node 2 of the cluster.\n"
    (code,) = [one.code for one in waiting.all() if one.asked.name == "tikal"]
    assert omkey.main(["refuse", code]) == 0
    assert capsys.readouterr().out == "tikal is refused.\n"
    rows = told(capsys, "list")
    assert isinstance(rows, list)
    assert {(row["name"], row["state"], row["number"]) for row in rows} == {
        ("metrakilate", "accepted", 2), ("tikal", "refused", 0),
    }  # fmt: skip
    assert omkey.main(["forget", "tikal"]) == 0
    assert len(waiting.all()) == 1


@pytest.mark.usefixtures("place")
def test_people_and_retired_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = tmp_path / "ixchel.pub"
    public.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_public_key())
    fails(capsys, 69, "not on this node", "sign", "ixchel", str(public))
    told(capsys, "create", "valladolid", "--number", "1")
    signed = told(capsys, "sign", "ixchel", str(public), "--days", "3")
    assert signed == {"certificate": str(tmp_path / "ixchel-cert.pub")}
    assert asyncssh.read_certificate(tmp_path / "ixchel-cert.pub").principals == ["ixchel"]  # type: ignore[attr-defined]
    fails(capsys, 70, "name of nodes", "sign", "openmosix-node-2", str(public))
    fails(capsys, 35, "no-such-file", "sign", "ixchel", str(tmp_path / "no-such-file"))
    assert told(capsys, "retire", "9") == {"retired": [9]}
    assert told(capsys, "retire", "3") == {"retired": [3, 9]}


@pytest.mark.parametrize("arguments", [[], ["melt"], ["create", "two words"], ["create", "x", "--number", "0"],
                                       ["accept"], ["sign", "x"]])  # fmt: skip
def test_what_makes_no_sense(place: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert omkey.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (place / "cluster_key").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["-n", "-i", "lo"], 69, "belongs to no cluster"),
        (["-n", "-i", "no-such-wire"], 90, "no-such-wire: No such device"),
        (["-n", "-i", "a,b,c,d,e,f,g"], 2, "At most 6 interfaces"),
        (["-m", "300"], 2, "300"),
        (["--melt"], 2, "--melt"),
    ],
)
def test_omdiscd_says_what_is_missing(
    place: Path, arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert omdiscd.main(arguments) == status
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not (place / "cluster_key").exists()


@pytest.mark.parametrize(("typed", "why"), [
    ("yes\n", ""), ("no\n", "was not confirmed"), ("\n", "was not confirmed"), ("", "--key SHA256"),
])  # fmt: skip
def test_the_code_is_confirmed_by_somebody(
    place: Path, monkeypatch: pytest.MonkeyPatch, typed: str, why: str
) -> None:
    own = keys.ensure_keys(place, "metrakilate")
    found = Announcement("M3Uz", "attic", 1, "mCii", 4660, 4661, ("203.0.113.1",))
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    with pytest.raises(NotJoined, match=why) if why else contextlib.nullcontext():
        omkey._confirm(Namespace(key=""), found, own)

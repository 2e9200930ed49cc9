from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import asyncssh
import pytest

from omtools.agent import keys
from omtools.agent.api import NODE_USER
from omtools.errors import BadConfiguration

ME = pwd.getpwuid(os.getuid())


def public() -> bytes:
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key()


def test_missing_keys_are_made_once(tmp_path: Path) -> None:
    directory = tmp_path / "deep/etc"
    first = keys.ensure_keys(directory, "mCii")
    second = keys.ensure_keys(directory, "mCii")
    assert first.host.export_public_key() == second.host.export_public_key()
    assert first.client.export_public_key() != first.host.export_public_key()
    for name in (keys.HOST_KEY, keys.CLIENT_KEY):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
        assert (directory / f"{name}.pub").read_bytes().startswith(b"ssh-ed25519 ")
        assert b"mCii" in (directory / f"{name}.pub").read_bytes()


@pytest.mark.parametrize("content", [b"", b"rubbish", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_a_broken_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / keys.HOST_KEY).write_bytes(content)
    (tmp_path / keys.HOST_KEY).chmod(0o600)
    with pytest.raises(BadConfiguration, match=keys.HOST_KEY):
        keys.ensure_keys(tmp_path, "x")
    assert (tmp_path / keys.HOST_KEY).read_bytes() == content


def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / keys.HOST_KEY).write_bytes(key.export_private_key("pkcs8-pem", passphrase="secret"))
    (tmp_path / keys.HOST_KEY).chmod(0o600)
    with pytest.raises(BadConfiguration, match=keys.HOST_KEY):
        keys.ensure_keys(tmp_path, "x")


def test_a_key_others_may_read(tmp_path: Path) -> None:
    keys.ensure_keys(tmp_path, "x")
    (tmp_path / keys.CLIENT_KEY).chmod(0o640)
    with pytest.raises(BadConfiguration, match="chmod 600"):
        keys.ensure_keys(tmp_path, "x")


def test_whose_keys(tmp_path: Path) -> None:
    assert keys.authorized(tmp_path, NODE_USER)[0] is None
    (tmp_path / keys.AUTHORIZED_NODES).write_bytes(public())
    assert keys.authorized(tmp_path, NODE_USER)[0] is not None
    (tmp_path / keys.AUTHORIZED_KEYS).write_bytes(public())
    assert keys.authorized(tmp_path, ME.pw_name)[0] is not None
    assert keys.authorized(tmp_path, "no-such-user")[0] is None
    assert keys.authorized(tmp_path, "../authorized_keys")[0] is None
    assert keys.authorized(tmp_path, "")[0] is None


@pytest.mark.parametrize("content", ["", "\n", "rubbish", "ssh-ed25519 AAAA"])
def test_a_file_without_a_key_lets_nobody_in(tmp_path: Path, content: str) -> None:
    (tmp_path / keys.AUTHORIZED_NODES).write_text(content)
    found, why = keys.authorized(tmp_path, NODE_USER)
    assert found is None
    assert why


@pytest.mark.skipif(os.geteuid() != 0, reason="a root agent reads other people's files")
def test_people_of_a_root_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "ann"
    place = home / ".config/openmosix"
    place.mkdir(parents=True)
    ann = pwd.struct_passwd(("ann", "x", 4321, 4321, "", str(home), "/bin/sh"))
    monkeypatch.setattr("pwd.getpwnam", lambda _name: ann)
    config = tmp_path / "etc"
    (config / "users").mkdir(parents=True)
    assert keys.authorized(config, "ann")[0] is None
    (place / keys.AUTHORIZED_KEYS).write_bytes(public())
    for path in (home, home / ".config", place, place / keys.AUTHORIZED_KEYS):
        os.chown(path, 4321, 4321)
    assert keys.authorized(config, "ann")[0] is not None
    for path in (home, place, place / keys.AUTHORIZED_KEYS):
        mode = path.stat().st_mode
        path.chmod(mode | 0o020)
        found, why = keys.authorized(config, "ann")
        assert (found, str(path) in why) == (None, True)
        path.chmod(stat.S_IMODE(mode))
    os.chown(place, 1, 1)
    assert keys.authorized(config, "ann")[0] is None
    (config / "users/ann").write_bytes(public())  # root's own word goes before
    assert keys.authorized(config, "ann")[0] is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to look like another user")
def test_a_users_agent_knows_that_user_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / keys.AUTHORIZED_KEYS).write_bytes(public())
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr("os.geteuid", lambda: nobody.pw_uid)
    assert keys.authorized(tmp_path, "nobody")[0] is not None
    found, why = keys.authorized(tmp_path, "root")
    assert found is None
    assert "nobody only" in why

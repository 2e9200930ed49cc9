"""omtools.agent.sftp: this node's files for the real `sftp` and `sshfs`."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest
import pytest_asyncio
from short import short_directory

from omtools.agent import api

from .support import Cluster

ME = pwd.getpwuid(os.getuid()).pw_name
SECONDS = 60


class Client:
    """A person with a key, and the programs that person uses."""

    def __init__(self, cluster: Cluster, top: Path) -> None:
        self.cluster = cluster
        self.top = top
        self.key = top / "key"
        (top / "known").write_text(
            f"[{cluster.addresses[2]}]:{cluster.port} "
            + cluster.agents[2].keys.host.export_public_key().decode().split(" ", 1)[0] + " "
            + cluster.agents[2].keys.host.export_public_key().decode().split(" ")[1] + "\n"
        )  # fmt: skip

    @property
    def options(self) -> list[str]:
        """Of all SSH programs."""
        return [
            "-oBatchMode=yes", f"-oPort={self.cluster.port}", f"-oIdentityFile={self.key}", "-oIdentitiesOnly=yes",
            f"-oUserKnownHostsFile={self.top}/known", "-oStrictHostKeyChecking=yes", "-F/dev/null",
        ]  # fmt: skip

    async def run(self, *command: str, stdin: str = "") -> tuple[int, str]:
        """Its exit status and all it says."""
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            cwd=self.top, start_new_session=True,
        )  # fmt: skip
        said, _none = await asyncio.wait_for(process.communicate(stdin.encode()), SECONDS)
        assert process.returncode is not None
        return process.returncode, said.decode(errors="replace")

    async def sftp(self, script: str, user: str = ME) -> tuple[int, str]:
        """Run a batch."""
        return await self.run("sftp", *self.options, "-b", "-", f"{user}@{self.cluster.addresses[2]}", stdin=script)


@pytest_asyncio.fixture
async def client(pair: Cluster) -> AsyncIterator[Client]:
    top = short_directory()
    try:
        top.chmod(0o755)
        made = Client(pair, top)
        key = asyncssh.generate_private_key("ssh-ed25519")
        made.key.write_bytes(key.export_private_key())
        made.key.chmod(0o600)
        (pair.config(2) / "authorized_keys").write_bytes(key.export_public_key())
        (pair.config(2) / "users").mkdir(mode=0o700)
        (pair.config(2) / "users/nobody").write_bytes(key.export_public_key())
        (top / "files").mkdir(mode=0o777)
        (top / "files").chmod(0o777)
        yield made
    finally:
        shutil.rmtree(top)


async def test_sftp_puts_and_gets(client: Client) -> None:
    data = os.urandom(3_000_001)
    (client.top / "here").write_bytes(data)
    files = client.top / "files"
    status, said = await client.sftp(
        f"pwd\ncd {files}\nput here there\nrename there new\nln -s new link\nmkdir d\nchmod 640 new\nls -ln\n"
        "get link back\nrm link\ndf\n"
    )
    assert status == 0, said
    home = pwd.getpwuid(os.getuid()).pw_dir.rstrip("/") or "/"
    assert f"Remote working directory: {home if os.path.isdir(home) else '/'}" in said
    assert (files / "new").read_bytes() == (client.top / "back").read_bytes() == data
    assert (files / "new").stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(files)) == ["d", "new"]
    assert "3000001" in said


async def test_what_is_refused_is_said_and_nothing_is_left(client: Client) -> None:
    status, said = await client.sftp("ls /proc/self\n")
    assert status != 0
    status, said = await client.sftp("get /no-such-file\n")
    assert status != 0
    assert "not found" in said
    async with client.cluster.asking(2) as asker:
        await asker.ask(api.Switch("mfs", False))
        status, said = await client.sftp("pwd\n")
        assert status != 0
        assert "mosctl mfs" in said
        await asker.ask(api.Switch("mfs", True))
    status, said = await client.sftp("pwd\n")
    assert status == 0, said
    status, said = await client.sftp("pwd\n", api.NODE_USER)
    assert status != 0
    assert "ermission denied" in said


async def test_who_is_inside_has_nothing_any_more_when_files_are_kept(client: Client) -> None:
    (client.top / "files/one").write_text("first")
    async with (
        asyncssh.connect(
            client.cluster.addresses[2], client.cluster.port, username=ME, client_keys=[str(client.key)],
            known_hosts=None, config=[],
        ) as connection,
        connection.start_sftp_client() as sftp,
        client.cluster.asking(2) as asker,
    ):  # fmt: skip
        file = await sftp.open(f"{client.top}/files/one", encoding="utf-8")
        assert await file.read() == "first"
        await asker.ask(api.Switch("mfs", False))
        with pytest.raises(asyncssh.SFTPError):
            await file.read(5, 0)
        with pytest.raises(asyncssh.SFTPError):
            await sftp.listdir("/")
        assert connection.get_extra_info("username") == ME  # the connection itself goes on
        await asker.ask(api.Switch("mfs", True))


@pytest.mark.skipif(os.geteuid() != 0, reason="root can act as somebody else")
async def test_a_root_agent_serves_each_with_that_users_rights(client: Client) -> None:
    files = client.top / "files"
    (files / "secret").write_text("root's")
    (files / "secret").chmod(0o600)
    (client.top / "own").write_text("nobody's")
    status, said = await client.sftp(f"get {files}/secret {client.top}/stolen\n", "nobody")
    assert status != 0
    assert "ermission denied" in said
    status, said = await client.sftp(f"put {client.top}/own {files}/new\n", "nobody")
    assert status == 0, said
    assert (files / "new").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    status, said = await client.sftp(f"get {files}/secret {client.top}/mine\n")
    assert status == 0, said


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="this user may not open /dev/fuse")
async def test_sshfs_mounts_them(client: Client) -> None:
    files, mount = client.top / "files", client.top / "mount"
    mount.mkdir()
    (files / "one").write_text("first")
    options = [option.replace("-o", "", 1) for option in client.options if option.startswith("-o")]
    status, said = await client.run(
        "sshfs", f"{ME}@{client.cluster.addresses[2]}:{files}", str(mount), "-F", "/dev/null", "-o", ",".join(options)
    )
    assert status == 0, said
    try:
        def use() -> str:
            (mount / "two").write_text("second")
            (mount / "two").rename(mount / "three")
            (mount / "d/e").mkdir(parents=True)
            return (mount / "one").read_text() + " ".join(sorted(os.listdir(mount)))

        assert await asyncio.wait_for(asyncio.to_thread(use), SECONDS) == "firstd one three"
        assert (files / "three").read_text() == "second"
    finally:
        status, said = await client.run("fusermount3", "-u", str(mount))
    assert status == 0, said

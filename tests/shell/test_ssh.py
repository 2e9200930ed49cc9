"""A node behind SSH: against a real server on this machine, with keys and known hosts of its own."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from omtools.errors import LoginFailed, NodeShellError
from omtools.shell.ssh import SshCluster, split_host, status


class Server:
    """An SSH server whose programs are real ones, on a pseudo-terminal where one is asked for."""

    def __init__(self, directory: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.host, self.user = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        self.authorized = directory / "authorized"
        self.authorized.write_bytes(self.user.export_public_key())
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.server = asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(20)
        self.port: int = self.server.get_port()

    async def _listen(self) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[self.host], authorized_client_keys=str(self.authorized),
            process_factory=self._serve, encoding=None,
        )  # fmt: skip

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = ["sh", "-c", process.command or "true"]
        if process.term_type is None:
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
            process.stdout.write(done.stdout)
            process.exit(done.returncode)
            return
        master, slave = pty.openpty()
        child = subprocess.Popen(["setsid", "-c", *command], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        await process.redirect(stdin=os.dup(master), stdout=master)
        code = await asyncio.to_thread(child.wait)
        process.exit(code if code >= 0 else 128 - code)
        await process.wait_closed()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _end(self) -> None:
        self.server.close()
        await self.server.wait_closed()
        await self.loop.shutdown_default_executor()
        await asyncio.sleep(0)  # what asyncssh has just made begins, so that it can be cancelled
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server(tmp_path)
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    key = home / ".ssh" / "id_ed25519"
    made.user.write_private_key(str(key))
    key.chmod(0o600)
    public = made.host.export_public_key().decode()
    (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{made.port} {public}")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    yield made
    made.close()


def test_a_shell_there(server: Server, tmp_path: Path) -> None:
    cluster = SshCluster("127.0.0.1", server.port)
    try:
        shell = cluster.shell("127.0.0.1", (31, 101))
        try:
            assert shell.run("stty size; cd /tmp; x=4", 30).output == "31 101\n"
            ran = shell.run("echo $x; false", 30)
            assert (ran.output, ran.status, shell.directory) == ("4\n", 1, "/tmp")
            with pytest.raises(NodeShellError):
                shell.run("exit", 30)
        finally:
            shell.close()
        (tmp_path / "place").mkdir()
        (tmp_path / "place" / "a b").touch()
        (tmp_path / "place" / "d").mkdir()
        assert sorted(cluster.entries("127.0.0.1", f"{tmp_path}/place")) == ["a b", "d/"]
        assert "bash" in cluster.commands("127.0.0.1")
        assert cluster.home("127.0.0.1") == str(tmp_path / "home")
        assert cluster.alive("127.0.0.1")
        assert cluster.substitute("127.0.0.1", "ping far") == "ping far"
    finally:
        cluster.close()


def test_refusals_are_one_sentence(server: Server) -> None:
    server.authorized.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_public_key())
    with pytest.raises(LoginFailed, match="does not let you in"):
        SshCluster("127.0.0.1", 1)
    known = Path(os.environ["HOME"]) / ".ssh" / "known_hosts"
    known.write_text("")
    with pytest.raises(LoginFailed, match="known_hosts"):
        SshCluster("127.0.0.1", server.port)


def test_pure_parts() -> None:
    assert split_host("ana@node.example") == ("ana", "node.example")
    assert split_host("node") == (None, "node")
    printed = '{"node":1,"load":12}\n{"report":{"guests":2,"away":1}}\nnoise'
    assert status("far", printed) == "far 12  guests 2, away 1"
    assert status("far", "") == "far"

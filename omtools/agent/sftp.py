"""This node's files for any `sftp` or `sshfs`: the subsystem `sftp` of the agent's SSH server.

The files are reached as from another node, over a link to the worker that has the logged-in user's rights;
so a root agent that serves many users never acts with its own rights for any of them, and exports, read-only
ones and `mosctl nomfs` hold here too. The agent itself only translates.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.stream import SSHServerStreamSession

from omtools.agent import log
from omtools.agent.callers import Caller
from omtools.errors import OmError
from omtools.omfs.client import RemoteFiles
from omtools.omfs.orders import Way
from omtools.omfs.secured import connect
from omtools.omfs.sftp import FilesServer

SUBSYSTEM = "sftp"
_VERSION = 3  # all that OpenSSH speaks

FindWay = Callable[[Caller], Awaitable[Way]]
"""How this node's own files are reached with a caller's rights; raises OmError."""


class _Server(FilesServer):
    """One client's session, whose files end with it."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], files: RemoteFiles, start: bytes) -> None:
        super().__init__(channel, files, start)
        self._own = files

    async def exit(self) -> None:
        """The client has left."""
        await super().exit()
        await asyncio.to_thread(self._own.close)


class SftpSession(SSHServerStreamSession[bytes]):
    """The subsystem on one channel.

    Args:
        caller: who has logged in.
        find_way: to this node's files.
    """

    def __init__(self, caller: Caller, find_way: FindWay) -> None:
        super().__init__(None, self._begin, _VERSION, False)
        self._caller = caller
        self._find_way = find_way

    async def _begin(self, channel: SSHChannel[bytes]) -> FilesServer:
        assert isinstance(channel, asyncssh.SSHServerChannel)
        try:
            way = await self._find_way(self._caller)
        except OmError as error:
            log.warn("files are refused", to=self._caller.where, why=error)
            channel.write_stderr(f"{error}\n".encode())
            channel.exit(1)
            raise asyncssh.SFTPConnectionLost(str(error)) from None
        log.debug("files are served by SFTP", uid=self._caller.uid, to=self._caller.where)
        files = RemoteFiles(lambda: connect(way.endpoint, way.credentials))
        return _Server(channel, files, os.fsencode(pwd.getpwuid(self._caller.uid).pw_dir))

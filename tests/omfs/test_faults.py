"""What a server's machine may be like: its user has no room left, its clock is wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from linux.fuse_support import Mirror, serving

from omfs.fuse_support import mounted
from omfs.support import credentials, refused
from omtools.linux.fuse import abi
from omtools.linux.fuse.handler import Request
from omtools.linux.fuse.mount import MountOptions
from omtools.omfs.exports import only
from omtools.omfs.local import LocalFiles
from omtools.omfs.secured import Listening
from omtools.omfs.server import Sessions, serve

CHECKOUT = Path(__file__).parents[2]


class Quota(Mirror):
    """Takes no more than so much, or says only at the end that it was too much, as NFS may."""

    def write(self, request: Request, asked: abi.WriteIn, data: memoryview) -> int:
        if asked.offset + len(data) > 10_000:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return super().write(request, asked, data)

    def flush(self, request: Request, fh: int, lock_owner: int) -> None:  # noqa: ARG002 - as the protocol has it
        if os.fstat(fh).st_size > 5_000:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_a_quota_is_told_at_write_and_at_close(tmp_path: Path, kind: str) -> None:
    back = tmp_path / "back"
    back.mkdir()
    options = MountOptions(allow_other=os.geteuid() == 0, subtype="quota")
    with (
        serving(tmp_path / "quota", lambda: Quota(back), options),
        mounted(tmp_path / "quota", tmp_path / "mount", kind) as at,
    ):
        (at / "little").write_bytes(bytes(5_000))
        file = os.open(at / "much", os.O_CREAT | os.O_WRONLY)
        assert os.write(file, bytes(9_000)) == 9_000
        refused(errno.EDQUOT, os.write, file, bytes(9_000))
        refused(errno.EDQUOT, os.close, file)
        assert (at / "much").stat().st_size == 9_000
        assert sorted(os.listdir(at)) == ["little", "much"]


CLIENT = """
import sys, time
from omtools.migration.orders import Credentials, Endpoint
from omtools.omfs.client import RemoteFiles
from omtools.omfs.operations import NOBODY, ROOT, UTIME_NOW, Changes
from omtools.omfs.secured import connect
port, *credentials = sys.argv[1:]
files = RemoteFiles(lambda: connect(Endpoint("127.0.0.1", int(port)), Credentials(*credentials)), 60)
entry = files.lookup(NOBODY, ROOT, b"file")
changed = files.setattr(NOBODY, entry.node, Changes(mtime_ns=UTIME_NOW))
given = files.setattr(NOBODY, entry.node, Changes(atime_ns=1_500_000_000_123_456_789))
print(int(time.time()), entry.attributes.mtime_ns, changed.mtime_ns, given.atime_ns, files.read(
    files.open(NOBODY, entry.node, 0), 0, 100).decode())
files.close()
"""


@pytest.mark.parametrize("year", [1971, 2150])
def test_clocks_that_differ(tmp_path: Path, year: int) -> None:
    (tmp_path / "file").write_text("content")
    os.utime(tmp_path / "file", ns=(1, 987_654_321_000_000_001))
    server, client = credentials()
    sessions = Sessions(lambda: LocalFiles(only(str(tmp_path))))
    with Listening("127.0.0.1", server) as listening:
        thread = threading.Thread(target=lambda: serve(listening.secure(listening.accept(60)), sessions))
        thread.start()
        done = subprocess.run(
            ["faketime", f"{year}-07-01 00:00:00", sys.executable, "-c", CLIENT, str(listening.port),
             client.certificate, client.key, client.peer],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, text=True, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        thread.join(60)
    assert done.returncode == 0, done.stderr
    clock, before, changed, given, content = done.stdout.split()
    assert time.gmtime(int(clock)).tm_year == year  # it was really that late there
    assert content == "content"
    assert int(before) == 987_654_321_000_000_001
    assert int(given) == 1_500_000_000_123_456_789
    assert abs(int(changed) / 1e9 - time.time()) < 600  # by the clock where the file lies

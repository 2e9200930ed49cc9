"""Files that a guest has opened by itself and that have lost their names: they go with it, or it stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from omtools.errors import CannotMigrate, OmError
from omtools.migration.orders import Bring

from .journey import Traveller, expect, line, tell
from .nest import FINAL, Nest
from .test_native_files import of_node_2, reach, working_there

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="this user may not open /dev/fuse")

KEEPS = """
import os
def wait():
    os.write(1, b"ready\\n")
    os.read(0, 1)
def fork():
    try:
        child = os.fork()
    except OSError as error:
        return error.errno
    if child == 0:
        os._exit(0)
    return os.waitpid(child, 0)[1]
wait()
file = os.open("gone", os.O_CREAT | os.O_RDWR)
os.write(file, b"content")
wait()
os.unlink("gone")
wait()
os.write(1, b"%d %s\\n" % (fork(), os.pread(file, 99, 0)))
wait()
os.write(1, b"%d %s\\n" % (fork(), os.pread(file, 99, 0)))
"""


async def refused(traveller: Traveller) -> str:
    """It is asked to come home and does not; why."""
    assert traveller.moved is not None
    deputy = traveller.moved.deputy
    deputy.tell(Bring())
    await deputy.until("coming")
    state = await deputy.until("away", *FINAL)
    assert state.phase == "away"
    assert state.error is not None
    error = OmError.from_wire(state.error)
    assert isinstance(error, CannotMigrate)
    return str(error)


async def test_what_others_have_open_too_keeps_it_there(nest: Nest, tmp_path: Path) -> None:
    """A copy would hide what they write: it is refused, by the name of the file, and the process goes on."""
    where = of_node_2(tmp_path)
    nest.reach = reach(tmp_path)
    async with working_there(nest, where, KEEPS) as (process, traveller):
        with open(where / "gone", "r+b", buffering=0) as other:
            tell(process)
            await expect(process, "ready")
            why = await refused(traveller)
            assert f"{where}/gone (deleted)" in why
            assert f"Process {process.pid} " in why
            other.write(b"CON")
            tell(process)
            assert await line(process) == "11 CONtent"  # fork(2) there can be none: EAGAIN
            await expect(process, "ready")
            assert "gone" in nest.log()
        tell(process)
        assert await line(process) == "0 CONtent"  # at home
        assert await process.wait() == 0
        assert not os.listdir(where)


READS = """
import os
os.write(1, b"ready\\n")
os.read(0, 1)
first, second = os.open("data", os.O_RDONLY), os.open("data", os.O_RDONLY)
os.lseek(second, 3 << 20, os.SEEK_SET)
os.write(1, b"ready\\n")
os.read(0, 1)
seen = os.fstat(first)
os.write(1, b"%d %s %s %d\\n" % (seen.st_size, os.read(first, 5), os.read(second, 9), seen.st_mode))
"""


async def test_the_content_goes_home_where_no_copy_can_be_made(nest: Nest, tmp_path: Path) -> None:
    """Of a tree that may not be changed; a file with a hole, open twice."""
    where = of_node_2(tmp_path)
    data = where / "data"
    with data.open("wb") as file:
        file.write(b"begin")
        file.seek(3 << 20)
        file.write(b"the end")
    data.chmod(0o644)
    nest.reach = reach(tmp_path, writable=False)
    async with working_there(nest, where, READS) as (process, traveller):
        data.unlink()
        await traveller.go([1])
        assert await traveller._is_home()
        tell(process)
        assert await line(process) == f"{(3 << 20) + 7} begin the end {0o100644}"


FIFO = """
import os
os.write(1, b"ready\\n")
os.read(0, 1)
both = os.open("fifo", os.O_RDWR)
os.write(both, b"inside")
os.write(1, b"ready\\n")
os.read(0, 1)
os.write(1, os.read(both, 99) + b"\\n")
os.close(both)
os.write(1, b"ready\\n")
os.read(0, 1)
"""


async def test_an_open_fifo_keeps_it_there(nest: Nest, tmp_path: Path) -> None:
    """Home's would be another one, and empty."""
    where = of_node_2(tmp_path)
    os.mkfifo(where / "fifo")
    nest.reach = reach(tmp_path)
    async with working_there(nest, where, FIFO) as (process, traveller):
        assert f"{where}/fifo" in await refused(traveller)
        tell(process)
        await expect(process, "inside")
        await expect(process, "ready")
        await traveller.go([1])
        tell(process)

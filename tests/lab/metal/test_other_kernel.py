"""Between this machine and an emulated one: another kernel, another vdso, a processor that lacks much.

MCii is emulated; in metrakilate's place on the wire is this machine, with an agent of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from omtools.agent import api
from omtools.agent.client import Client
from omtools.errors import OmError, ProcessorLacks
from omtools.image.platform import this_platform
from omtools.lab.metal import identity, image
from omtools.lab.metal.machine import Direct
from omtools.lab.metal.powered import Powered
from omtools.lab.metal.supervise import name_of
from omtools.lab.settings import PACKAGE_HOME

pytestmark = [
    pytest.mark.machines,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can put a card of its own on the wire"),
]
PATIENCE = 240.0
_PATH = "export PATH=/usr/sbin:/usr/bin:/sbin:/bin; "

# What the emulated processor has not, kept from the C library, as a cluster of unlike machines has to do.
BASELINE = "glibc.cpu.hwcaps=" + ",".join(
    f"-{name}" for name in ("AVX512F", "AVX512VL", "AVX512BW", "AVX512DQ", "AVX512CD", "AVX512_VBMI",
                            "AVX512_VBMI2", "AVX512ER", "XSAVEC")
)  # fmt: skip

JOB = """
import sys, time
def lines():
    x, last = 1, time.monotonic()
    while True:
        for _ in range(2000):
            x = x * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        now = time.monotonic()
        assert now >= last and time.time() > 1e9 and time.process_time() > 0
        last = now
        yield f"{x} {x / 3.0!r}"
for line in lines():
    print(line, flush=True)
"""


def expected(count: int) -> list[str]:
    scope: dict[str, Any] = {}
    exec(JOB.partition("for line in lines")[0], scope)
    return list(itertools.islice(scope["lines"](), count))


@dataclass
class Pair:
    """The emulated machine and this one.

    Attributes:
        directory: of this one's agent.
        machine: the other.
        screen: what was on its screen.
    """

    directory: Path
    machine: Powered
    screen: bytearray

    def ask(self, request: Any, result: type[Any]) -> Any:
        with Client(self.directory / "run" / "agent.sock", "test", patience=PATIENCE) as client:
            return client.call(request, result)

    async def migrate(self, pid: int, node: str) -> api.Moved:
        moved: api.Moved = await asyncio.to_thread(self.ask, api.Migrate(pid, node), api.Moved)
        return moved

    @contextlib.asynccontextmanager
    async def there(self) -> AsyncIterator[asyncssh.SSHClientConnection]:
        """A connection to the emulated machine, through its back door."""
        key = asyncssh.read_private_key(self.directory / "key")
        async with asyncssh.connect(
            "127.0.0.1", self.machine.ssh_port or 0, username="root", client_keys=[key], known_hosts=None,
            config=None, agent_path=None, server_host_key_algs=["ssh-ed25519"],  # dropbear chokes on a long list
        ) as connection:  # fmt: skip
            yield connection


async def until(condition: Any, what: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.1)
    assert condition(), what


def _furnish(directory: Path) -> Direct:
    built = image.build()
    keys = identity.new_keys()
    with open(directory / "mCii.img", "wb") as file:
        built.write_server(file, identity.server_archive(keys))
    for entry in identity.node_entries(identity.DISKLESS, keys):
        path = directory / entry.path
        if path.parent.name == "openmosix":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry.data)
            path.chmod(0o600)
    with open(directory / "etc/openmosix/openmosix.config", "a") as settings:
        settings.write("MFSDIR=none\nMIGRATE=no\n")  # nothing of this machine's own tree is touched
    key = directory / "key"
    key.write_text(keys.user.private)
    key.chmod(0o600)
    return Direct(built.kernel, directory / "mCii.img")


@contextlib.contextmanager
def _this_machine(directory: Path, wire: socket.socket) -> Any:
    command = [
        sys.executable, str(Path(__file__).parent / "on_the_wire.py"), str(wire.fileno()),
        "--config", str(directory / "etc/openmosix"), "--run", str(directory / "run"),
        "--log", str(directory / "agent.log"),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE_HOME)}
    process = subprocess.Popen(
        command, pass_fds=[wire.fileno()], stdin=subprocess.PIPE, env=environment, cwd=directory
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="om") as short:  # the agent's sockets want a short path
        async with _pair(Path(short)) as found:
            yield found


@contextlib.asynccontextmanager
async def _pair(folder: Path) -> AsyncIterator[Pair]:
    direct = await asyncio.to_thread(_furnish, folder)
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    screen = bytearray()
    with theirs, ours, _this_machine(folder, ours):
        machine = await Powered.start(
            identity.SERVER, wire=theirs, direct=direct, show=screen.extend, tell=lambda _event: None,
            ended=lambda _why: None, name_of=name_of,
        )  # fmt: skip
        try:
            await until(lambda: machine.agent, f"mCii: {screen[-2000:].decode(errors='replace')}")
            yield Pair(folder, machine, screen)
        finally:
            await machine.kill()


@contextlib.contextmanager
def job(path: Path, **environment: str) -> Any:
    """A process of this machine that computes and looks at clocks; yields it."""
    with open(path, "wb") as output:
        process = subprocess.Popen(
            ["/usr/bin/env", "python3", "-c", JOB], stdout=output, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


async def _goes_on(path: Path) -> None:
    before = lines(path)
    await until(lambda: lines(path) > before + 20, f"{path} grows")


async def test_between_unlike_machines(pair: Pair, tmp_path: Path) -> None:
    """From here to mCii and home, from mCii to here and home, and what cannot go or cannot stay."""
    async with pair.there() as there:
        release = str((await there.run(_PATH + "uname -r", check=True)).stdout).strip()
        assert release != os.uname().release
        await _from_here(pair, tmp_path)
        await _from_there(there)
    await _lacking(pair, tmp_path)


async def _from_here(pair: Pair, folder: Path) -> None:
    output = folder / "from-here"
    with job(output, GLIBC_TUNABLES=BASELINE) as process:
        await _goes_on(output)
        for _round in range(2):
            await pair.migrate(process.pid, "mCii")
            await _goes_on(output)
            (found,) = (
                one for one in pair.ask(api.Processes(), api.ProcessList).processes if one.pid == process.pid
            )
            assert (found.where, found.phase) == (identity.SERVER, "away")
            await pair.migrate(process.pid, "home")
            await _goes_on(output)
    said = output.read_text().splitlines()[:-1]
    assert said == expected(len(said))


async def _from_there(there: asyncssh.SSHClientConnection) -> None:
    await there.run(_PATH + "cat > /tmp/job.py", input=JOB, check=True)
    start = "python3 /tmp/job.py > /tmp/out 2>&1 < /dev/null & echo $!"
    pid = int(str((await there.run(_PATH + start, check=True)).stdout))
    for _round in range(2):
        for node in ("metrakilate", "home"):
            done = await there.run(_PATH + f"migrate --json {pid} {node}")
            assert done.returncode == 0, done.stderr
            before = int(str((await there.run(_PATH + "wc -l < /tmp/out", check=True)).stdout))
            grown = f"while [ $(wc -l < /tmp/out) -lt {before + 20} ]; do kill -0 {pid} || exit 1; done"
            assert (await there.run(_PATH + grown)).returncode == 0
    await there.run(_PATH + f"kill {pid}", check=True)
    said = str((await there.run(_PATH + "cat /tmp/out", check=True)).stdout).splitlines()[:-1]
    assert said == expected(len(said))


async def _lacking(pair: Pair, folder: Path) -> None:
    """Registers in use that are not there: it stays. An instruction that is unknown there: it comes home."""
    output = folder / "out"
    if "avx512f" in this_platform().cpu_flags:
        with job(output) as process:
            await _goes_on(output)
            with pytest.raises(ProcessorLacks, match="AVX-512"):
                await pair.migrate(process.pid, "mCii")
            await _goes_on(output)
    with job(output, GLIBC_TUNABLES=BASELINE.replace(",-XSAVEC", "")) as process:
        await _goes_on(output)
        with contextlib.suppress(OmError):  # it may be home again before it was said to be away
            await pair.migrate(process.pid, "mCii")
        await _goes_on(output)
        said = output.read_text().splitlines()[:-1]
    assert said == expected(len(said))

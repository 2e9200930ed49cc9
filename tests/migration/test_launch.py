"""omtools.migration.launch and template: real templates, real keepers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tracees import ECHO, PATIENCE, gone, python

from omtools.agent.certificates import make_identity
from omtools.errors import NoAgent, OmError
from omtools.linux import proc
from omtools.migration.launch import SOCKET, end_template, ensure_template, launch, start_worker
from omtools.migration.orders import (
    Credentials,
    DeputyOrder,
    Endpoint,
    GuestOrder,
    Launched,
    Refused,
    State,
    WorkerOrder,
)
from omtools.migration.template import LOG, LOG_LIMIT

ONE, OTHER = make_identity("one"), make_identity("other")
HERE = Credentials(ONE.certificate, ONE.key, OTHER.certificate)


def belonging_to(run: Path) -> list[int]:
    """Pids of the template and the keepers of a run directory."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if str(run).encode() in Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0"):
                    found.append(int(name))
    return [pid for pid in found if not gone(pid)]


@pytest.fixture
def run() -> Iterator[Path]:
    """A run directory; whatever serves it is ended afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="om"))
    (folder / "keepers").mkdir()
    yield folder
    for pid in belonging_to(folder):
        end(pid, signal.SIGKILL)
    assert belonging_to(folder) == []
    shutil.rmtree(folder)


def end(pid: int, number: int) -> None:
    """Send a signal (0: none), wait for the end."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            os.kill(pid, number)
            assert select.select([descriptor], [], [], PATIENCE)[0], "it does not end"
        finally:
            os.close(descriptor)


def guest(run: Path, name: str = "g", *, patience: float = 0.05, uid: int | None = None) -> GuestOrder:
    return GuestOrder(
        migration=name, pid=4711, uid=os.getuid() if uid is None else uid, gid=os.getgid(), home=1, node=2,
        hostname="uhn", address="127.0.0.1", credentials=HERE, control=str(run / "keepers" / name),
        patience=patience,
    )  # fmt: skip


def deputy(run: Path, pid: int) -> DeputyOrder:
    return DeputyOrder(
        migration="d", pid=pid, uid=os.getuid(), gid=os.getgid(), home=1, target=2,
        endpoint=Endpoint("127.0.0.1", 1), credentials=HERE, control=str(run / "keepers" / "d"),
    )  # fmt: skip


async def states_of(control: str) -> list[State]:
    """All a keeper says until it ends."""
    reader, writer = await asyncio.open_unix_connection(control)
    found = []
    async with asyncio.timeout(PATIENCE):
        while line := await reader.readline():
            found.append(msgspec.json.decode(line, type=State))
    writer.close()
    return found


async def test_a_keeper_is_made_and_tells_what_becomes_of_it(run: Path) -> None:
    await ensure_template(run)
    launched = await launch(run, guest(run))
    assert launched.port > 0
    states = await states_of(str(run / "keepers" / "g"))
    assert [state.phase for state in states][-1] == "ended"
    assert states[0].keeper == launched.pid
    assert states[0].node == 2
    assert "role=guest pid=4711 mig=g no guest came" in (run / LOG).read_text()
    assert not (run / "keepers" / "g").exists()


async def test_a_second_start_finds_the_first(run: Path) -> None:
    await ensure_template(run)
    first = proc.stat((await launch(run, guest(run, "a"))).pid).parent
    await asyncio.gather(ensure_template(run), ensure_template(run))
    second = proc.stat((await launch(run, guest(run, "b"))).pid).parent
    assert first == second
    assert os.getsid(first) == first  # it belongs to nobody's session


async def test_several_starts_at_once_leave_one(run: Path) -> None:
    await asyncio.gather(*(ensure_template(run) for _time in range(4)))
    assert len(belonging_to(run)) == 1
    launched = [await launch(run, guest(run, name, patience=5)) for name in ("a", "b", "c")]
    assert {proc.stat(one.pid).parent for one in launched} < set(belonging_to(run))


async def test_launching_starts_a_template_where_none_is(run: Path) -> None:
    assert (await launch(run, guest(run))).pid > 0


async def test_a_template_that_is_told_to_end_leaves_its_keepers(run: Path) -> None:
    launched = await launch(run, guest(run, patience=20))
    template = proc.stat(launched.pid).parent
    await end_template(run)
    end(template, 0)
    assert not (run / SOCKET).exists()
    assert not gone(launched.pid)
    await end_template(run)  # there is none


async def test_keepers_outlive_their_template_and_the_next_one_starts(run: Path) -> None:
    launched = await launch(run, guest(run, "old", patience=20))
    template = proc.stat(launched.pid).parent
    end(template, signal.SIGTERM)
    assert (run / SOCKET).exists()  # as a crash would leave it
    reader, writer = await asyncio.open_unix_connection(str(run / "keepers" / "old"))
    second = await launch(run, guest(run, "new"))
    assert proc.stat(second.pid).parent != template
    assert not gone(launched.pid)
    end(launched.pid, signal.SIGKILL)
    with contextlib.suppress(ConnectionResetError):
        said = await reader.read()
        assert said.count(b"\n") <= 1, "its state, if it got to tell it, and the end"
    writer.close()


async def raw(run: Path, line: bytes) -> Launched | Refused | None:
    reader, writer = await asyncio.open_unix_connection(str(run / SOCKET))
    writer.write(line)
    writer.write_eof()
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    return msgspec.json.decode(answer, type=Launched | Refused) if answer else None


BAD_ORDERS = [b"hello", b"{}", b'{"type":"worker","module":"os","argument":""}', b'{"type":"deputy"}', b"\xff\xfe", b'{"type":"guest","pid":"x"}', b"[" * 9000]


WORKER = """\
import os, socket, sys
def main(arguments):
    print("at work in", os.getcwd(), flush=True)
    print(arguments[1], file=sys.stderr, flush=True)
    with socket.socket(fileno=int(arguments[0])) as listener:
        connection, _address = listener.accept()
        with connection:
            connection.sendall(b"%d" % os.getpid())
    return 0
"""


def descriptors_of(stack: contextlib.ExitStack, run: Path) -> tuple[int, list[int]]:
    """Where a worker's first word is read, and what a worker gets."""
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(str(run / "worker.sock"))
    listener.listen()
    hears, says = os.pipe()
    stack.callback(os.close, says)
    log = stack.enter_context((run / "worker.log").open("wb"))
    return hears, [listener.fileno(), says, log.fileno()]


async def test_a_worker_is_forked_and_speaks_where_it_is_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "a_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", f"{run}:{os.environ.get('PYTHONPATH', '')}")
    with contextlib.ExitStack() as stack:
        hears, given = descriptors_of(stack, run)
        await start_worker(run, WorkerOrder("a_worker", "an argument"), given)
    with open(hears, "rb") as pipe:
        assert pipe.readline() == b"at work in /\n"
    reader, writer = await asyncio.open_unix_connection(str(run / "worker.sock"))
    pid = int(await reader.read())
    writer.close()
    end(pid, 0)
    assert (run / "worker.log").read_text() == "an argument\n"
    assert (await launch(run, guest(run))).pid  # the template serves on


async def test_a_worker_that_cannot_work_is_the_end_of_its_pipe(run: Path) -> None:
    with contextlib.ExitStack() as stack:
        hears, given = descriptors_of(stack, run)
        await start_worker(run, WorkerOrder("there.is.no.such.module", ""), given)
    with open(hears, "rb") as pipe:
        assert pipe.read() == b""
    assert "ModuleNotFoundError" in (run / "worker.log").read_text()


@pytest.mark.parametrize("line", [order + b"\n" for order in BAD_ORDERS])
async def test_a_bad_order_is_refused(run: Path, line: bytes) -> None:
    await ensure_template(run)
    answer = await raw(run, line)
    assert isinstance(answer, Refused)
    assert "order:" in str(OmError.from_wire(answer.error))
    assert (await launch(run, guest(run))).pid  # it serves on


async def test_whoever_says_nothing_is_not_answered(run: Path) -> None:
    await ensure_template(run)
    assert await raw(run, b"") is None
    assert await raw(run, b"half an order") is None
    assert (await launch(run, guest(run))).pid


async def test_a_refusal_is_raised_as_what_it_is(run: Path) -> None:
    order = msgspec.structs.replace(guest(run), control=str(run / "no such folder" / "socket"))
    with pytest.raises(OmError, match="No such file"):
        await launch(run, order)
    order = msgspec.structs.replace(guest(run), address="192.0.2.1")
    with pytest.raises(OmError, match="assign"):
        await launch(run, order)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another")
async def test_a_keeper_of_root_s_becomes_the_owner(run: Path) -> None:
    run.chmod(0o755)
    (run / "keepers").chmod(0o777)
    launched = await launch(run, guest(run, uid=65534, patience=20))
    status = proc.status(launched.pid)
    assert status["Uid"].split() == ["65534"] * 4
    assert int(status["CapEff"], 16) == 0
    end(launched.pid, signal.SIGKILL)


async def test_a_deputy_s_keeper_that_reaches_nobody_lets_the_process_run(run: Path) -> None:
    with python(ECHO) as child:
        launched = await launch(run, deputy(run, child.pid))
        assert launched.port == 0
        states = await states_of(str(run / "keepers" / "d"))
        assert states[-1].phase == "failed"
        assert states[-1].error is not None
        assert states[-1].error["error"] == "LinkLost"
        assert child.answer(b"here") == b"here"
        assert proc.status(child.pid)["TracerPid"] == "0"


async def test_a_run_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoAgent):
        await ensure_template(tmp_path / "nowhere")


async def test_a_log_that_has_grown_too_long_starts_anew(run: Path) -> None:
    (run / LOG).touch()
    os.truncate(run / LOG, LOG_LIMIT + 1)
    await ensure_template(run)
    assert (run / LOG).stat().st_size < LOG_LIMIT
    assert (run / LOG).stat().st_mode & 0o077 == 0


async def test_a_template_keeps_no_descriptor_of_its_starter(run: Path) -> None:
    told, tell = os.pipe()
    os.set_inheritable(tell, True)
    try:
        launched = await launch(run, guest(run, patience=20))
        for pid in (launched.pid, proc.stat(launched.pid).parent):
            mine = set(proc.descriptors(os.getpid()).values())
            shared = {what for what in proc.descriptors(pid).values() if what in mine} - {"/dev/null"}
            assert shared == set()
        end(launched.pid, signal.SIGKILL)
    finally:
        os.close(told)
        os.close(tell)

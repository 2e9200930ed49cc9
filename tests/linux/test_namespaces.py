from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from omtools.linux import namespaces as ns
from omtools.linux.namespaces import Clone, IdRange, Mount


def in_child(body: Callable[[], object]) -> None:
    """Run `body` in a forked child, which may change its namespaces."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def own_user(more: Clone = Clone(0)) -> None:  # noqa: B008 - immutable
    uid, gid = os.getuid(), os.getgid()
    ns.unshare(Clone.NEWUSER | more)
    ns.write_id_maps([IdRange(0, uid)], [IdRange(0, gid)])


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_clone3_forks_and_gives_a_pidfd() -> None:
    child = ns.clone3(pidfd=True)
    if child.pid == 0:
        os._exit(5)
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    os.close(child.pidfd)
    assert ended(child.pid) == 5


def test_clone3_with_chosen_pids() -> None:
    def body() -> None:
        own_user(Clone.NEWPID)
        first = ns.clone3()
        if first.pid == 0:
            second = ns.clone3(set_tid=[4242])
            if second.pid == 0:
                os._exit(os.getpid() == 4242)
            assert second.pid == 4242
            with pytest.raises(FileExistsError):
                ns.clone3(set_tid=[1])
            os._exit(ended(second.pid))
        assert ended(first.pid) == 1

    in_child(body)


def test_mounts_and_a_new_root(tmp_path: Path) -> None:
    def body() -> None:
        own_user(Clone.NEWNS)
        ns.mount(None, "/", None, Mount.REC | Mount.PRIVATE)
        ns.mount("test", tmp_path, "tmpfs", Mount.NOSUID, "size=64k")
        (tmp_path / "inside").touch()
        os.chdir(tmp_path)
        ns.pivot_root(".", ".")
        ns.umount2(".", ns.Umount.DETACH)
        assert os.listdir("/") == ["inside"]
        with pytest.raises(OSError, match="umount"):
            ns.umount2("/nowhere")

    in_child(body)
    assert os.listdir(tmp_path) == []


def test_names_and_clocks() -> None:
    def body() -> None:
        own_user(Clone.NEWUTS | Clone.NEWTIME)
        ns.sethostname("hop")
        assert os.uname().nodename == "hop"
        ns.set_time_offsets(3_600_500_000_000, -500_000_000)
        before = time.monotonic()
        child = ns.clone3()
        if child.pid == 0:
            os._exit(0 if 3600 < time.monotonic() - before < 3610 else 1)
        assert ended(child.pid) == 0

    in_child(body)


def test_negative_offsets_have_their_nanoseconds_forward() -> None:
    def body() -> None:
        own_user(Clone.NEWTIME)
        ns.set_time_offsets(-500_000_000, -1)
        lines = Path("/proc/self/timens_offsets").read_text().split()
        assert lines[1:3] == ["-1", "500000000"]
        assert lines[4:6] == ["-1", "999999999"]

    in_child(body)


def test_enter_joins_all_that_differ() -> None:
    hears, says = os.pipe()
    holder = os.fork()
    if holder == 0:
        own_user(Clone.NEWUTS | Clone.NEWNET | Clone.NEWIPC | Clone.NEWNS | Clone.NEWPID)
        ns.sethostname("held")
        init = ns.clone3()
        if init.pid == 0:
            signal.pause()
        os.write(says, str(init.pid).encode())
        os._exit(ended(init.pid) == -signal.SIGKILL)
    init_pid = int(os.read(hears, 32))
    os.close(hears)
    os.close(says)

    def body() -> None:
        ns.enter(init_pid)
        assert os.uname().nodename == "held"
        child = ns.clone3()
        if child.pid == 0:
            os._exit(0 if os.getpid() == 2 else 1)
        assert ended(child.pid) == 0

    in_child(body)
    os.kill(init_pid, signal.SIGKILL)
    assert ended(holder) == 1


def test_death_signal_and_subreaper() -> None:
    def body() -> None:
        ns.set_child_subreaper()
        parent = os.fork()
        if parent == 0:
            own = os.getpid()  # asked for in the child it might be another's already
            if os.fork() == 0:
                ns.set_parent_death_signal(signal.SIGTERM, own)
                signal.pause()
            os._exit(0)
        ended(parent)
        assert ended(-1) == -signal.SIGTERM

    in_child(body)


def test_no_new_privs() -> None:
    def body() -> None:
        ns.set_no_new_privs()
        assert "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()

    in_child(body)


def test_failures_are_os_errors_that_say_what() -> None:
    with pytest.raises(OSError, match="setns") as caught:
        ns.setns(-1, Clone(0))
    assert caught.value.errno == 9  # EBADF
    with pytest.raises(FileNotFoundError):
        ns.open_namespace(1 << 22, "net")

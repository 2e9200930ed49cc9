"""omtools.linux.fuse.mount: every way to mount, what is missing, and mounts whose server has died."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from short import short_directory

from linux.fuse_support import (
    NOBODY,
    Mirror,
    Server,
    become_nobody,
    ended,
    forked,
    log,
    needs_root,
    own_mounts,
    own_namespaces,
    public_place,
    serving,
)
from omtools.errors import CannotMount, OmError
from omtools.linux.fuse.abi import Entry, Init
from omtools.linux.fuse.handler import Request
from omtools.linux.fuse.mount import (
    MountInfo,
    MountOptions,
    find_mount,
    is_dead,
    mount,
    parse_mountinfo,
    unmount,
)
from omtools.linux.fuse.session import Session

pytestmark = needs_root


@pytest.fixture(autouse=True, scope="module")
def _own_mounts() -> Iterator[None]:
    with own_mounts():
        yield


@pytest.fixture
def back(tmp_path: Path) -> Path:
    (tmp_path / "back").mkdir()
    (tmp_path / "back/hello").write_text("hello")
    return tmp_path / "back"


def test_mountinfo_is_parsed() -> None:
    text = (
        "31 1 0:28 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "126 31 0:53 / /mnt/a\\040b rw,nosuid master:2 propagate_from:1 - fuse.omfs a\\134b rw,user_id=0\n"
    )
    assert list(parse_mountinfo(text)) == [
        MountInfo("/", "ext4", "/dev/vda", 28),
        MountInfo("/mnt/a b", "fuse.omfs", "a\\b", 53),
    ]


@given(st.text(st.sampled_from("0123456789:/- \\\nabc٣"), max_size=120))
def test_mountinfo_of_another_form_is_passed_over(text: str) -> None:
    for one in parse_mountinfo(text):
        assert one.minor >= 0


def test_it_shows_as_what_it_is(back: Path, tmp_path: Path) -> None:
    target = tmp_path / "a mount point"
    options = MountOptions(source="mCii:/", subtype="omfs", default_permissions=True)
    with serving(target, lambda: Mirror(back), options) as server:
        assert (target / "hello").read_text() == "hello"
        descriptors = [os.readlink(one) for one in Path(f"/proc/{server.pid}/fd").iterdir()]
        assert descriptors.count("/dev/fuse") == 1
        found = find_mount(str(target))
        assert found is not None
        assert (found.fstype, found.source) == ("fuse.omfs", "mCii:/")
        [line] = [line for line in Path("/proc/thread-self/mountinfo").read_text().splitlines() if "mCii:" in line]
        assert "default_permissions" in line
        assert "nosuid,nodev" in line
        assert "allow_other" not in line
    assert find_mount(str(target)) is None
    assert list(target.iterdir()) == []


def test_others_are_kept_out_unless_they_are_allowed(back: Path) -> None:
    back.chmod(0o755)
    public = short_directory()
    public.chmod(0o755)

    def look() -> None:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        os.listdir(public / "m")

    def look_in_vain() -> None:
        with pytest.raises(PermissionError):
            look()

    try:
        with serving(public / "m", lambda: Mirror(back), MountOptions(allow_other=True)):
            assert ended(forked(look)) == 0
        with serving(public / "m", lambda: Mirror(back), MountOptions()):
            assert ended(forked(look_in_vain)) == 0
    finally:
        shutil.rmtree(public)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target, device, sentence in [
        (tmp_path / "nowhere", "/dev/fuse", "No such file or directory"),
        (tmp_path / "file", "/dev/fuse", "it is not a directory"),
        (tmp_path, "/dev/no-such-device", "there is no /dev/no-such-device; `modprobe fuse`"),
        (tmp_path, str(tmp_path / "file"), "the kernel refused"),
    ]:
        with pytest.raises(CannotMount, match=sentence):
            mount(target, device=device)
    assert unmount(tmp_path)  # nothing there: nothing to do


def test_a_file_system_that_cannot_start_leaves_no_mount(back: Path, tmp_path: Path) -> None:
    class Failing(Mirror):
        def started(self, _session: Session, _agreed: Init) -> None:
            raise RuntimeError("not today")

    handler = Failing(back)
    session = Session(mount(tmp_path / "back"), handler)
    with pytest.raises(RuntimeError, match="not today"):
        session.start()
    assert find_mount(str(back)) is None
    handler.ended()


def test_a_device_that_may_not_be_opened(tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents[:3]):
        with contextlib.suppress(PermissionError):  # another's
            parent.chmod(parent.stat().st_mode | 0o011)
    (tmp_path / "device").touch(0o600)

    def attempt() -> None:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with pytest.raises(CannotMount, match="may not be opened; as root: `chmod 666"):
            mount("/", device=str(tmp_path / "device"))

    assert ended(forked(attempt)) == 0


class Slow(Mirror):
    """Keeps whoever looks up `slow` waiting, and says so by a file."""

    def lookup(self, request: Request, name: bytes) -> Entry:
        if name == b"slow":
            self.announce("waiting")
            threading.Event().wait()
        return super().lookup(request, name)


def test_a_killed_server_hangs_nobody_and_the_next_takes_its_place(back: Path, tmp_path: Path) -> None:
    target = tmp_path / "m"
    target.mkdir()

    def serve() -> Session:
        return Session(mount(target), Slow(back), log=log)

    server = Server(target, serve)
    opened = os.open(target / "hello", os.O_RDONLY)
    failed: list[int | None] = []

    def call() -> None:
        try:
            os.stat(target / "slow")
        except OSError as error:
            failed.append(error.errno)

    caller = threading.Thread(target=call)
    caller.start()
    while not (back / "waiting").exists():
        caller.join(0.01)
    server.kill()
    caller.join()
    assert failed in ([errno.ECONNABORTED], [errno.ENOTCONN])
    assert is_dead(target)
    with pytest.raises(OSError, match="not connected"):
        os.listdir(target)
    with pytest.raises(OSError, match="not connected"):
        os.pread(opened, 1, 0)
    with pytest.raises(OSError, match="not connected"):
        os.close(opened)
    again = Server(target, serve)
    assert (target / "hello").read_text() == "hello"
    assert again.stop() == 0
    assert find_mount(str(target)) is None


def test_a_fork_of_the_server_does_not_keep_a_dead_mount_alive(back: Path, tmp_path: Path) -> None:
    target = tmp_path / "m"
    target.mkdir()
    hold, let_go = os.pipe()

    class Forking(Mirror):
        def ended(self) -> None: ...

        def readlink(self, _request: Request) -> bytes:
            pid = os.fork()
            if pid == 0:
                os.close(let_go)
                os.read(hold, 1)
                os._exit(0)
            return b"forked"

    (back / "link").symlink_to("x")
    server = Server(target, lambda: Session(mount(target), Forking(back), log=log))
    assert os.readlink(target / "link") == "forked"
    server.kill()
    assert is_dead(target)
    os.close(let_go)
    os.close(hold)
    unmount(target)


def use_and_close(place: Path, before: Callable[[], object] = lambda: None) -> None:
    """Mount, look, leave a file open, unmount: in this process, whose mount namespace it is."""
    target = place / "m"
    before()
    server = Server(target, lambda: Session(mount(target, MountOptions()), Mirror(place / "back"), log=log))
    try:
        assert (target / "hello").read_text() == "hello"
        (target / "new").write_text("mine")
        assert (place / "back/new").read_text() == "mine"
        assert os.stat(target / "new").st_uid == os.geteuid()
        found = find_mount(str(target))
        assert found is not None
        assert found.fstype == "fuse.omfs"
        opened = os.open(target / "hello", os.O_RDONLY)
        assert server.stop() == 0  # busy: it goes all the same
        for use in (lambda: os.pread(opened, 1, 0), lambda: os.close(opened)):
            with pytest.raises(OSError, match=r"not connected|abort"):
                use()
    except BaseException:
        with contextlib.suppress(OSError):
            server.kill()
        raise
    assert find_mount(str(target)) is None


def test_an_ordinary_user_in_namespaces_of_its_own() -> None:
    def body() -> None:
        become_nobody(place)
        use_and_close(place, own_namespaces)

    with public_place() as place:
        assert ended(forked(body)) == 0


def test_an_ordinary_user_by_fusermount3() -> None:
    def body() -> None:
        become_nobody(place)
        use_and_close(place)

    assert shutil.which("fusermount3"), "the Debian package fuse3 is missing"
    with public_place() as place:
        assert ended(forked(body)) == 0


def test_an_ordinary_user_without_fusermount3() -> None:
    def body() -> None:
        become_nobody(place)
        os.environ["PATH"] = "/nonexistent"
        with pytest.raises(OmError, match=r"only root may mount here, and fusermount3 \(package fuse3\)"):
            mount(place / "m")
        assert find_mount(str(place / "m")) is None

    with public_place() as place:
        assert ended(forked(body)) == 0


def test_what_fusermount3_says_is_passed_on() -> None:
    def body() -> None:
        become_nobody(place)
        with pytest.raises(CannotMount, match="user_allow_other"):
            mount(place / "m", MountOptions(allow_other=True))

    with public_place() as place:
        assert ended(forked(body)) == 0

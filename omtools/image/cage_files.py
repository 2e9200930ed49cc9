"""The mounts of a cage whose guest opens a node's files by itself (DFSA); see `cage_root` for its root."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from omtools.errors import RestoreFailed
from omtools.image.cage_root import STAND_IN, CageRoot
from omtools.linux import namespaces as ns
from omtools.linux.mount_tree import Attribute, attach, clone_tree, restrict

POOL = 24  # stand-ins that are opened with the cage; more are opened when these are used up
_PATIENCE_MS = 20_000
_DEVICE = "/dev/fuse"
# <linux/capability.h>: what root may do with files, in a cage that has no other files than those for it
FILE_CAPABILITIES = 0b11111  # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID


class NativeTree(NamedTuple):
    """A directory of this node that a guest may use by itself.

    Attributes:
        path: what the guest calls it: absolute, canonical.
        source: what this node calls it.
        writable: it may be changed.
    """

    path: str
    source: str
    writable: bool

    def holds(self, path: str) -> bool:
        """The path is the tree, or in it."""
        return path == self.path or path.startswith(self.path + "/")

    @property
    def way(self) -> list[bytes]:
        """The names from the root down to it."""
        return os.fsencode(self.path).strip(b"/").split(b"/")


@dataclass(slots=True)
class CageFiles:
    """What the keeper of such a guest has of its cage.

    Attributes:
        tree: what the guest opens by itself.
        root: serves the cage's root.
        apart: a copy of the root's mount that hangs nowhere.
        elsewhere: its directory, from which every path leads to the root's server: where the guest is while
            its working directory is at home.
        stand_ins: open files that stand for such at home, with their handles; not used yet.
        example: any of them, O_PATH, to open more.
        withdrawn: the tree's mount while it is not in its place, else -1.
    """

    tree: NativeTree
    root: CageRoot
    apart: int
    elsewhere: int
    example: int
    stand_ins: list[tuple[int, int]] = field(default_factory=list)
    withdrawn: int = -1

    def holds(self, path: str) -> bool:
        """The guest comes to that path by itself."""
        return self.withdrawn < 0 and self.tree.holds(path)

    def withdraw(self, guest: int, serve: Callable[[], None]) -> None:
        """Take the tree out of the cage, whose root then serves these paths too; what is open stays open.

        The guest must not run; `serve` answers the root's requests. Raises OSError.
        """
        if self.withdrawn < 0:
            self.withdrawn = self._inside(guest, lambda: _detach(self.tree), serve)

    def restore(self, guest: int, serve: Callable[[], None]) -> None:
        """Put it back. Raises OSError."""
        if self.withdrawn >= 0:
            tree, self.withdrawn = self.withdrawn, -1
            try:
                self._inside(guest, lambda: attach(tree, b"/" + b"/".join(self.tree.way)), serve)
            finally:
                os.close(tree)

    def _inside(self, guest: int, work: Callable[[], int | None], serve: Callable[[], None]) -> int:
        """Have a child of ours do that in the guest's mounts; returns the descriptor that it makes, or -1."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child = os.fork()
        if child == 0:
            try:
                ns.enter(guest, ("user", "mnt"))
                made = work()
                socket.send_fds(theirs, [b"done"], [] if made is None else [made])
            except OSError as error:
                theirs.send(b"%d" % (error.errno or errno.EIO))
            finally:
                os._exit(0)
        theirs.close()
        with ours:
            try:
                _serve_until(ours, self.root.device, serve)
            except TimeoutError:
                os.kill(child, signal.SIGKILL)
            message, descriptors, _flags, _address = socket.recv_fds(ours, 64, 1)
        os.waitpid(child, 0)
        if message != b"done":
            number = int(message or errno.EIO)
            raise OSError(number, os.strerror(number))
        return descriptors[0] if descriptors else -1

    @contextlib.contextmanager
    def opening_more(self) -> Iterator[Callable[[], bool]]:
        """Open more stand-ins; meanwhile the root has to be served until what is lent out says yes."""
        opened: list[int] = []
        first = self.root.handles + 1

        def work() -> None:
            with contextlib.suppress(OSError):  # no more descriptors
                for _one in range(POOL):
                    opened.append(os.open(f"/proc/self/fd/{self.example}", os.O_RDWR | os.O_CLOEXEC))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield lambda: not thread.is_alive()
        finally:
            thread.join()
        self.stand_ins += [(one, handle) for handle, one in enumerate(opened, first)]

    def close(self) -> None:
        """The guest is gone."""
        self.root.close()
        if self.withdrawn >= 0:
            os.close(self.withdrawn)
        unused = [one for one, _handle in self.stand_ins]
        for descriptor in (self.apart, self.elsewhere, self.example, *unused):
            os.close(descriptor)
        self.stand_ins.clear()


def usable() -> bool:
    """This process may mount such a root in a namespace of its own."""
    return os.access(_DEVICE, os.R_OK | os.W_OK)


# -- in the cage's pid 1 -----------------------------------------------------------------------------


def mount_root(tree: NativeTree, back: socket.socket) -> None:
    """Make the cage's root, with the tree in its place; meanwhile the other end of `back` serves it.

    Called in a mount namespace of its own, where /tmp may be covered.
    """
    source = clone_tree(os.fsencode(tree.source))
    restrict(source, Attribute.NOSUID | Attribute.NODEV)
    if not tree.writable:
        restrict(source, Attribute.RDONLY)
    device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    socket.send_fds(back, [b"device"], [device])
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    ns.mount("cage", "/tmp", "fuse", ns.Mount.NOSUID | ns.Mount.NODEV, options)
    os.close(device)
    os.chdir("/tmp")
    apart = clone_tree(b".")
    elsewhere = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=apart)
    attach(source, b"/".join(tree.way))
    os.close(source)
    example = os.open(STAND_IN, os.O_PATH | os.O_CLOEXEC)
    pool = [os.open(STAND_IN, os.O_RDWR | os.O_CLOEXEC) for _one in range(POOL)]
    socket.send_fds(back, [b"mounted"], [apart, elsewhere, example, *pool])
    for descriptor in (apart, example, *pool):
        os.close(descriptor)
    ns.pivot_root(".", ".")
    ns.umount2(".", ns.Umount.DETACH)
    os.fchdir(elsewhere)
    os.close(elsewhere)


def keep_file_capabilities() -> None:
    """Take root's power over files through the next exec: capabilities(7), "Ambient"."""
    ns.keep_capabilities(FILE_CAPABILITIES)


# -- in the keeper -----------------------------------------------------------------------------------


class Server:
    """Serves a root while its cage is built, and listens to the cage's pid 1.

    Attributes:
        files: what the cage's keeper has of it, once it is mounted.
    """

    def __init__(self, tree: NativeTree | None, guest: int, ours: socket.socket) -> None:
        self._tree, self._guest, self._ours = tree, guest, ours
        self._root: CageRoot | None = None
        self.files: CageFiles | None = None

    def receive(self) -> tuple[bytes, list[int]]:
        """The next message that is not for us: its text and descriptors."""
        while True:
            self._serve_until_message()
            message, ancillary, _flags, _address = self._ours.recvmsg(
                4096, socket.CMSG_SPACE((POOL + 3) * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
            )
            descriptors = _descriptors(ancillary)
            if message == b"device" and self._tree is not None:
                self._root = CageRoot(descriptors[0], self._guest, self._tree.way)
            elif message == b"mounted" and self._tree is not None and self._root is not None:
                apart, elsewhere, example, *pool = descriptors
                # in the order in which they were opened, as their handles are
                pairs = [(one, handle) for handle, one in enumerate(pool, 1)]
                self.files = CageFiles(self._tree, self._root, apart, elsewhere, example, pairs)
            else:
                return message, descriptors

    def _serve_until_message(self) -> None:
        try:
            _serve_until(self._ours, -1 if self._root is None else self._root.device, self._serve)
        except TimeoutError:
            raise RestoreFailed(node="", why="the cage's root was not mounted in time") from None

    def _serve(self) -> None:
        assert self._root is not None
        for _heard in self._root.requests():
            pass

    def give_up(self) -> None:
        """The cage was not built."""
        if self.files is not None:
            self.files.close()
        elif self._root is not None:
            self._root.close()


def _serve_until(message: socket.socket, device: int, serve: Callable[[], None]) -> None:
    """Serve a cage's root until there is a message, or its sender's end. Raises TimeoutError."""
    poller = select.poll()
    poller.register(message, select.POLLIN)
    if device >= 0:
        poller.register(device, select.POLLIN)
    while True:
        ready = poller.poll(_PATIENCE_MS)
        if not ready:
            raise TimeoutError
        for descriptor, _mask in ready:
            if descriptor == message.fileno():
                return
            serve()


def _detach(tree: NativeTree) -> int:
    """In the guest's mounts: a copy of the tree's mount, which is there no more."""
    target = b"/" + b"/".join(tree.way)
    copy = clone_tree(target)
    ns.umount2(os.fsdecode(target), ns.Umount.DETACH)
    return copy


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)

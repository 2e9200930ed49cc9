"""The serving of a FUSE mount: it agrees with the kernel, has the handler called, and writes replies.

Every request gets its reply, whatever the handler does: one that never comes leaves its caller in
uninterruptible sleep. Which thread reads the device `omtools.linux.fuse.turns` says. A request for a lock
that may have to wait gets a thread to itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import threading
import time
from types import TracebackType

from omtools.errors import CannotMount, CannotUnmount
from omtools.i18n import _
from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Init, Opcode
from omtools.linux.fuse.dispatch import Dispatcher, Reply
from omtools.linux.fuse.handler import Cancellation, Handler, Request
from omtools.linux.fuse.mount import Mounted, abort, close_device, unmount, unmount_unused
from omtools.linux.fuse.negotiate import agree, init_flags, init_reply
from omtools.linux.fuse.turns import BUFFER, Log, Turns

_INIT_SECONDS = 10.0
_END_SECONDS = 10.0
_FORGOTTEN_INTERRUPTS = 1024


def _no_log(_sentence: str, _error: BaseException) -> None:
    return


class Session:
    """Serves one mount.

    Args:
        mounted: what `mount` returned; its descriptor belongs to the session from now on.
        handler: the file system.
        log: told of what is wrong with the handler or the kernel.

    Attributes:
        turns: for handlers that know when they have to wait.
    """

    def __init__(self, mounted: Mounted, handler: Handler, *, log: Log = _no_log) -> None:
        self.mounted = mounted
        self.agreed = Init(0)
        self.minor = 0
        self._handler = handler
        self._dispatcher = Dispatcher(handler)
        self._log = log
        self.turns = Turns(mounted.descriptor, self._one, self._gone, self._enter, log)
        self._blocked: dict[int, Cancellation] = {}
        self._early: dict[int, None] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._ended = threading.Event()
        self._running = 0
        self._process = os.getpid()

    def start(self) -> None:
        """Agree with the kernel on a version and flags, and serve.

        Raises:
            CannotMount: the kernel is too old, or does not speak; the mount is taken away again.
        """
        try:
            self._initialise()
            self._dispatcher.agreed(self.agreed)
            self._handler.started(self, self.agreed)
        except BaseException:
            self._stopping = True
            with contextlib.suppress(CannotUnmount):
                unmount(self.mounted.target)
            close_device(self.mounted.descriptor)
            raise
        self.turns.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it was unmounted (by anybody) and all threads have ended; whether so."""
        return self._ended.wait(seconds)

    def close(self) -> None:
        """Unmount, let go of whoever waits, end all threads. What is open there gets errors from now on.

        Raises:
            CannotUnmount: the mount is still there and still served.
        """
        if self._process != os.getpid():  # a fork of the server: it is not its mount
            return
        if self._stopping or self._ended.is_set():
            self._ended.wait(_END_SECONDS)
            return
        root = -1
        try:
            unused = unmount_unused(self.mounted.target)
            if not unused:
                root = self._hold_root()
                unused = unmount(self.mounted.target)
            self._stopping = True
            self.turns.stop()
            with self._lock:
                waiting = list(self._blocked.values())
            for one in waiting:
                one.set()
            if not unused:
                abort(self.mounted.connection)
                self._let_go(root)
        finally:
            if root >= 0:
                os.close(root)
        self._ended.wait(_END_SECONDS)

    def __enter__(self) -> Session:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def invalidate_inode(self, node: int, offset: int = 0, length: int = -1) -> None:
        """Tell the kernel to forget what it knows of a node: attributes, and data from `offset` on (-1: all).

        Not from within a handler's method: the kernel may wait for that very request.
        """
        self._notify(abi.Notify.INVAL_INODE, abi.NOTIFY_INVAL_INODE_OUT.pack(node, offset, length))

    def invalidate_entry(self, directory: int, name: bytes) -> None:
        """Tell the kernel to forget a name; not from within a handler's method."""
        head = abi.NOTIFY_INVAL_ENTRY_OUT.pack(directory, len(name), 0)
        self._notify(abi.Notify.INVAL_ENTRY, head + name + b"\0")

    def _notify(self, code: abi.Notify, payload: bytes) -> None:
        header = abi.HEADER_OUT.pack(abi.HEADER_OUT.size + len(payload), code, 0)
        with contextlib.suppress(FileNotFoundError):  # the kernel does not know it: nothing to forget
            os.write(self.mounted.descriptor, header + payload)

    def open_backing(self, descriptor: int) -> int:
        """Register a file for FOPEN_PASSTHROUGH; the kernel needs no descriptor of it afterwards.

        Raises:
            OSError: EPERM without CAP_SYS_ADMIN, ELOOP for a file of a stacked file system.
        """
        packed = bytearray(abi.BACKING_MAP.pack(descriptor, 0, 0))
        return int(fcntl.ioctl(self.mounted.descriptor, abi.IOC_BACKING_OPEN, packed))

    def close_backing(self, backing: int) -> None:
        """Drop the registration; files that are open stay so."""
        fcntl.ioctl(self.mounted.descriptor, abi.IOC_BACKING_CLOSE, struct.pack("<I", backing))

    # --- the beginning

    def _initialise(self) -> None:
        device = self.mounted.descriptor
        buffer = bytearray(BUFFER)
        while True:
            if not select.select([device], [], [], _INIT_SECONDS)[0]:
                raise CannotMount(target=self.mounted.target, why=_("the kernel does not begin to talk"))
            try:
                length = os.readv(device, [buffer])
            except OSError as error:
                why = error.strerror or str(error)
                raise CannotMount(target=self.mounted.target, why=why) from error
            if length < abi.HEADER_IN.size + abi.INIT_IN.size:
                raise CannotMount(target=self.mounted.target, why=_("the kernel does not begin to talk"))
            header = abi.HEADER_IN.unpack_from(buffer)
            if header[1] != Opcode.INIT:
                _send(device, header[2], -errno.EIO, None)
                continue
            major, self.minor, _readahead, flags = abi.INIT_IN.unpack_from(buffer, abi.HEADER_IN.size)
            if major > abi.MAJOR:  # it comes again with ours
                _send(device, header[2], 0, abi.INIT_OUT.pack(abi.MAJOR, abi.MINOR, *[0] * 11))
                continue
            if (major, self.minor) < (abi.MAJOR, abi.MINOR_NEEDED):
                _send(device, header[2], -errno.EPROTO, None)
                why = _("this kernel speaks FUSE {theirs}, {needed} is needed").format(
                    theirs=f"{major}.{self.minor}", needed=f"{abi.MAJOR}.{abi.MINOR_NEEDED}"
                )
                raise CannotMount(target=self.mounted.target, why=why)
            offered = init_flags(flags, buffer[abi.HEADER_IN.size + abi.INIT_IN.size : length])
            self.agreed = agree(offered, self._handler.wanted)
            _send(device, header[2], 0, init_reply(_readahead, self.agreed))
            return

    # --- requests

    def _enter(self) -> None:
        with self._lock:
            self._running += 1

    def _gone(self) -> None:
        """A thread ends; the last one closes the session."""
        with self._lock:
            self._running -= 1
            if self._running:
                return
        self._stopping = True
        close_device(self.mounted.descriptor)
        try:
            self._handler.ended()
        except Exception as error:  # whatever it is, the session is over
            self._log("the file system could not end cleanly", error)
        self._ended.set()

    def _one(self, request: Request) -> None:
        opcode = request.opcode
        if self._stopping:
            self._refuse(request)
            return
        if opcode == Opcode.SETLKW:
            self._have_wait(request)
            return
        reply: Reply = None
        status = 0
        try:
            if opcode == Opcode.INTERRUPT:
                self._interrupt(abi.INTERRUPT_IN.unpack_from(request.body)[0])
            elif opcode in _WITHOUT_REPLY:
                self._dispatcher.forget(request)
            elif opcode != Opcode.DESTROY:
                reply = self._dispatcher(request)
        except OSError as error:
            status = -(error.errno or errno.EIO)
        except BaseException as error:  # the caller must get an answer
            status = -errno.EIO
            self._log(f"{_named(opcode)} failed in an unforeseen way", error)
        if opcode not in _WITHOUT_REPLY:
            self._reply(request, status, reply)

    def _refuse(self, request: Request) -> None:
        if request.opcode not in _WITHOUT_REPLY:
            self._reply(request, -errno.ENOTCONN, None)

    def _reply(self, request: Request, status: int, reply: Reply) -> None:
        device = self.mounted.descriptor
        try:
            _send(device, request.unique, status, reply)
        except FileNotFoundError:  # the caller was killed or the connection aborted
            return
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ECONNABORTED):
                return
            self._log(f"the kernel does not take the reply to {_named(request.opcode)}", error)
            with contextlib.suppress(OSError):
                _send(device, request.unique, -errno.EIO, None)

    # --- requests that wait

    def _have_wait(self, request: Request) -> None:
        """Serve a request that may wait for long, in a thread of its own."""
        mine = Request(
            request.opcode, request.unique, request.node, request.uid, request.gid, request.pid,
            memoryview(bytes(request.body)), memoryview(b""),
        )  # fmt: skip
        cancellation = Cancellation()
        with self._lock:
            self._blocked[mine.unique] = cancellation
            self._running += 1
            early = self._early.pop(mine.unique, _NOT_THERE) is not _NOT_THERE
        if early or self._stopping:
            cancellation.set()
        try:
            threading.Thread(
                target=self._wait_for, args=(mine, cancellation), name="fuse-wait", daemon=True
            ).start()
        except RuntimeError as error:
            self._log("no thread can be started", error)
            self._reply(mine, -errno.ENOLCK, None)
            self._no_longer(mine)

    def _wait_for(self, request: Request, cancellation: Cancellation) -> None:
        status = 0
        try:
            self._dispatcher.blocking(request, cancellation)
        except OSError as error:
            status = -(error.errno or errno.EIO)
        except BaseException as error:  # the caller must get an answer
            status = -errno.EIO
            self._log(f"{_named(request.opcode)} failed in an unforeseen way", error)
        self._reply(request, status, None)
        self._no_longer(request)

    def _no_longer(self, request: Request) -> None:
        with self._lock:
            del self._blocked[request.unique]
        self._gone()

    def _interrupt(self, unique: int) -> None:
        """The caller of that request got a signal.

        It may be known here before the request itself, which another thread has read; so it is remembered.
        """
        with self._lock:
            waiting = self._blocked.get(unique)
            if waiting is None:
                self._early[unique] = None
                if len(self._early) > _FORGOTTEN_INTERRUPTS:
                    del self._early[next(iter(self._early))]
        if waiting is not None:
            waiting.set()

    # --- the end

    def _hold_root(self) -> int:
        try:
            return os.open(self.mounted.target, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return -1

    def _let_go(self, root: int) -> None:
        """End threads that wait for requests of a mount which others keep in use and nobody here may abort.

        Each reads one more request, a statfs of ours, sees that it is time, and ends. The last one closes the
        device, and with that the connection.
        """
        limit = time.monotonic() + _END_SECONDS
        while root >= 0 and not self._ended.wait(0.01) and time.monotonic() < limit:
            if self.turns.reads:
                with contextlib.suppress(OSError):
                    os.fstatvfs(root)


_NOT_THERE = object()
_WITHOUT_REPLY = frozenset({int(Opcode.FORGET), int(Opcode.BATCH_FORGET), int(Opcode.INTERRUPT)})


def _named(opcode: int) -> str:
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"request {opcode}"


def _send(device: int, unique: int, status: int, reply: Reply) -> None:
    if reply is None or status:
        os.write(device, abi.HEADER_OUT.pack(16, status, unique))
    else:
        os.writev(device, [abi.HEADER_OUT.pack(16 + len(reply), 0, unique), reply])

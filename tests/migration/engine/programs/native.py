"""What a program does with files while it moves; each scenario prints the same wherever it runs."""

import errno
import fcntl
import mmap
import os
import resource
import select
import signal
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def checkpoint() -> None:
    say("ready")
    while os.read(0, 1) != b"x":
        pass


def failing(what: Callable[..., Any], *arguments: object) -> Any:
    try:
        return what(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def make(name: str, text: str = "") -> None:
    with open(name, "w") as file:
        file.write(text)


def read(name: str) -> str:
    with open(name) as file:
        return file.read()


def ordinary() -> None:
    for turn in range(3):
        checkpoint()
        for number in range(5):
            make(f"f{number}", f"{turn} of {number}")
        say([read(f"f{number}") for number in range(5)], sorted(os.listdir(".")))
        os.rename("f0", "g0")
        os.link("f1", "l1")
        os.symlink("f2", "s2")
        say(read("g0"), read("l1"), read("s2"), os.readlink("s2"), os.stat("f1").st_nlink)
        for name in ("g0", "l1", "s2", "f1"):
            os.unlink(name)
        os.mkdir("d")
        make("d/inside", "x")
        say(failing(os.rmdir, "d"), failing(open, "d", "w"), failing(os.mkdir, "d"), failing(open, "no"))
        say(failing(os.open, "f2", os.O_CREAT | os.O_EXCL | os.O_WRONLY), failing(os.unlink, "d"))
        os.unlink("d/inside")
        os.rmdir("d")
        os.truncate("f2", 3)
        say(read("f2"), failing(os.rename, "no", "yes"), failing(os.open, "f2/x", os.O_RDONLY))


def numbers() -> None:
    first = os.open("a", os.O_CREAT | os.O_RDWR)
    checkpoint()
    second, third = os.open("b", os.O_CREAT | os.O_RDWR), os.open("/dev/null", os.O_RDONLY)
    reading, writing = os.pipe()
    say(first, second, third, reading, writing)
    os.close(second)
    say(os.open("c", os.O_CREAT | os.O_RDWR), os.open("d", os.O_CREAT | os.O_RDWR), os.dup(first))
    checkpoint()
    os.close(third)
    say(os.open("e", os.O_CREAT | os.O_RDWR), socket.socket().detach(), os.open("a", os.O_RDONLY))
    os.dup2(writing, 20)
    os.dup2(first, 21)
    os.write(20, b"through")
    os.write(21, b"kept")
    os.close(20)
    say(os.read(reading, 100), os.lseek(first, 0, os.SEEK_CUR), fcntl.fcntl(first, fcntl.F_DUPFD, 20))
    os.dup2(reading, first)  # a number of the node's own files is now one of home's
    os.write(writing, b"again")
    say(os.read(first, 100), failing(os.read, 99, 1), failing(os.lseek, reading, 0, 0))
    checkpoint()
    os.closerange(3, 40)
    say(os.open("z", os.O_CREAT | os.O_RDWR), failing(os.fstat, 4), sorted(map(int, os.listdir("/proc/self/fd")))[:4])


def few_numbers() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
    checkpoint()
    files = [os.open("a", os.O_CREAT | os.O_RDWR)]
    while isinstance(file := failing(os.open, "a", os.O_RDONLY), int):
        files.append(file)
    say(files, file, failing(os.open, "/etc/passwd", os.O_RDONLY), failing(os.dup, 0), os.write(files[0], b"full"))
    checkpoint()
    say(failing(os.open, "a", os.O_RDONLY), [os.pread(one, 9, 0) for one in files])
    os.close(files.pop())  # to be moved it needs a number for a moment
    checkpoint()
    say([os.pread(one, 9, 0) for one in files])


def at_home() -> None:
    checkpoint()
    pairs = [os.pipe() for _one in range(40)]  # more than there are stand-ins
    for number, (_reading, writing) in enumerate(pairs):
        os.write(writing, b"%d" % number)
    say(b" ".join(os.read(reading, 9) for reading, _writing in pairs))
    left, right = socket.socketpair()
    left.sendall(b"over")
    say(right.recv(9), select.select([right], [left], [], 0)[1] == [left])
    os.close(left.detach())
    say(right.recv(9))  # its other end was closed
    checkpoint()
    say(read("/proc/self/status")[:5], os.path.exists("/etc/passwd"), len(read("/etc/passwd")) > 10)
    poll = select.poll()
    poll.register(pairs[0][0], select.POLLIN)
    poll.register(os.open("own", os.O_CREAT | os.O_RDWR), select.POLLIN)
    os.write(pairs[0][1], b"1")
    say(len(poll.poll(0)))
    for reading, writing in pairs:
        os.close(writing)
        say(os.read(reading, 5))
    checkpoint()
    say(os.read(pairs[1][0], 5))


def of_home() -> None:
    far = os.getcwd().partition("/cluster/")[0] + "/far"
    checkpoint()
    file, own = os.open(far, os.O_CREAT | os.O_RDWR | os.O_TRUNC), os.open("own", os.O_CREAT | os.O_RDWR)
    for _turn in range(2):
        for one in (file, own):
            say(os.write(one, b"content"), failing(os.ftruncate, one, 3), os.pread(one, 9, 0), os.fstat(one).st_size)
            say(failing(os.posix_fallocate, one, 0, 20), failing(os.fsync, one), os.pwritev(one, [b"a", b"bc"], 5), os.pread(one, 99, 0))
            say(os.lseek(one, 2, os.SEEK_SET), os.readv(one, [bytearray(3)]), os.lseek(one, 0, os.SEEK_CUR))
        checkpoint()
    os.unlink(far)


def unlinked() -> None:
    checkpoint()
    file = os.open("gone", os.O_CREAT | os.O_RDWR)
    os.write(file, b"still there")
    os.unlink("gone")
    say(os.pread(file, 99, 0), os.fstat(file).st_nlink)
    checkpoint()
    say(os.pread(file, 99, 0), os.write(file, b", and more"), os.pread(file, 99, 0), os.listdir("."))
    checkpoint()
    say(os.pread(file, 99, 0), os.listdir("."))


def nameless() -> None:
    checkpoint()
    first, second = os.open("gone", os.O_CREAT | os.O_RDWR), os.open("gone", os.O_WRONLY | os.O_APPEND)
    os.write(first, b"one")
    os.write(second, b" two")
    os.unlink("gone")
    reading, writing = os.pipe()
    say([len(part) for part in select.select([first, reading], [second], [], 0)], os.pread(first, 99, 0))
    os.lseek(first, 1, os.SEEK_SET)
    other = os.dup(first)
    say(other, os.read(other, 2), os.lseek(first, 0, os.SEEK_CUR), os.write(second, b" three"))
    os.fchmod(second, 0o640)
    seen = os.fstat(other)
    say(os.pread(first, 99, 0), seen.st_size, seen.st_nlink, oct(seen.st_mode), os.fstat(second).st_size)
    third = os.open("lost", os.O_CREAT | os.O_RDWR)
    os.write(third, b"sent" * 3)
    os.unlink("lost")
    say(os.sendfile(writing, third, 2, 4), os.read(reading, 9), os.lseek(third, 0, os.SEEK_CUR))
    fourth = os.open("own", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o200)
    os.write(fourth, b"x" * 5)
    os.unlink("own")
    for _turn in range(2):
        checkpoint()
        say(os.write(second, b"."), os.pread(other, 99, 0), os.lseek(first, 0, os.SEEK_CUR), os.write(third, b"!"))
        say(os.pread(third, 99, 10), failing(os.read, fourth, 1), os.write(fourth, b"y"), os.fstat(fourth).st_size)
        say(fcntl.fcntl(second, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND), oct(os.fstat(fourth).st_mode))


def other_names() -> None:
    checkpoint()
    file = os.open("draft", os.O_CREAT | os.O_RDWR)
    os.write(file, b"a letter")
    os.link("draft", "letter")
    os.unlink("draft")
    make("old", "old")
    old = os.open("old", os.O_RDWR)
    make("new", "new")
    os.rename("new", "old")
    os.mkdir("house")
    make("house/inside", "in")
    inside, house = os.open("house/inside", os.O_RDWR), os.open("house", os.O_RDONLY)
    os.rename("house/inside", "outside")
    os.rmdir("house")
    for _turn in range(3):
        checkpoint()
        os.write(file, b"!")
        os.write(old, b"+")
        os.write(inside, b"-")
        say(read("letter"), os.pread(old, 9, 0), read("old"), read("outside"), os.fstat(file).st_nlink)
        say(failing(os.listdir, house), sorted(os.listdir(".")))
    with open("deep", "w+") as deep:
        os.mkdir("room")
        os.rename("deep", "room/deep")
        os.unlink("room/deep")
        os.rmdir("room")
        deep.write("in no room")
        deep.flush()
        checkpoint()
        deep.seek(0)
        say(deep.read(), sorted(os.listdir(".")))


def directories() -> None:
    os.mkdir("below")
    make("below/there", "down")
    top = os.getcwd()
    checkpoint()
    os.chdir("below")
    say(read("there"), read("../below/there"), os.getcwd() == top + "/below")
    os.chdir("/")
    say(failing(open, "there"), os.path.exists("etc/passwd"), read(top + "/below/there"))
    checkpoint()
    say(os.getcwd(), failing(os.open, "there", os.O_RDONLY))
    os.chdir(top)
    make("new", "up")
    say(read("new"), read("./below/../new"))
    handle = os.open("below", os.O_RDONLY)
    say(os.listdir(handle), read("below/there"), os.open("there", os.O_RDONLY, dir_fd=handle) > 0)
    os.fchdir(handle)
    say(read("there"))
    checkpoint()
    say(read("there"), os.path.basename(os.getcwd()))


def links() -> None:
    make("target", "found")
    os.symlink("target", "near")
    os.symlink("/etc/passwd", "far")
    os.symlink("../here/target", "around")
    os.symlink("loop", "loop")
    for _turn in range(2):
        checkpoint()
        say(read("near"), read("around"), len(read("far")) > 10, failing(open, "loop"))
        say(stat.S_ISLNK(os.lstat("near").st_mode), os.stat("far").st_size == os.stat("/etc/passwd").st_size)
        file = os.open("near", os.O_RDONLY)
        mine, named = os.fstat(file), os.stat("target")
        say((mine.st_dev, mine.st_ino, mine.st_mtime_ns) == (named.st_dev, named.st_ino, named.st_mtime_ns))
        say(named.st_size, oct(named.st_mode), named.st_uid == os.getuid(), named.st_blksize > 0)
        os.close(file)


def rights() -> None:
    os.umask(0o027)
    checkpoint()
    make("a")
    say(oct(os.stat("a").st_mode), oct(os.umask(0o077)))
    make("b")
    checkpoint()
    make("c")
    os.chmod("c", 0o641)
    say(oct(os.stat("b").st_mode), oct(os.stat("c").st_mode), oct(os.umask(0)))
    make("d")
    say(oct(os.stat("d").st_mode))
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_APPEND):
        file = os.open("a", flags)
        seen = fcntl.fcntl(file, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
        say(seen, failing(os.read, file, 1), failing(os.write, file, b"x"), fcntl.fcntl(file, fcntl.F_GETFD))
        os.close(file)


def fewer_rights() -> None:
    checkpoint()
    file = os.open("readable", os.O_CREAT | os.O_RDWR, 0o444)
    os.write(file, b"one")
    checkpoint()
    os.write(file, b" two")
    say(os.pread(file, 99, 0), oct(os.stat("readable").st_mode), os.fstat(file).st_size)
    os.fchmod(file, 0)
    checkpoint()
    os.write(file, b" three")
    say(os.pread(file, 99, 0), oct(os.fstat(file).st_mode))


def interrupted() -> None:
    heard: list[str] = []

    def handler(_number: int, _frame: object) -> None:
        make("by-handler", f"{len(heard)}")
        heard.append(read("by-handler"))

    signal.signal(signal.SIGALRM, handler)
    checkpoint()
    reading, writing = os.pipe()
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    ready = select.select([reading], [], [], 0.3)[0]
    say(ready, heard)
    signal.setitimer(signal.ITIMER_REAL, 0.03, 0.03)
    total = 0
    while len(heard) < 10:
        make("busy", "x" * 100)
        total += len(read("busy")) + len(read("/etc/passwd")[:1])
    signal.setitimer(signal.ITIMER_REAL, 0)
    say(total % 101, failing(os.read, reading, 0))
    checkpoint()
    os.write(writing, b"end")
    say(os.read(reading, 9))


def shared() -> None:
    checkpoint()
    file = os.open("both", os.O_CREAT | os.O_RDWR)
    os.write(file, b"one two three")
    os.lseek(file, 4, os.SEEK_SET)
    reading, writing = os.pipe()
    say(os.sendfile(writing, file, None, 3), os.read(reading, 9), os.lseek(file, 0, os.SEEK_CUR))
    fcntl.flock(file, fcntl.LOCK_EX)
    other = os.open("both", os.O_RDWR)
    say(failing(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB))
    checkpoint()
    say(failing(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB), os.read(file, 9))
    with mmap.mmap(file, 13) as memory:
        say(bytes(memory[:3]))
    child = os.fork()
    if child == 0:
        os.write(file, b" child")
        os._exit(os.lseek(file, 0, os.SEEK_CUR))
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.lseek(file, 0, os.SEEK_CUR), read("both"))


def witness() -> Callable[..., str]:
    """Another process, which never moves: says whether a lock on a range can be had."""
    asking, asked = os.pipe()
    answering, answered = os.pipe()
    if os.fork() == 0:
        os.close(asked)
        with os.fdopen(asking) as questions:
            for line in questions:
                name, kind, start, length = line.split()
                file = os.open(name, os.O_RDWR)
                wanted = fcntl.LOCK_EX | fcntl.LOCK_NB
                if kind == "flock":
                    got = failing(fcntl.flock, file, wanted)
                else:
                    got = failing(fcntl.lockf, file, wanted, int(length), int(start))
                os.write(answered, b"locked\n" if got else b"free\n")
                os.close(file)
        os._exit(0)
    os.close(asking)
    os.close(answered)

    def ask(name: str, start: int = 0, length: int = 0, kind: str = "posix") -> str:
        os.write(asked, f"{name} {kind} {start} {length}\n".encode())
        return os.read(answering, 20).decode().strip()

    return ask


def locks() -> None:
    free = witness()
    make("file", "x" * 100)
    make("plain", "y")
    checkpoint()
    first = os.open("file", os.O_RDWR)
    fcntl.lockf(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    second = os.open("file", os.O_RDONLY)
    say(first, second, free("file"), free("plain"), os.read(second, 2))
    os.close(second)  # any descriptor of it
    say(free("file"), read("plain"), sorted(os.listdir(".")))
    fcntl.lockf(first, fcntl.LOCK_EX, 10, 20)
    other = os.dup(first)
    os.write(other, b"123")
    checkpoint()
    say(free("file", 0, 20), free("file", 20, 10), free("file", 30, 70), os.read(first, 3))
    third = os.open("file", os.O_RDWR)
    os.close(third)
    say(third, free("file"))
    os.lseek(first, 50, os.SEEK_SET)
    fcntl.lockf(first, fcntl.LOCK_EX, 10, 0, os.SEEK_CUR)
    say(free("file", 0, 50), free("file", 50, 10), free("file", 60, 40), os.lseek(other, 0, os.SEEK_CUR))
    os.close(other)
    say(free("file"))
    fcntl.flock(first, fcntl.LOCK_EX)
    say(free("file", kind="flock"))
    checkpoint()
    os.close(first)
    say(free("file", kind="flock"))
    before, locked = os.open("file", os.O_RDONLY), os.open("file", os.O_RDWR)
    fcntl.lockf(locked, fcntl.LOCK_EX)
    say(free("file"), os.pread(before, 3, 0))
    os.close(before)
    say(free("file"))
    make("new", "z")
    os.chdir("..")
    say(read("here/new"), failing(open, "new"))
    os.chdir("here")
    gone = os.open("gone", os.O_CREAT | os.O_RDWR)
    os.write(gone, b"still there")
    os.unlink("gone")
    fcntl.lockf(gone, fcntl.LOCK_EX)
    say(os.pread(gone, 99, 0), read("new"))


globals()[sys.argv[1]]()

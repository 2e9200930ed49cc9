"""Calls about sockets, POSIX message queues, System V semaphores and messages: they live at home."""

from __future__ import annotations

from errno import EINVAL

from omtools.i18n import N_
from omtools.migration.calls.commands import MSGCTL, SEMCTL
from omtools.migration.calls.messages import (
    MSG_DONTWAIT,
    SOCKADDR_STORAGE,
    Mailbox,
    Message,
    Messages,
    NoZeroCopy,
    Sockaddr,
)
from omtools.migration.calls.model import OutRule, Refusal
from omtools.migration.calls.options import GetOption, SetOption
from omtools.migration.calls.shapes import Arg, Deadline, InBytes, OutBytes, Text, ValueResult
from omtools.migration.calls.spec import Spec, at_once, forward
from omtools.migration.calls.structures import Notification

RET = OutRule.RET
_DONTWAIT = MSG_DONTWAIT

SEMBUF = 6          # linux/sem.h, struct sembuf
SEMOPM = 32000      # ipc/sem.c: no more operations than one set can have semaphores (SEMMSL)
MSGMAX = 1 << 24    # far above any msgmax or msgsize_max (ipc/msgutil.c, ipc/mqueue.c)
MQ_ATTR = 64        # linux/mqueue.h, struct mq_attr
TIMESPEC = 16       # linux/time_types.h
IPC_NOWAIT = 0x800  # linux/ipc.h


def _address_out(arg: int, length: int) -> ValueResult:
    return ValueResult(arg, length, SOCKADDR_STORAGE)


SOCKETS: dict[int, tuple[str, Spec]] = {
    41: ("socket", at_once()),
    42: ("connect", forward(Sockaddr(1, 2))),
    43: ("accept", forward(_address_out(1, 2))),
    288: ("accept4", forward(_address_out(1, 2))),
    44: ("sendto", forward(NoZeroCopy(3), InBytes(1, Arg(2)), Sockaddr(4, 5), quick=(3, _DONTWAIT))),
    45: ("recvfrom", forward(_address_out(4, 5), OutBytes(1, Arg(2), RET), quick=(3, _DONTWAIT))),
    46: ("sendmsg", forward(NoZeroCopy(2), Message(1, receive=False), quick=(2, _DONTWAIT))),
    47: ("recvmsg", forward(Message(1, receive=True), quick=(2, _DONTWAIT))),
    307: ("sendmmsg", forward(NoZeroCopy(3), Messages(receive=False), quick=(3, _DONTWAIT))),
    299: (
        "recvmmsg",
        # what is left of the timeout is written only if messages came (net/socket.c, __sys_recvmmsg)
        forward(Deadline(4, 1, OutRule.POSITIVE), Messages(receive=True), quick=(3, _DONTWAIT)),
    ),
    48: ("shutdown", at_once()),
    49: ("bind", at_once(Sockaddr(1, 2))),
    50: ("listen", at_once()),
    51: ("getsockname", at_once(_address_out(1, 2))),
    52: ("getpeername", at_once(_address_out(1, 2))),
    53: ("socketpair", at_once(OutBytes(3, 8))),
    54: ("setsockopt", at_once(SetOption())),
    55: ("getsockopt", at_once(GetOption())),
}

QUEUES: dict[int, tuple[str, Spec]] = {
    240: ("mq_open", at_once(Text(0), InBytes(3, MQ_ATTR))),
    241: ("mq_unlink", at_once(Text(0))),
    # their timeouts are points in time, not spans: nothing to shorten when a call goes on
    242: ("mq_timedsend", forward(InBytes(1, Arg(2, limit=MSGMAX)), InBytes(4, TIMESPEC))),
    243: (
        "mq_timedreceive",
        forward(InBytes(4, TIMESPEC), OutBytes(1, Arg(2, limit=MSGMAX), RET), OutBytes(3, 4)),
    ),
    244: ("mq_notify", at_once(Notification(1))),
    245: ("mq_getsetattr", at_once(InBytes(1, MQ_ATTR), OutBytes(2, MQ_ATTR))),
    64: ("semget", at_once()),
    65: ("semop", forward(InBytes(1, Arg(2, SEMBUF, wide=False, limit=SEMOPM)))),
    220: ("semtimedop", forward(InBytes(1, Arg(2, SEMBUF, wide=False, limit=SEMOPM)), Deadline(3))),
    66: ("semctl", SEMCTL),
    68: ("msgget", at_once()),
    69: (
        "msgsnd",
        forward(InBytes(1, Arg(2, limit=MSGMAX, over=EINVAL, extra=8)), quick=(3, IPC_NOWAIT)),
    ),
    70: ("msgrcv", forward(Mailbox(), quick=(4, IPC_NOWAIT))),
    71: ("msgctl", MSGCTL),
}

_SHM = Refusal(N_("it uses System V shared memory ({call})"))
SHARED_MEMORY: dict[int, tuple[str, Spec]] = {
    29: ("shmget", _SHM),
    30: ("shmat", _SHM),
    31: ("shmctl", _SHM),
    67: ("shmdt", _SHM),
}

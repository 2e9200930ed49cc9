"""A forwarded call on its way, as a pure state machine: what happened to it here, and what at home.

The two ends live apart. Here the caller may be interrupted (its notification is then dead) and come back
with the same call; at home the deputy may have finished it or broken it off. Only together they decide.
"""

from __future__ import annotations

from dataclasses import dataclass

from omtools.image.model import Resume
from omtools.linux.seccomp import Notification
from omtools.linux.x86_64 import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, ERESTARTNOINTR
from omtools.migration.calls.direct import Touch
from omtools.migration.calls.model import CpuTime, Forward
from omtools.migration.calls.plan import with_timeout

_SECOND = 1_000_000_000


@dataclass(slots=True)
class Outcome:
    """What the deputy says: a result, or that it broke the call off.

    Attributes:
        result: of the call, or the kernel's -ERESTART code.
        data: bytes of the out ranges.
        broken: it is no result.
        nanoseconds: how long a broken call had lasted.
    """

    result: int
    data: bytes
    broken: bool = False
    nanoseconds: int = 0


@dataclass(slots=True)
class Flight:
    """One call: from its notification to its end.

    Attributes:
        serial: names it on the link.
        notification: as it was trapped last.
        forward: what the deputy does.
        cpu: the plan, for a call that asks for CPU time.
        alive: the caller waits in the notification; else it was interrupted.
        outcome: what the deputy said.
        touch: what it means for direct descriptors.
        begun: when it was sent, by `time.perf_counter_ns`.
    """

    serial: int
    notification: Notification
    forward: Forward
    cpu: CpuTime | None = None
    alive: bool = True
    outcome: Outcome | None = None
    touch: Touch | None = None
    begun: int = 0

    def same_call(self, other: Notification) -> bool:
        """The interrupted caller has come back."""
        mine = self.notification
        return (mine.nr, mine.address, mine.args) == (other.nr, other.address, other.args)

    def come_back(self, notification: Notification) -> None:
        """It has: the call goes on where it was."""
        self.notification = notification
        self.alive = True

    def again(self) -> Forward:
        """The call to forward once more after it was broken off, with what is left of its timeout."""
        left = self.left
        return self.forward if left is None else with_timeout(self.forward, left)

    @property
    def left(self) -> int | None:
        """Nanoseconds left of its timeout after it was broken off, None if it has none."""
        timeout, outcome = self.forward.timeout, self.outcome
        if timeout is None or outcome is None:
            return None
        if timeout.offset >= 0:
            raw = self.forward.arena[timeout.offset : timeout.offset + 16]
            if len(raw) < 16:
                return None
            seconds, units = (int.from_bytes(part, "little", signed=True) for part in (raw[:8], raw[8:]))
            whole = seconds * _SECOND + units * timeout.unit
        else:
            milliseconds = self.forward.args[timeout.argument] & 0xFFFFFFFF
            if milliseconds >> 31:
                return None  # for ever
            whole = milliseconds * timeout.unit
        return max(0, whole - outcome.nanoseconds)

    @property
    def resume(self) -> Resume | None:
        """For an image: the broken call with what is left, if its timeout does not stand in memory."""
        if self.outcome is not None and not self.outcome.broken:
            return Resume.rest(self.notification.nr, self.outcome.result, self.notification.args[2])
        timeout = self.forward.timeout
        left = self.left
        if timeout is None or left is None or (timeout.offset >= 0 and self._updated):
            return None
        return Resume(self.notification.nr, left, timeout.argument, timeout.offset >= 0)

    @property
    def _updated(self) -> bool:
        """The kernel writes the rest of the timeout to the caller: the call restarts rightly by itself."""
        at = self.forward.timeout.offset if self.forward.timeout else -1
        return any(out.offset == at for out in self.forward.outs)

    @property
    def restart_code(self) -> int:
        """What the interrupted caller's rax must be: the deputy's code, in a form that works here.

        A restart block is the deputy's own and means nothing here; with a handler -ERESTARTNOHAND ends the
        call by EINTR just the same.
        """
        outcome = self.outcome
        code = outcome.result if outcome is not None and outcome.broken else -ERESTARTNOINTR
        return -ERESTARTNOHAND if code == -ERESTART_RESTARTBLOCK else code

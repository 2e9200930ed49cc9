"""The host's side of a migration: whether a guest may come, and a keeper to receive it."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from omtools.agent import api, log
from omtools.agent.callers import Caller, name_of, user_name
from omtools.agent.certificates import make_identity
from omtools.agent.config import Configuration
from omtools.agent.engine import Engine
from omtools.agent.gauge import INTERVAL, Gauge
from omtools.agent.keepers import Keeper, Keepers
from omtools.agent.twins import Twins
from omtools.cluster.load import reserve_of
from omtools.cluster.process_settings import ProcessSettings
from omtools.errors import BadRequest, NodeFull, NodeRefuses, OmError
from omtools.i18n import _
from omtools.image.platform import Platform, this_platform
from omtools.migration.orders import Credentials, GuestOrder
from omtools.migration.reach import Access, Reach

_NOT_YET = frozenset({"linking", "freezing", "sending"})  # phases in which a guest's memory is only promised
_LOOPBACK = "127.0.0.1"
_WILDCARDS = ("0.0.0.0", "::")
_SAMPLED_WITHIN = 2 * INTERVAL  # else the load cannot be read
PATIENCE = 20.0  # of a guest's keeper, for the deputy's to connect


@dataclass(frozen=True, slots=True)
class _Expected:
    """What this agent knows of a guest that its keeper does not say.

    Attributes:
        needs: bytes of memory.
        port: where its keeper listens.
        tunnelled: its link runs through this agent's SSH server.
    """

    needs: int
    port: int
    tunnelled: bool


class Guests:
    """Guests on this node, wanted and unwanted."""

    def __init__(  # noqa: PLR0917 - the agent's parts
        self,
        configuration: Configuration,
        engine: Engine,
        keepers: Keepers,
        gauge: Gauge,
        reach: Callable[[str], Reach],
        access: Callable[[], Access],
        judge: Callable[[api.PrepareGuest, float, int], str],
        arriving: Callable[[str, ProcessSettings], None],
        twins: Twins,
    ) -> None:
        """What the agent has to say.

        `reach` tells how a guest's files are reached, given where its home has all nodes' files, `access` how
        much of that is allowed; `judge` why a process that a balancer offers is not welcome, given the tasks
        and bytes that are still to come.
        `arriving` is told a guest's migration and settings.
        """
        self._configuration = configuration
        self._engine = engine
        self._keepers = keepers
        self._gauge = gauge
        self._reach = reach
        self._access = access
        self._judge = judge
        self._arriving_with = arriving
        self._twins = twins
        self._platform: Platform | None = None
        self._expected: dict[Path, _Expected] = {}  # by the keeper's socket

    @property
    def platform(self) -> Platform:
        """This machine; it does not change, so it is looked at once."""
        if self._platform is None:
            self._platform = this_platform()
        return self._platform

    def permits(self, host: str, port: int) -> bool:
        """Whether a peer's tunnel may lead there: only to a keeper that was made for a peer's guest."""
        if host not in (self._configuration.listen, self._configuration.node.address, _LOOPBACK):
            return False
        for control, expected in self._expected.items():
            if expected.port == port:
                self._expected[control] = replace(expected, tunnelled=True)
                return True
        return False

    def tunnelled(self) -> list[Keeper]:
        """Keepers of guests whose link runs through this agent."""
        return [
            keeper
            for keeper in self._keepers.all()
            if keeper.state.role == "guest"
            and (expected := self._expected.get(keeper.path))
            and expected.tunnelled
        ]

    def gone(self, keeper: Keeper) -> None:
        """That keeper is no more."""
        self._expected.pop(keeper.path, None)

    async def prepare(self, wanted: api.PrepareGuest, caller: Caller, blocked: bool) -> api.GuestReady:
        """Start a keeper for a guest, or say why not.

        Raises:
            OmError: NotAllowed, NodeRefuses, NodeFull, KernelDiffers, ProcessorLacks, or the engine's.
        """
        caller.check_node("prepare_guest", wanted.home)
        if (why := self._unwelcome(wanted, blocked)) is not None:
            raise why
        control = self._keepers.path("guest", wanted.migration, wanted.leg)
        if control in self._expected or control.exists():
            raise BadRequest(why=_("migration {name} is under way already").format(name=wanted.migration))
        # Entered before the first await: two guests must not be promised the same memory.
        self._expected[control] = _Expected(wanted.resident_bytes, 0, tunnelled=False)
        try:
            with log.about(pid=wanted.pid, mig=wanted.migration):
                return await self._launch(wanted, control)
        except BaseException:
            self._expected.pop(control, None)
            raise

    def _unwelcome(  # noqa: PLR0911 - one return for each reason
        self, wanted: api.PrepareGuest, blocked: bool
    ) -> OmError | None:
        own = self._configuration.node
        if blocked:
            return NodeRefuses(node=own.name, why=_("it is blocked; `mosctl noblock` there lifts that"))
        if wanted.home == own.number:
            return BadRequest(why=_("node {n} asks itself to host its process").format(n=own.number))
        if wanted.least_rate and (why := self._judge(wanted, self._arriving(), self._promised())):
            return NodeRefuses(node=own.name, why=why, busy=1)
        by_itself = wanted.least_rate > 0
        if differs := self.platform.check_guest_of(wanted.platform, own.name, by_itself):
            return differs
        if why := wrong_user(wanted.uid, wanted.user):
            return NodeRefuses(node=own.name, why=why)
        memory = self._gauge.memory()
        reserve = self._configuration.settings.reserve
        reserve = reserve if reserve >= 0 else reserve_of(memory.total)
        if not memory.room_for(wanted.resident_bytes, reserve, self._promised()):
            free = max(memory.available - reserve - self._promised(), 0)
            return NodeFull(node=own.name, free_mb=free >> 20, needed_mb=-(-wanted.resident_bytes >> 20))
        return None

    def _promised(self) -> int:
        """Memory of guests that have not come yet."""
        return sum(expected.needs for expected in self._on_their_way())

    @property
    def expected(self) -> int:
        """How many guests have not come yet."""
        return len(self._on_their_way())

    def _arriving(self) -> float:
        """Tasks that the load does not show yet: guests to come, and those come since it was sampled."""
        sampled = max(self._gauge.sampled, time.monotonic() - _SAMPLED_WITHIN)
        come = sum(
            keeper.state.role == "guest" and keeper.away_since > sampled for keeper in self._keepers.all()
        )
        return float(self.expected + come)

    def _on_their_way(self) -> list[_Expected]:
        arrived = {keeper.path for keeper in self._keepers.all() if keeper.state.phase not in _NOT_YET}
        return [expected for control, expected in self._expected.items() if control not in arrived]

    async def _launch(self, wanted: api.PrepareGuest, control: Path) -> api.GuestReady:
        own = self._configuration.node
        identity = make_identity(f"openMosix {wanted.migration} guest")
        twins = await asyncio.to_thread(self._twins.here, wanted.files, wanted.uid)
        address = self._configuration.listen if wanted.link != "ssh" else _LOOPBACK
        order = GuestOrder(
            migration=wanted.migration,
            pid=wanted.pid,
            uid=wanted.uid,
            gid=wanted.gid,
            home=wanted.home,
            node=own.number,
            hostname=wanted.hostname,
            address=address,
            credentials=Credentials(identity.certificate, identity.key, wanted.certificate),
            control=str(control),
            patience=PATIENCE,
            debug=self._configuration.debug,
            reach=self._reach(wanted.mount),
            access=self._access(),
            silence=self._configuration.settings.silence,
            twins=[twin for _at, twin in twins],
        )
        launched = await self._engine.launch(self._configuration.run, order)
        self._expected[control] = replace(self._expected[control], port=launched.port)
        await self._keepers.adopt(order, own.name)
        self._arriving_with(wanted.migration, wanted.settings)
        log.info(
            "a guest is expected",
            mig=wanted.migration,
            pid=wanted.pid,
            uid=wanted.uid,
            home=wanted.home,
            port=launched.port,
            keeper=launched.pid,
        )
        return api.GuestReady(
            launched.port,
            identity.certificate,
            _LOOPBACK if address in _WILDCARDS else address,
            [at for at, _twin in twins],
        )


def wrong_user(uid: int, user: str) -> str:
    """Why a process of that uid (called `user` at its home) cannot be here, "" if it can.

    uids are the same on the whole cluster, as openMosix wanted it. A uid that nobody has here is harmless;
    one that is somebody else's is not: that person could stop and inspect the guest.
    """
    if os.geteuid() != 0:
        if uid == os.geteuid():
            return ""
        return _("the agent there runs for {user} (uid {uid}) only").format(
            user=user_name(os.geteuid()), uid=os.geteuid()
        )
    here = name_of(uid)
    if here and user and here != user:
        return _("uid {uid} is {here} there, and {user} at home").format(uid=uid, here=here, user=user)
    if user:
        try:
            other = pwd.getpwnam(user).pw_uid
        except KeyError:
            return ""
        if other != uid:
            return _("{user} has the uid {other} there, and {uid} at home").format(
                user=user, other=other, uid=uid
            )
    return ""

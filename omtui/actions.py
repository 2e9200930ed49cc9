"""What can be done, each with the command line that does the same. Pure.

A switch that the API learns is one more line of `SWITCHES`; those that it does not know are not offered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from omtools.agent import api
from omtools.cluster.load import BLOCK, LSTAY, NOMFS, QUIET, STAY
from omtools.errors import OmError
from omtools.i18n import N_, _


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch of the node.

    Attributes:
        name: in the API.
        key: that toggles it.
        what: it does when it is on.
        otherwise: what holds when it is off.
        bit: of the status; 0: it stands in the node's report under its name.
        inverted: the bit is set when it is off.
    """

    name: str
    key: str
    what: str
    otherwise: str
    bit: int = 0
    inverted: bool = False

    def meaning(self, on: bool) -> str:
        """What that position does, for people."""
        return _(self.what if on else self.otherwise)

    def is_on(self, status: int, report: api.NodeReport | None) -> bool:
        """Whether it is on."""
        if not self.bit:
            return bool(getattr(report, self.name, False))
        return bool(status & self.bit) != self.inverted


SWITCHES = (
    Switch("block", "b", N_("accept no guests"), N_("accept guests"), BLOCK),
    Switch("stay", "s", N_("this node's processes stay at home"), N_("its processes may leave"), STAY),
    Switch("lstay", "l", N_("local processes stay, guests may go on"), N_("local ones may leave"), LSTAY),
    Switch("quiet", "u", N_("send no news to other nodes"), N_("send news to other nodes"), QUIET),
    Switch(
        "mfs",
        "f",
        N_("give this node's files to other nodes"),
        N_("keep this node's files from other nodes"),
        NOMFS,
        inverted=True,
    ),
    Switch(
        "dfsa",
        "d",
        N_("migrated processes open files where they run"),
        N_("migrated processes open files at home"),
    ),
)


def known_switches() -> list[Switch]:
    """Those that this version of the API knows."""
    names = get_args(api.SwitchName)
    return [switch for switch in SWITCHES if switch.name in names]


SignalName = Literal["STOP", "CONT", "TERM", "KILL"]
SIGNALS: tuple[SignalName, ...] = ("STOP", "CONT", "TERM", "KILL")


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal for a process of this machine, as kill(1) sends it."""

    pid: int
    name: SignalName


@dataclass(frozen=True, slots=True)
class Renice:
    """Another priority for a process of this machine, as renice(1) sets it."""

    pid: int
    nice: int


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do.

    Attributes:
        command: the command line that does the same, "" if none does.
        request: for the agent, or for this machine's kernel.
        done: what to say when it is done, for answers that tell nothing.
        question: to ask before, "" if it can simply be undone.
        asks: it changes nothing.
    """

    command: str
    request: api.Request | Signal | Renice
    done: str = ""
    question: str = ""
    asks: bool = False


def migrate(pid: int, to: str) -> Action:
    """Move a process to a node, "home", or where it runs best ("balance")."""
    return Action(f"migrate {pid} {to}", api.Migrate(pid, to))


def lock(pid: int, locked: bool) -> Action:
    """Let the balancer leave a process alone, or not."""
    said = (
        _("The balancer leaves process {pid} alone.") if locked else _("The balancer may move process {pid}.")
    )
    verb = "lock" if locked else "unlock"
    return Action(f"mosctl {verb} {pid}", api.Lock(pid, locked), said.format(pid=pid))


def _on(node: str) -> str:
    """Of a command line: which node, if it is not this one."""
    return f" --on {node}" if node else ""


def expel(node: str = "") -> Action:
    """Send all guests of a node home."""
    question = _("Send all guests home and accept no more of them?")
    return Action(f"mosctl expel{_on(node)}", api.Expel(node), question=question)


def bring(node: str = "") -> Action:
    """Call all processes of a node home."""
    question = _("Call all processes of this node home and keep them here?")
    return Action(f"mosctl bring{_on(node)}", api.Bring(node), question=question)


def set_speed(speed: int, node: str = "") -> Action:
    """Tell others another speed of a node."""
    said = (
        _("Other nodes are told a speed of {speed}.")
        if speed
        else _("Other nodes are told the measured speed.")
    )
    request = api.SetSpeed(speed, node)
    return Action(f"mosctl setspeed {speed}{_on(node)}", request, said.format(speed=speed))


def set_yardstick(speed: int, node: str = "") -> Action:
    """Set the processor by which a node shows load and speed."""
    said = _("The yardstick is a processor of speed {speed}.").format(speed=speed)
    return Action(f"mosctl setyard {speed}{_on(node)}", api.Tune(node, yardstick=speed), said)


def set_decay(interval_s: float, slow: int, fast: int, node: str = "") -> Action:
    """Set how fast a node forgets what processes did."""
    decay = api.NodeDecay(interval_s, slow, fast)
    command = f"mosctl setdecay {interval_s:g} {slow} {fast}{_on(node)}"
    return Action(command, api.SetDecay(decay, node), decay_sentence(decay))


def ask_decay(node: str = "") -> Action:
    """How fast a node forgets what processes did."""
    return Action(f"mosctl getdecay{_on(node)}", api.GetDecay(node), asks=True)


def ask_tuning(node: str = "") -> Action:
    """What moving and forwarding cost a node, and what guests may take of it."""
    return Action(f"mosctl gettune{_on(node)}", api.Tune(node), asks=True)


LIMITS = {"load": 1_000_000, "cpu": 100, "guests": 65535}  # and the highest that makes sense


def limit(given: Mapping[str, int], node: str = "") -> Action:
    """Set what guests may take of a node: some of `LIMITS`, -1 for none."""
    words = "".join(f" --{name} {value if value >= 0 else 'off'}" for name, value in given.items())
    request = api.Tune(
        node, load_limit=given.get("load"), cpu_limit=given.get("cpu"), guest_limit=given.get("guests")
    )
    return Action(f"moslimit{words}{_on(node)}", request, asks=not given)


def signal(pid: int, name: SignalName) -> Action:
    """Stop, continue or end a process."""
    question = _("Send SIG{name} to process {pid}?").format(name=name, pid=pid)
    said = _("SIG{name} was sent to process {pid}.").format(name=name, pid=pid)
    return Action(f"kill -{name} {pid}", Signal(pid, name), said, "" if name == "CONT" else question)


def renice(pid: int, nice: int) -> Action:
    """Give a process another priority."""
    said = _("Process {pid} has the nice value {nice}.").format(pid=pid, nice=nice)
    return Action(f"renice -n {nice} -p {pid}", Renice(pid, nice), said)


def switch(row: Switch, on: bool, node: str = "") -> Action:
    """Set a switch of a node."""
    verb = row.name if on else f"no{row.name}"
    state = _("on") if on else _("off")
    said = _("{name} is {state}: {what}.").format(name=row.name, state=state, what=row.meaning(on))
    request = api.Switch(row.name, on, node)  # type: ignore[arg-type]  # of the API's own names
    return Action(f"mosctl {verb}{_on(node)}", request, said)


def moved_sentence(moved: api.Moved, source: str, target: str) -> str:
    """What came of a migration."""
    return _("Process {pid} moved from {source} to {target}: {size:.1f} MB, frozen {frozen:.0f} ms.").format(
        pid=moved.pid, source=source, target=target, size=moved.bytes / 1e6, frozen=moved.frozen_ms
    )


def cleared_sentence(cleared: api.Cleared) -> str:
    """What came of sending or calling home."""
    said = _("{n} processes went home.").format(n=cleared.moved)
    if cleared.failures:
        why = OmError.from_wire(cleared.failures[0])
        said += " " + _("{n} did not: {why}").format(n=len(cleared.failures), why=why)
    return said


def tuned_sentence(tuned: api.Tuned) -> str:
    """What a node takes moving and forwarding to cost, and what guests may take of it."""
    said = _("A move costs {ms:.1f} ms and the time of its bytes, a forwarded call {us:.0f} µs.").format(
        ms=tuned.fixed_s * 1e3, us=tuned.call_s * 1e6
    )
    found = {"load": tuned.load_limit, "cpu": tuned.cpu_limit, "guests": tuned.guest_limit}
    limits = ", ".join(f"{name} {value}" for name, value in found.items() if value >= 0)
    if not limits:
        return said + " " + _("Guests have no limits.")
    return said + " " + _("Guests' limits: {limits}.").format(limits=limits)


def decay_sentence(decay: api.NodeDecay) -> str:
    """How fast a node forgets what processes did."""
    said = _("Every {interval:g} s, {slow} of 1000 are kept (slow decay) or {fast} (fast decay).")
    return said.format(interval=decay.interval_s, slow=decay.slow, fast=decay.fast)

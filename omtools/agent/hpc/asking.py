"""What each file says and does, by questions to the agent, with the rights of who asks."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from omtools.agent import api
from omtools.agent.client import Client
from omtools.agent.hpc import node, words
from omtools.agent.hpc.tree import Group, Spot
from omtools.cluster.load import BLOCK, LSTAY, NOMFS, QUIET, STAY
from omtools.errors import NoSuchProcess, OmError

_R = TypeVar("_R")
_PATIENCE = 3.0  # seconds for the agent to answer a question about this node
_FIRST_WORD = 1.0  # seconds in which a move that is refused says so to who wrote
_UNDER_WAY = 64  # moves of one user that were asked for here and have not ended
_BITS = {"block": BLOCK, "lstay": LSTAY, "nomfs": NOMFS, "quiet": QUIET, "stay": STAY}
# By file: what `api.Tune` calls it, and the highest that it can be.
_TUNED = {
    "cpulimit": ("cpu_limit", 100),
    "loadlimit": ("load_limit", 1_000_000),
    "sspeed": ("yardstick", 10_000_000),
}
# Kept without effect: by file, the key of openmosix.config, and what is said while nobody has set it.
_KEPT = {"dfsalinks": ("DFSALINKS", ""), "gateways": ("MOSGATES", "0"), "mfscosts": ("MFSCOSTS", "")}
_DECAYS = {"decay-interval": "interval_s", "fast-decay": "fast", "slow-decay": "slow"}


@dataclass(frozen=True, slots=True)
class Who:
    """Who reads or writes.

    Attributes:
        uid: that user.
        pid: that process, 0 if it is not of this node.
    """

    uid: int
    pid: int


class Asking:
    """The agent, asked by files.

    Args:
        agent: path of its socket.
        log: is told what went wrong behind somebody's back.
        directory: its configuration's.
    """

    def __init__(
        self, agent: Path, log: Callable[[str, BaseException], object], directory: Path = Path("/nowhere")
    ) -> None:
        self._agent = agent
        self._directory = directory
        self._log = log
        self._moving: dict[int, tuple[int, str]] = {}  # by pid: who wanted it, and where to
        self._clearing: set[str] = set()
        self._lock = threading.Lock()

    # -- what is there

    def exists(self, spot: Spot, who: Who) -> bool:
        """Whether there is that node, guest or process; raises OSError if the agent cannot say."""
        if spot.group is Group.PROCESS:
            return os.path.isdir(f"/proc/{spot.key}")
        if spot.group is Group.NODE:
            return spot.key in self.keys(Group.NODES, who)
        if spot.group is Group.GUEST:
            return any(guest.local_pid == spot.key for guest in self._guests(who))
        return True

    def keys(self, group: Group, who: Who) -> list[int]:
        """The numbers in a directory: processes, nodes, guests."""
        if group is Group.TOP:
            return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        if group is Group.NODES:
            return sorted(node.number for node in self._ask(who, api.Nodes(), api.NodeList).nodes)
        if group is Group.REMOTE:
            return sorted(guest.local_pid for guest in self._guests(who))
        return []

    def owner(self, spot: Spot) -> tuple[int, int]:
        """Uid and gid of who owns a directory and its files."""
        if spot.group in (Group.PROCESS, Group.GUEST):
            try:
                found = os.stat(f"/proc/{spot.key}")
            except OSError:
                raise words.failure(errno.ESRCH) from None
            return found.st_uid, found.st_gid
        return os.geteuid(), os.getegid()

    # -- reading

    def read(self, spot: Spot, who: Who) -> str:
        """The text of a file, without the end of its last line; raises OSError."""
        match spot.group:
            case Group.ADMIN:
                return self._admin(spot.name, who)
            case Group.DECAY:
                return self._decay(spot.name, who)
            case Group.NODE:
                return self._node(spot, who)
            case Group.GUEST:
                return self._guest(spot, who)
            case _:
                return self._process(spot, who)

    def _admin(self, name: str, who: Who) -> str:  # noqa: PLR0911 - one for each kind of file
        if name == "config":
            return words.map_of(self._ask(who, api.Nodes(), api.NodeList))
        if name in _KEPT:
            return node.kept(self._directory, *_KEPT[name])
        if name in _DECAYS:
            value = getattr(self._ask(who, api.GetDecay(), api.NodeDecay), _DECAYS[name])
            return f"{value:g}"
        if name in ("bring", "expel"):
            return str(int(name in self._clearing))
        if name in _TUNED or name == "overheads":
            tuned = self._ask(who, api.Tune(), api.Tuned)
            return words.overheads_of(tuned) if name == "overheads" else str(getattr(tuned, _TUNED[name][0]))
        report = self._ask(who, api.NodeInfo(), api.NodeReport)
        if name in _BITS:
            return str(int(bool(report.status & _BITS[name])))
        return {
            "mospe": str(report.number),
            "speed": str(report.speed),
            "version": f"openMosix in user space {report.version} "
            f"DFSA={int(report.dfsa)} MFS={int(not report.status & NOMFS)}",
        }[name]

    def _decay(self, name: str, who: Who) -> str:
        settings = self._ask(who, api.GetProcess(_caller(who)), api.ProcessSettings)
        return str(
            int({
                "clear": False,
                "cpujob": settings.hint == "cpu",
                "iojob": settings.hint == "io",
                "fast": settings.decay == "fast",
                "slow": settings.decay == "slow",
            }[name])
        )  # fmt: skip

    def _node(self, spot: Spot, who: Who) -> str:
        told = self._ask(who, api.Views(), api.NodeViews)
        views = [view for view in told.nodes if view.number == spot.key]
        if not views:
            raise words.failure(errno.ENOENT)
        # What is known of others is some seconds old; of itself a node knows the present.
        here = spot.key == told.own
        view = self._ask(who, api.NodeInfo(), api.NodeReport) if here else views[0]
        return str({
            "CPUs": view.cpus,
            "load": round(view.load),
            "mem": view.mem_available,
            "rmem": view.mem_free,
            "speed": view.speed,
            "status": view.status if here else words.status_of(views[0]),
            "tmem": view.mem_total,
            "util": view.util,
        }[spot.name])  # fmt: skip

    def _guest(self, spot: Spot, who: Who) -> str:
        if spot.name in ("goto", "migrate"):
            return self._pending(spot.key)
        guest = next((guest for guest in self._guests(who) if guest.local_pid == spot.key), None)
        if guest is None:
            raise words.failure(errno.ESRCH)
        if spot.name == "from":
            return str(guest.home)
        if spot.name == "identity":
            return f"pid={guest.pid} home={guest.home} uid={guest.uid} migration={guest.migration}"
        try:
            if spot.name == "statm":
                return Path(f"/proc/{spot.key}/statm").read_text().rstrip("\n")
            fields = Path(f"/proc/{spot.key}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            raise words.failure(errno.ESRCH) from None
        return f"utime={fields[11]} stime={fields[12]}"  # clock ticks; proc_pid_stat(5)

    def _process(self, spot: Spot, who: Who) -> str:
        pid, name = spot.key, spot.name
        if name in ("goto", "migrate"):
            return self._pending(pid)
        if name in ("where", "nmigs", "cantmove"):
            found = self._ask(who, api.Inspect(pid, survey=name == "cantmove"), api.Inspected)
            if name == "where":
                return str(0 if found.where == found.home else found.where)
            return str(found.moves) if name == "nmigs" else found.cannot
        settings = self._ask(who, api.GetProcess(pid), api.ProcessSettings)
        return {
            "lock": str(int(bool(settings.locked))),
            "migfilter": str(int(bool(settings.migfilter))),
            "mignodes": words.mask_of_nodes(settings.mignodes or ()),
            "migpolicy": str(int(settings.migpolicy == "allow")),
            "selected": str(settings.selected or 0),
        }[name]

    def _pending(self, pid: int) -> str:
        """Where a process is on its way to by somebody's writing, 0: nowhere."""
        _uid, to = self._moving.get(pid, (0, "0"))
        return to

    # -- writing

    def write(self, spot: Spot, text: str, who: Who) -> None:
        """Do what was written into a file; raises OSError."""
        match spot.group:
            case Group.ADMIN:
                self._set_admin(spot.name, text, who)
            case Group.DECAY:
                self._set_decay(spot.name, words.flag(text), who)
            case _ if spot.name in ("goto", "migrate"):
                self._move(spot.key, words.target(text), who)
            case _:
                self._set_process(spot, text, who)

    def _set_admin(self, name: str, text: str, who: Who) -> None:
        if name in ("bring", "expel"):
            if words.flag(text):
                self._clear(name, who)
        elif name == "mospe":
            self._leave(words.whole(text), who)
        elif name == "config":
            own = self._ask(who, api.Nodes(), api.NodeList).own
            node.install_map(self._directory, text, own)
            node.tell_agent(self._agent, signal.SIGUSR1)
        elif name in _KEPT:
            word = str(words.whole(text, 0, 2)) if name == "gateways" else words.plain(text)
            node.keep(self._directory, _KEPT[name][0], word)
        elif name == "speed":
            self._ask(who, api.SetSpeed(words.whole(text, 0, 10_000_000)), api.Done)
        elif name == "overheads":
            self._ask(who, words.overheads(text), api.Tuned)
        elif name in _TUNED:
            field, most = _TUNED[name]
            unlimited = text.strip() == "-1" and name != "sspeed"
            value = -1 if unlimited else words.whole(text, int(name == "sspeed"), most)
            self._ask(who, msgspec.structs.replace(api.Tune(), **{field: value}), api.Tuned)
        elif name == "nomfs":
            self._ask(who, api.Switch("mfs", not words.flag(text)), api.Done)
        elif name in _DECAYS:
            value = words.whole(text, 1, 86400) if name == "decay-interval" else words.whole(text, 0, 1000)
            old = self._ask(who, api.GetDecay(), api.NodeDecay)
            new = msgspec.structs.replace(old, **{_DECAYS[name]: value})
            self._ask(who, api.SetDecay(new), api.Done)
        else:
            self._ask(who, api.Switch(_switch(name), words.flag(text)), api.Done)

    def _set_decay(self, name: str, on: bool, who: Who) -> None:
        """It is the caller's own statistics that are meant."""
        pid = _caller(who)
        if name == "clear":
            request = api.SetProcess(pid, clear=True)
            if not on:
                return
        elif name in ("cpujob", "iojob"):
            hint = api.ProcessSettings(hint="none" if not on else "cpu" if name == "cpujob" else "io")
            request = api.SetProcess(pid, hint)
        else:
            fast = on == (name == "fast")  # not slow is fast, and not fast is slow
            request = api.SetProcess(pid, api.ProcessSettings(decay="fast" if fast else "slow"))
        self._ask(who, request, api.ProcessSettings)

    def _set_process(self, spot: Spot, text: str, who: Who) -> None:
        match spot.name:
            case "lock":
                made = api.ProcessSettings(locked=words.flag(text))
            case "migfilter":
                made = api.ProcessSettings(migfilter=words.flag(text))
            case "migpolicy":
                made = api.ProcessSettings(migpolicy="allow" if words.flag(text) else "deny")
            case "mignodes":
                made = api.ProcessSettings(mignodes=words.nodes_of_mask(text))
            case _:
                made = api.ProcessSettings(selected=self._known_node(text, who))
        self._ask(who, api.SetProcess(spot.key, made), api.ProcessSettings)

    def _known_node(self, text: str, who: Who) -> int:
        number = words.whole(text)
        if number and number not in self.keys(Group.NODES, who):
            raise words.failure(errno.EINVAL)
        return number

    # -- what takes long

    def _move(self, pid: int, to: str, who: Who) -> None:
        """Ask for a move. A refusal that comes at once is the writer's; the move itself is not waited for.

        For a writer who is the process itself that would be for ever: it cannot be taken while it writes.
        """
        if to not in ("home", "balance"):
            self._known_node(to, who)
        found = self._ask(who, api.Inspect(pid), api.Inspected)  # that there is one, before it is begun
        if who.uid not in (0, found.uid):
            raise words.failure(errno.EPERM)
        with self._lock:
            if pid in self._moving:
                raise words.failure(errno.EBUSY)
            if sum(uid == who.uid for uid, _to in self._moving.values()) >= _UNDER_WAY:
                raise words.failure(errno.EAGAIN)
            self._moving[pid] = (who.uid, str(found.home) if to == "home" else to)
        began = _Began(lambda: self._migrate(pid, to, who), self._log)
        began.run(lambda: self._moving.pop(pid), 0.0 if who.pid == pid else _FIRST_WORD)

    def _migrate(self, pid: int, to: str, who: Who) -> None:
        try:
            self._ask(who, api.Migrate(pid, to), api.Moved, None)
        except OSError as error:
            if not isinstance(error.__cause__, words.THERE):  # writing the same twice is no fault
                raise

    def _clear(self, name: str, who: Who) -> None:
        """Send guests, or call processes, home; `name` reads 1 as long as that lasts."""
        with self._lock:
            if name in self._clearing:
                return
            self._clearing.add(name)
        request = api.Expel() if name == "expel" else api.Bring()
        began = _Began(lambda: self._ask(who, request, api.Cleared, None), self._log)
        began.run(lambda: self._clearing.discard(name), _FIRST_WORD)

    def _leave(self, number: int, who: Who) -> None:
        """0: take this node out of the cluster; all go home, then the agent ends."""
        if number:
            if number != self._ask(who, api.Nodes(), api.NodeList).own:
                raise words.failure(errno.EINVAL)  # another number is another map's business
            return
        _Began(lambda: self._end(who), self._log).run(lambda: None, _FIRST_WORD)

    def _end(self, who: Who) -> None:
        for request in (api.Expel(), api.Bring()):
            if self._ask(who, request, api.Cleared, None).failures:
                raise words.failure(errno.EBUSY)
        node.tell_agent(self._agent, signal.SIGTERM)

    # -- asking

    def _guests(self, who: Who) -> list[api.ProcessInfo]:
        found = self._ask(who, api.Processes(all=True), api.ProcessList).processes
        return [info for info in found if info.role == "guest"]

    def _ask(
        self, who: Who, request: api.Request, result: type[_R], patience: float | None = _PATIENCE
    ) -> _R:
        """Ask the agent with that user's rights; raises OSError."""
        try:
            with Client(self._agent, "hpc", patience) as client:
                if who.uid != os.geteuid():
                    if os.geteuid() != 0:  # the agent would take it for its own user's
                        raise words.failure(errno.EPERM)
                    client.uid = who.uid
                return client.call(request, result)
        except OmError as error:
            raise OSError(words.errno_of(error), str(error)) from error


class _Began:
    """Something that was begun for somebody and goes on without them."""

    def __init__(self, work: Callable[[], object], log: Callable[[str, BaseException], object]) -> None:
        self._work = work
        self._log = log
        self._error: OSError | None = None
        self._ended = threading.Event()
        self._waited = True

    def run(self, afterwards: Callable[[], object], seconds: float) -> None:
        """Begin, and wait at most so long; raises the OSError that came within that time."""
        threading.Thread(target=self._run, args=(afterwards,), name="hpc-begun", daemon=True).start()
        if not self._ended.wait(seconds):
            self._waited = False
        elif self._error is not None:
            raise self._error

    def _run(self, afterwards: Callable[[], object]) -> None:
        try:
            self._work()
        except OSError as error:
            self._error = error
            if not self._waited:
                self._log("what was begun has failed", error)
        finally:
            afterwards()
            self._ended.set()


def _switch(name: str) -> api.SwitchName:
    found: dict[str, api.SwitchName] = {"block": "block", "lstay": "lstay", "quiet": "quiet", "stay": "stay"}
    return found[name]


def _caller(who: Who) -> int:
    """The process that reads or writes; raises OSError for one of another pid namespace."""
    if not who.pid:
        raise OSError(words.errno_of(NoSuchProcess(pid=0)), os.strerror(errno.ESRCH))
    return who.pid

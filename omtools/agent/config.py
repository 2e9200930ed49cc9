"""The agent's configuration: ``openmosix.config`` and the map, as openMosix had them."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from omtools.agent import log, paths
from omtools.agent.config_file import read_file
from omtools.cluster.discovery import Known, nodes_of
from omtools.cluster.map import Map, Node, parse_map, parse_names
from omtools.errors import AddressMissing, BadConfiguration, NotInCluster
from omtools.i18n import _
from omtools.linux.interfaces import address_of, default_interface, socket_address
from omtools.migration.orders import SILENCE
from omtools.omfs.exports import parse_exports

DEFAULT_PORT = 4660  # openMosix's own migration port
NOWHERE = "none"
DISCOVERED = "discovered.json"  # in the run directory: the nodes that omdiscd has proven
_EVERYWHERE = ("0.0.0.0", "::")  # by whether this node has but an IPv6 address
MAP = "openmosix.map"
Link = Literal["direct", "ssh", "auto"]


@dataclass(frozen=True, slots=True)
class Overheads:
    """What moving and forwarding cost, in seconds and bytes per second; see `omtools.cluster.costs.Costs`."""

    fixed_s: float
    call_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Settings:
    """What openmosix.config can say.

    Attributes:
        number: MYOMID, this node's number (0: find it by the addresses in the map).
        speed: NODESPEED (0: measure it).
        block: BLOCK, whether guests are refused from the start.
        port: AGENTPORT, one for the whole cluster.
        listen: LISTEN, the address to serve on ("": this node's address in the map).
        link: LINK, how the two keepers of a process reach each other.
        reserve: MEMRESERVE, bytes no guest gets (-1: a fiftieth of the memory).
        connect_timeout: CONNECTTIMEOUT, seconds for a peer to answer.
        silence: LINKTIMEOUT, seconds without a sign of another node after which a link to it is broken.
        mfs: MFS, whether this node gives others its files and mounts theirs.
        mfs_directory: MFSDIR, where it mounts them ("": /omfs as root, else below the run directory; "none":
            nowhere).
        dfsa: DFSA, whether migrated processes open files where they run.
        migrate: MIGRATE, whether processes leave by themselves (no: the switch stay is on from the start).
        everything: CANDIDATES=all: every process of a user may be moved by itself, not only what runs under
            mosrun, omsh or a login shell of the cluster (CANDIDATES=marked).
        discover: AUTODISC, whether nodes are found by omdiscd, not read from a map.
        interfaces: AUTODISCIF, on which it looks for them, the first first ("": that of the default route).
        memory: MEMTOTAL, bytes that this node has at most, whatever the machine has (0: all of it): for nodes
            that share a machine. What their processes use counts against it.
        metrics: METRICSPORT, where Prometheus finds figures: PORT of 127.0.0.1, or ADDRESS:PORT (0: nowhere).
        json_log: LOGFORMAT=json: the log's lines are JSON objects (LOGFORMAT=text).
        overheads: OVERHEADS, what a move, a call and the links cost: "MILLISECONDS MICROSECONDS MB/S", as
            `tune` prints them (None: as `tune` has kept them, else a guess).
        others: every other key; openMosix's own ones are known and do no harm.
        hpc_directory: HPCDIR, where what was /proc/hpc is mounted ("": `hpc` beside MFSDIR; "none": nowhere).
    """

    number: int = 0
    speed: int = 0
    block: bool = False
    port: int = DEFAULT_PORT
    listen: str = ""
    link: Link = "auto"
    reserve: int = -1
    connect_timeout: float = 4.0
    mfs: bool = True
    mfs_directory: str = ""
    dfsa: bool = True
    migrate: bool = True
    everything: bool = False
    others: dict[str, str] = field(default_factory=dict)
    discover: bool = False
    interfaces: tuple[str, ...] = ()
    metrics: tuple[str, int] = ("127.0.0.1", 0)
    json_log: bool = False
    hpc_directory: str = ""
    overheads: Overheads | None = None
    memory: int = 0
    silence: float = SILENCE


@dataclass(frozen=True, slots=True)
class Configuration:
    """All that an agent is started with.

    Attributes:
        directory: where keys and lists of keys are.
        run: where sockets are.
        node: this node.
        exports: what others may have of its files, in the syntax of `omtools.omfs.exports`.
    """

    directory: Path
    run: Path
    settings: Settings
    map: Map
    node: Node
    debug: bool = False
    exports: str = "/ rw\n"

    @property
    def mount(self) -> str:
        """Where the cluster's files are mounted."""
        default = "/omfs" if os.geteuid() == 0 else str(self.run / "files")
        return self.settings.mfs_directory or default

    @property
    def hpc_mount(self) -> str:
        """Where the tree that was /proc/hpc is mounted; `NOWHERE` if it is not."""
        beside = NOWHERE if self.mount == NOWHERE else os.path.join(os.path.dirname(self.mount), "hpc")
        return self.settings.hpc_directory or beside

    @property
    def listen(self) -> str:
        """The address to serve on."""
        return self.settings.listen or self.node.address


def load_configuration(directory: Path, run: Path, number: int = 0, debug: bool = False) -> Configuration:
    """Read everything an agent needs before it starts.

    Args:
        directory: the configuration directory.
        run: the run directory.
        number: this node's number, where the command line gives it.
        debug: log more, and tracebacks.

    Raises:
        BadConfiguration: a file is missing or says something that cannot be.
        BadMap: the map.
        UnknownNode: the number given is not in the map.
    """
    settings = read_settings(directory / "openmosix.config")
    if settings.discover or not has_map(directory):
        found, node = discovered(directory, run, settings, number)
        settings = replace(settings, listen=settings.listen or _EVERYWHERE[":" in node.address])
    else:
        found = read_map(directory)
        wanted = number or configured_number(directory, settings)
        node = found.number(wanted) if wanted else find_own(found, directory)
        settings = replace(settings, listen=own_address(settings.listen or node.address, directory))
    exports = read_file(directory / "exports")
    if exports is not None:
        parse_exports(exports, str(directory / "exports"))
    return Configuration(
        directory, run, settings, found, node, debug, "/ rw\n" if exports is None else exports
    )


def has_map(directory: Path) -> bool:
    """Whether there is a map, or nothing by which a node could be without one."""
    member = (directory / "cluster.json").exists()
    return not member or any(place.exists() for place in map_places(directory))


def discovered(directory: Path, run: Path, settings: Settings, number: int = 0) -> tuple[Map, Node]:
    """The map of a node without a map file: itself, and whom omdiscd has found so far.

    Raises:
        NotInCluster: it belongs to no cluster.
        BadConfiguration: it has no address, or a file cannot be read.
    """
    from omtools.agent.cluster_key import membership  # noqa: PLC0415 - asyncssh, for those who need it

    place = membership(directory)
    if place is None:
        raise NotInCluster(why=_("this node belongs to no cluster yet"))
    if number not in (0, place.number):
        raise BadConfiguration(
            path=str(directory), why=_("its certificate is node {n}'s").format(n=place.number)
        )
    addresses = [settings.listen] if settings.listen else own_addresses(settings.interfaces)
    node = Node(place.number, place.name, addresses[0], tuple(addresses[1:]))
    found = Map({node.number: node})
    found.replace(nodes_of({one.number: one for one in read_discovered(run)}), node)
    return found, node


def own_addresses(interfaces: tuple[str, ...]) -> list[str]:
    """The addresses of these interfaces, or of that of the default route.

    Raises:
        AddressMissing: there is none.
    """
    names = interfaces or ((found,) if (found := default_interface()) else ())
    if not names:
        raise AddressMissing(
            path="AUTODISCIF", why=_("there is no default route, so the interfaces must be named")
        )
    try:
        return [address_of(name) for name in names]
    except OSError as error:
        why = _("{name}: {why}").format(name=", ".join(names), why=error.strerror)
        raise AddressMissing(path="AUTODISCIF", why=why) from None


def read_discovered(run: Path) -> list[Known]:
    """Whom omdiscd had found; nobody, where it never ran."""
    try:
        return msgspec.json.decode((run / DISCOVERED).read_bytes(), type=list[Known])
    except (OSError, msgspec.MsgspecError):
        return []


def read_map(directory: Path) -> Map:
    """The map of that configuration directory.

    Raises:
        BadConfiguration: there is none, or it cannot be read.
        BadMap: it has an error.
    """
    places = map_places(directory)
    for path in places:
        text = read_file(path)
        if text is not None:
            if path.name != MAP:
                log.warn("the map has an old name, which still works", file=path, new=path.with_name(MAP))
            names_path = path.parent / "names"
            names = parse_names(read_file(names_path) or "", str(names_path))
            return parse_map(text, str(path), names)
    raise BadConfiguration(
        path=str(places[0]),
        why=_("there is no map yet; a line such as “1 192.168.1.1 2” makes a cluster of nodes 1 and 2, "
              "and `omkey create` one that needs none"),
    )


def map_places(directory: Path) -> list[Path]:
    """Where a map may be, the first that is there counts: as root also in /etc, and under its older names."""
    places = [directory / MAP]
    if directory == paths.SYSTEM_CONFIG:
        places += [directory.parent / name for name in (MAP, "mosix.map", "hpc.map")]
    return places


def configured_number(directory: Path, settings: Settings) -> int:
    """The number that this node was given: MYOMID, else the file om-node-num (Gentoo had it); 0: none.

    Raises:
        BadConfiguration: what is in that file is no number of a node.
    """
    path = directory / "om-node-num"
    word = (read_file(path) or "0").strip()
    if settings.number:
        return settings.number
    if not (word.isascii() and word.isdigit() and len(word) < 6 and int(word) <= 65535):
        raise BadConfiguration(path=str(path), why=_("“{word}” is no node's number").format(word=word[:20]))
    return int(word)


def own_address(host: str, directory: Path) -> str:
    """The numerical address to serve on, for a map or a setting that may have a name.

    Many systems (Debian) give a machine's own name an address of its loopback in /etc/hosts, where the
    others have its true one: who finds no better serves everywhere.

    Raises:
        AddressMissing: nobody knows an address of that name.
    """
    found = _addresses(host)
    if not found:
        path = str(directory / "openmosix.map")
        raise AddressMissing(path=path, why=_("the name {host} has no address here").format(host=host))
    if host in found:
        return host
    best = min(found, key=lambda address: (_is_loopback(address), ":" in address))
    return _EVERYWHERE[":" in best] if _is_loopback(best) else best


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def _addresses(host: str) -> list[str]:
    """The host's addresses; of a numerical one just that one; of a name that nobody knows none."""
    try:
        socket_address(host, 0)
    except (OSError, UnicodeError):
        pass
    else:
        return [host]
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


def find_own(cluster: Map, directory: Path) -> Node:
    """Which node of the map this machine is: by its host name, else by its addresses.

    Raises:
        AddressMissing: it is none of them.
        BadConfiguration: it is several.
    """
    hostname = socket.gethostname()
    for node in cluster.nodes.values():
        if node.name in (hostname, hostname.partition(".")[0]):
            return node
    own = [
        node
        for node in cluster.nodes.values()
        if any(_is_local(address) for host in (node.address, *node.aliases) for address in _addresses(host))
    ]
    if len(own) == 1:
        return own[0]
    path = str(directory / "openmosix.map")
    if not own:
        raise AddressMissing(path=path, why=_("no address of this machine is in it"))
    raise BadConfiguration(
        path=path,
        why=_("several nodes in it are this machine ({nodes}); MYOMID in openmosix.config says which").format(
            nodes=", ".join(node.name for node in own[:5])
        ),
    )


def read_settings(path: Path) -> Settings:
    """Read openmosix.config: ``KEY=value`` per line, quotes and comments as in a shell.

    Raises:
        BadConfiguration: a line or a value that cannot be.
    """
    settings, others = Settings(), dict[str, str]()
    for number, line in enumerate((read_file(path) or "").split("\n"), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise _bad(path, number, str(error)) from None
        if words and words[0] == "export":
            words = words[1:]
        for word in words:
            key, equals, value = word.partition("=")
            if not equals or not key.isidentifier():
                raise _bad(path, number, _("“{word}” is not KEY=value").format(word=word))
            settings = _with(settings, others, key, value, path=path, line=number)
    return replace(settings, others=others)


def _with(
    settings: Settings, others: dict[str, str], key: str, value: str, *, path: Path, line: int
) -> Settings:
    if key not in _KEYS:
        others[key] = value
        return settings
    if value == "" and key != "LISTEN":  # the original's config file has its keys commented out or empty
        return settings
    name, convert = _KEYS[key]
    try:
        return _replaced(settings, name, convert(value))
    except ValueError:
        raise _bad(path, line, _("{key} cannot be “{value}”").format(key=key, value=value)) from None


def _replaced(settings: Settings, name: str, value: Any) -> Settings:
    return replace(settings, **{name: value})


def _whole(low: int, high: int) -> Callable[[str], int]:
    def convert(value: str) -> int:
        number = int(value)
        if not low <= number <= high:
            raise ValueError(value)
        return number

    return convert


def _yes(value: str) -> bool:
    if value.lower() in ("yes", "1", "on", "true"):
        return True
    if value.lower() in ("no", "0", "off", "false"):
        return False
    raise ValueError(value)


def _link(value: str) -> Link:
    if value not in ("direct", "ssh", "auto"):
        raise ValueError(value)
    return cast(Link, value)


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0.05 <= seconds <= 600:
        raise ValueError(value)
    return seconds


def _silence(value: str) -> float:
    if (seconds := _seconds(value)) < 1:  # less is a hiccup of any network
        raise ValueError(value)
    return seconds


def _candidates(value: str) -> bool:
    if value not in ("all", "marked"):
        raise ValueError(value)
    return value == "all"


def _metrics(value: str) -> tuple[str, int]:
    address, _colon, port = value.rpartition(":")
    return address.strip("[]") or "127.0.0.1", _whole(0, 65535)(port)


def _log_format(value: str) -> bool:
    if value not in ("text", "json"):
        raise ValueError(value)
    return value == "json"


def _overheads(value: str) -> Overheads | None:
    if len(value.split()) != 3:
        return None  # the original's, a longer vector of its kernel's own figures
    move_ms, call_us, mb_per_s = map(float, value.split())
    if not (0 <= move_ms <= 600_000 and 0 <= call_us <= 1e7 and 1e-3 <= mb_per_s <= 1e7):
        raise ValueError(value)
    return Overheads(move_ms / 1e3, call_us / 1e6, mb_per_s * 1e6)


def _directory(value: str) -> str:
    if value == NOWHERE:
        return value
    if not value.startswith("/") or os.path.normpath(value) != value.rstrip("/"):
        raise ValueError(value)
    return value.rstrip("/")


_KEYS: dict[str, tuple[str, Callable[[str], object]]] = {
    "MYOMID": ("number", _whole(0, 65535)),
    "NODESPEED": ("speed", _whole(0, 10_000_000)),
    "BLOCK": ("block", _yes),
    "AGENTPORT": ("port", _whole(1, 65535)),
    "LISTEN": ("listen", str),
    "LINK": ("link", _link),
    "MEMRESERVE": ("reserve", lambda value: _whole(0, 1 << 30)(value) << 20),
    "CONNECTTIMEOUT": ("connect_timeout", _seconds),
    "LINKTIMEOUT": ("silence", _silence),
    "MFS": ("mfs", _yes),
    "MFSDIR": ("mfs_directory", _directory),
    "HPCDIR": ("hpc_directory", _directory),
    "DFSA": ("dfsa", _yes),
    "MIGRATE": ("migrate", _yes),
    "CANDIDATES": ("everything", _candidates),
    "AUTODISC": ("discover", _yes),
    "MEMTOTAL": ("memory", lambda value: _whole(0, 1 << 30)(value) << 20),
    "METRICSPORT": ("metrics", _metrics),
    "LOGFORMAT": ("json_log", _log_format),
    "AUTODISCIF": ("interfaces", lambda value: tuple(word for word in value.split(",") if word)),
    "OVERHEADS": ("overheads", _overheads),
}


def _bad(path: Path, line: int, why: str) -> BadConfiguration:
    return BadConfiguration(path=str(path), why=_("line {line}: {why}").format(line=line, why=why))


def _is_local(address: str) -> bool:
    """Whether this machine has that address: only then can a socket be bound to it."""
    try:
        family, where = socket_address(address, 0)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(where)
    except (OSError, UnicodeError):
        return False
    return True

"""What is simulated: a cluster, jobs and events, as a teacher writes them in a small TOML file.

    title = "Forty forks"
    [[nodes]]
    count = 8
    speed = 10000
    [[jobs]]
    count = 1
    forks = 40
    cpu_s = 30

A figure may be a number, or a range `[from, to]` from which each draws evenly; `cpu_s` may also be a table
`{ mean = 60, spread = "exponential" }`. All that can be written is in the classes below.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from random import Random
from typing import Annotated, Literal

import msgspec

from omtools.errors import BadScenario, NoSuchScenario
from omtools.i18n import _

MAX_NODES = 20000
MAX_JOBS = 1_000_000
SUFFIX = ".toml"

Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Index = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Figure = float | Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)]


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A random figure.

    Attributes:
        mean: of all.
        spread: how they differ; "pareto" has few that are very long (shape 2).
        most: none is greater.
    """

    mean: Positive
    spread: Literal["fixed", "uniform", "exponential", "pareto"] = "exponential"
    most: Positive = 1e9


class Nodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of nodes.

    Attributes:
        count: how many.
        speed: of a processor, 10000 is the standard.
        cpus: processors.
        memory_mb: of each.
        link_mb_s: of its network, in 10^6 bytes per second.
        noise: probability that in a second something else runs too.
        later: they are not there at the start (an event "join" brings them).
    """

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_NODES)] = 1
    speed: Figure = 10000
    cpus: Figure = 1
    memory_mb: Figure = 4096
    link_mb_s: Positive = 100
    noise: Share = 0
    later: bool = False


class Jobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of jobs.

    Attributes:
        count: how many.
        cpu_s: computing, in seconds of a standard processor.
        memory_mb: resident.
        at: when they start, in seconds.
        on: where: "random", or the numbers of nodes (each draws one of them).
        forks: children of each; they begin where it runs.
        depth: how many generations fork.
        calls_per_s: system calls per second of computing that go home when it is away.
        io_mb_s: file data per second of computing, in 10^6 bytes.
        files_on: number of the node that has the files; 0: its home.
        locked: the balancer leaves them alone.
    """

    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_JOBS)] = 1
    cpu_s: Figure | Spread = 60.0
    memory_mb: Figure = 20.0
    at: Figure = 0.0
    on: Literal["random"] | list[Index] = "random"
    forks: Annotated[int, msgspec.Meta(ge=0, le=10000)] = 0
    depth: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    calls_per_s: NotNegative = 0
    io_mb_s: NotNegative = 0
    files_on: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    locked: bool = False

    @property
    def total(self) -> int:
        """How many processes that makes, children included."""
        family = sum(self.forks**level for level in range(self.depth + 1)) if self.forks else 1
        return self.count * family


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something happens.

    Attributes:
        at: when, in seconds.
        what: die: they are gone, with all that runs there; hang: they stand still for `seconds`; lie: they
            say that they are idle from now on; partition: they and the others do not reach each other;
            heal: all reach all again; join: nodes that were `later` are there; clock: their clocks jump by
                `seconds`;
            block, stay: they set that switch; unblock, unstay.
        nodes: numbers of nodes; empty: all of whom it may concern.
        seconds: see `what`.
    """

    at: NotNegative
    what: Literal[
        "die", "hang", "lie", "partition", "heal", "join", "clock", "block", "unblock", "stay", "unstay"
    ]
    nodes: list[Index] = []
    seconds: float = 10


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The network between all.

    Attributes:
        loss: share of the messages that are lost.
        delay_ms: of a message.
        fixed_ms: for which a process stands still at a move, however small it is.
        call_us: cost of a forwarded call.
    """

    loss: Share = 0
    delay_ms: NotNegative = 1
    fixed_ms: NotNegative = 50
    call_us: NotNegative = 150


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole scenario; `seconds` is when it ends at the latest."""

    nodes: Annotated[list[Nodes], msgspec.Meta(min_length=1)]
    jobs: list[Jobs] = []
    events: list[Event] = []
    network: Network = Network()
    title: str = ""
    about: str = ""
    seconds: Positive = 3600


def names() -> list[str]:
    """The scenarios that come with the program."""
    return sorted(
        entry.name.removesuffix(SUFFIX) for entry in _shipped().iterdir() if entry.name.endswith(SUFFIX)
    )


def load(word: str) -> Scenario:
    """A scenario by its name or by its file.

    Raises:
        NoSuchScenario: neither.
        BadScenario: the file cannot be read, or what it says makes no sense.
    """
    if word in names():
        return parse((_shipped() / f"{word}{SUFFIX}").read_text(encoding="utf-8"), word)
    path = Path(word)
    if not path.exists():
        raise NoSuchScenario(scenario=word, known=", ".join(names()))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadScenario(path=word, why=getattr(error, "strerror", None) or _("it is no text")) from None
    return parse(text, word)


def parse(text: str, path: str) -> Scenario:
    """Read a scenario.

    Raises:
        BadScenario: with what is wrong.
    """
    try:
        scenario = msgspec.convert(tomllib.loads(text), Scenario)
    except tomllib.TOMLDecodeError as error:
        raise BadScenario(path=path, why=str(error).rstrip(".")) from None
    except msgspec.ValidationError as error:
        raise BadScenario(path=path, why=str(error).rstrip(".")) from None
    _check(scenario, path)
    return scenario


def _check(scenario: Scenario, path: str) -> None:
    nodes = sum(group.count for group in scenario.nodes)
    if nodes > MAX_NODES:
        raise BadScenario(path=path, why=_("{n} nodes are too many; {most} is the most").format(
            n=nodes, most=MAX_NODES))  # fmt: skip
    jobs = sum(group.total for group in scenario.jobs)
    if jobs > MAX_JOBS:
        raise BadScenario(path=path, why=_("{n} processes are too many; {most} is the most").format(
            n=jobs, most=MAX_JOBS))  # fmt: skip
    if all(group.later for group in scenario.nodes):
        raise BadScenario(path=path, why=_("no node is there at the start"))
    named = {number for group in scenario.jobs if isinstance(group.on, list) for number in group.on}
    named |= {group.files_on for group in scenario.jobs if group.files_on}
    named |= {number for event in scenario.events for number in event.nodes}
    if named and max(named) > nodes:
        raise BadScenario(path=path, why=_("it speaks of node {number}, but has {n} nodes").format(
            number=max(named), n=nodes))  # fmt: skip
    for group in scenario.nodes:
        if least(group.speed) < 1 or least(group.cpus) < 1 or least(group.memory_mb) < 1:
            raise BadScenario(path=path, why=_("speed, cpus and memory_mb of a node are at least 1"))
    for one in scenario.jobs:
        cpu = one.cpu_s.mean if isinstance(one.cpu_s, Spread) else least(one.cpu_s)
        if cpu <= 0 or least(one.memory_mb) < 0 or least(one.at) < 0:
            raise BadScenario(path=path, why=_("cpu_s is above 0, memory_mb and at are not below 0"))


def resized(scenario: Scenario, nodes: int | None, jobs: int | None) -> Scenario:
    """The same with other numbers of nodes and jobs, the groups in their old proportions."""
    replace = msgspec.structs.replace
    if nodes is not None:
        before = sum(group.count for group in scenario.nodes)
        groups = [replace(one, count=max(1, round(one.count * nodes / before))) for one in scenario.nodes]
        total = sum(group.count for group in groups)
        widest = max(range(len(groups)), key=lambda at: groups[at].count)
        groups[widest] = replace(groups[widest], count=max(1, groups[widest].count + nodes - total))
        scenario = replace(scenario, nodes=groups)
    if jobs is not None:
        counted = sum(group.count for group in scenario.jobs)
        changed = [replace(one, count=max(1, round(one.count * jobs / counted))) for one in scenario.jobs]
        scenario = replace(scenario, jobs=changed)
    _check(scenario, _("the changed scenario"))
    return scenario


def least(figure: Figure) -> float:
    """The smallest that a figure can be."""
    return min(figure) if isinstance(figure, list) else figure


def draw(figure: Figure | Spread, random: Random) -> float:
    """One value of it."""
    if isinstance(figure, list):
        return random.uniform(*figure)
    if not isinstance(figure, Spread):
        return float(figure)
    mean = figure.mean
    value = {
        "fixed": lambda: mean,
        "uniform": lambda: random.uniform(0.0, 2 * mean),
        "exponential": lambda: random.expovariate(1 / mean),
        "pareto": lambda: mean / 2 * random.paretovariate(2.0),
    }[figure.spread]()
    return min(max(value, 0.001), figure.most)


def _shipped() -> resources.abc.Traversable:
    return resources.files(__package__) / "scenarios"

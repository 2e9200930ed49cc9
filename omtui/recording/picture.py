"""One moment of the cluster, and what changed from one to the next. Pure.

A recording has a whole picture now and then and, in between, only changes: a whole one is the change from
nothing. The API's own structures are kept with the names of their fields, so that a later version that knows
more of them reads what an earlier one wrote, and the other way round.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from omtools.agent import api
from omtools.errors import BadRecording
from omtui.local import LocalProcess
from omtui.moving import Key, key_of

_K = TypeVar("_K")
_V = TypeVar("_V")
_LEVEL = 1  # of compression: the names of fields are all that is to be saved
_MOST = 1 << 28  # bytes of a change, unpacked: more is no picture of ours


@dataclass(slots=True)
class Picture:
    """The cluster at one moment.

    Attributes:
        own: number of the node from which it is seen.
        nodes: by number.
        processes: by node, then by role and local pid.
        local: the processes of the own node, as /proc has them, by pid.
    """

    own: int = 0
    nodes: dict[int, api.NodeView] = field(default_factory=dict)
    processes: dict[int, dict[Key, api.ProcessInfo]] = field(default_factory=dict)
    local: dict[int, LocalProcess] = field(default_factory=dict)


class Listed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of the processes that one node tells of."""

    changed: list[api.ProcessInfo] = []
    gone: list[Key] = []


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """What makes the next picture of one.

    Attributes:
        own: number of the node from which it is seen.
        nodes: those that are new or different.
        nodes_gone: numbers.
        asked: the nodes that were asked for their processes, whether or not something had changed.
        processes: what has changed there.
        forgotten: nodes of whose processes nothing is known any more.
    """

    own: int
    nodes: list[api.NodeView] = []
    nodes_gone: list[int] = []
    asked: list[int] = []
    processes: dict[int, Listed] = {}
    forgotten: list[int] = []
    local: list[LocalProcess] = []
    local_gone: list[int] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Change)


def packed(change: Change) -> bytes:
    """As it is kept."""
    return zlib.compress(_encoder.encode(change), _LEVEL)


def unpacked(data: bytes, path: str) -> Change:
    """What was kept.

    Args:
        data: as `packed` made it.
        path: of the recording, for the error.

    Raises:
        BadRecording: it is damaged.
    """
    try:
        unpacking = zlib.decompressobj()
        return _decoder.decode(unpacking.decompress(data, _MOST))
    except (zlib.error, msgspec.MsgspecError, ValueError) as error:
        raise BadRecording(path=path, why=str(error)) from None


def by_key(infos: Iterable[api.ProcessInfo]) -> dict[Key, api.ProcessInfo]:
    """Processes of one node by what tells them apart."""
    return {key_of(info): info for info in infos}


def difference(before: Picture, after: Picture, asked: Iterable[int] = ()) -> Change:
    """What makes `after` of `before`; `asked` are the nodes that were asked for their processes meanwhile."""
    listed = {
        node: _listed(before.processes.get(node, {}), known)
        for node, known in after.processes.items()
        if known != before.processes.get(node)
    }
    return Change(
        own=after.own,
        nodes=_changed(before.nodes, after.nodes),
        nodes_gone=sorted(before.nodes.keys() - after.nodes.keys()),
        asked=sorted(set(asked)),
        processes=listed,
        forgotten=sorted(before.processes.keys() - after.processes.keys()),
        local=_changed(before.local, after.local),
        local_gone=sorted(before.local.keys() - after.local.keys()),
    )


def _changed(before: Mapping[_K, _V], after: Mapping[_K, _V]) -> list[_V]:
    return [value for key, value in after.items() if before.get(key) != value]


def _listed(before: Mapping[Key, api.ProcessInfo], after: Mapping[Key, api.ProcessInfo]) -> Listed:
    return Listed(_changed(before, after), sorted(before.keys() - after.keys()))


def apply(picture: Picture, change: Change) -> None:
    """Make the next picture of this one, in place."""
    picture.own = change.own
    picture.nodes.update((view.number, view) for view in change.nodes)
    for number in change.nodes_gone:
        picture.nodes.pop(number, None)
    for node, listed in change.processes.items():
        known = picture.processes.setdefault(node, {})
        known.update(by_key(listed.changed))
        for key in listed.gone:
            known.pop(key, None)
    for node in change.forgotten:
        picture.processes.pop(node, None)
    picture.local.update((process.pid, process) for process in change.local)
    for pid in change.local_gone:
        picture.local.pop(pid, None)


def copied(picture: Picture) -> Picture:
    """One that does not change when the other does."""
    processes = {node: dict(known) for node, known in picture.processes.items()}
    return Picture(picture.own, dict(picture.nodes), processes, dict(picture.local))


def happenings_between(before: Picture, after: Picture, node: int) -> list[api.Told]:
    """What must have happened on a node that nobody listened to: from two of its lists and its status.

    The agent tells its subscribers of nodes that it follows; of the others this is what can be known.
    """
    events: list[api.Told] = []
    old, new = before.nodes.get(node), after.nodes.get(node)
    if old is not None and new is not None and old.status != new.status:
        events.append(api.SwitchChanged(node, new.status))
    had, has = before.processes.get(node), after.processes.get(node)
    if had is None or has is None:
        return events
    for key, info in has.items():
        known = had.get(key)
        if known is None or (known.where, known.phase, known.reason) != (info.where, info.phase, info.reason):
            events.append(api.ProcessChanged(info))
    events += [api.ProcessChanged(info, gone=True) for key, info in had.items() if key not in has]
    return events

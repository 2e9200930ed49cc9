"""What may be tuned on a node: costs of moving and forwarding, the yardstick, limits for guests.

All of it is kept in ``tuning.json`` in the configuration directory, so that it outlives the machine's boot as
openMosix's /etc/overheads did. OVERHEADS in openmosix.config goes before what is kept, as it did there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from omtools.agent import api, log
from omtools.agent.config import Configuration
from omtools.cluster.costs import Costs
from omtools.cluster.load import STANDARD_SPEED
from omtools.errors import BadConfiguration

if TYPE_CHECKING:
    from omtools.agent.balancing import Balancing

FILE = "tuning.json"
NO_LIMIT = -1
_COSTS = ("fixed_s", "call_s", "bytes_per_s", "links")


class Limits(msgspec.Struct, frozen=True):
    """What guests may take of a node; -1: no limit (`api.Tuned` has the meanings)."""

    load: int = NO_LIMIT
    cpu: int = NO_LIMIT
    guests: int = NO_LIMIT


class Kept(msgspec.Struct, frozen=True):
    """The content of the file; None: nobody has set it."""

    fixed_s: float | None = None
    call_s: float | None = None
    bytes_per_s: float | None = None
    links: dict[int, float] = {}
    yardstick: int = STANDARD_SPEED
    load_limit: int = NO_LIMIT
    cpu_limit: int = NO_LIMIT
    guest_limit: int = NO_LIMIT


def changes(request: api.Tune) -> bool:
    """Whether a request sets anything."""
    return any(getattr(request, name) is not None for name in request.__struct_fields__ if name != "node")


class Tuning:
    """What has been tuned on one node."""

    def __init__(self, configuration: Configuration) -> None:
        self._path = configuration.directory / FILE
        self._kept = _read(self._path)
        overheads = configuration.settings.overheads
        if overheads is not None:
            self._kept = msgspec.structs.replace(
                self._kept, fixed_s=overheads.fixed_s, call_s=overheads.call_s,
                bytes_per_s=overheads.bytes_per_s,
            )  # fmt: skip

    @property
    def limits(self) -> Limits:
        """For guests."""
        return Limits(self._kept.load_limit, self._kept.cpu_limit, self._kept.guest_limit)

    def costs(self, measured: Mapping[int, float] | None = None) -> Costs:
        """For the balancer, with the speeds of links that it has measured itself since."""
        kept, default = self._kept, Costs()
        return Costs(
            default.fixed_s if kept.fixed_s is None else kept.fixed_s,
            default.call_s if kept.call_s is None else kept.call_s,
            default.bytes_per_s if kept.bytes_per_s is None else kept.bytes_per_s,
            {**kept.links, **(measured or {})},
        )

    def tuned(self, costs: Costs) -> api.Tuned:
        """All of it, with the costs as they are in use."""
        kept = self._kept
        return api.Tuned(
            costs.fixed_s,
            costs.call_s,
            costs.bytes_per_s,
            {node: round(speed) for node, speed in costs.links.items()},
            kept.yardstick,
            kept.load_limit,
            kept.cpu_limit,
            kept.guest_limit,
        )

    def change(self, request: api.Tune, balancing: Balancing) -> None:
        """Set what is given, keep it, and have the balancer reckon by it.

        Raises:
            BadConfiguration: it cannot be kept; then nothing has changed.
        """
        given = {
            name: value
            for name in Kept.__struct_fields__
            if name != "links" and (value := getattr(request, name)) is not None
        }
        links = {**self._kept.links, **(request.links or {})}
        kept = msgspec.structs.replace(
            self._kept, **given, links={node: speed for node, speed in links.items() if speed > 0}
        )
        _write(self._path, kept)
        self._kept = kept
        if any(getattr(request, name) is not None for name in _COSTS):
            gone = {node for node, speed in (request.links or {}).items() if speed <= 0}
            measured = {
                node: speed
                for node, speed in balancing.costs.links.items()
                if node not in gone and node not in kept.links
            }
            balancing.costs = self.costs(measured)


def _read(path: Path) -> Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return Kept()
    except (OSError, msgspec.MsgspecError) as error:
        log.warn("what was tuned cannot be read", file=path, why=error)
        return Kept()


def _write(path: Path, kept: Kept) -> None:
    new = path.with_suffix(".new")
    try:
        new.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
        os.replace(new, path)
    except OSError as error:
        raise BadConfiguration(path=str(path), why=error.strerror or str(error)) from None

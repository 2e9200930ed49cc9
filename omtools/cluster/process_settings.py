"""What the owner of a process wants of the balancer: lock, cluster mask, hint, decay; pure.

openMosix had a file for each below /proc/PID (lock, migfilter, mignodes, migpolicy) or /proc/hpc/decay.
A setting that nobody made is inherited: from the nearest ancestor for which it was made, then from the node.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from omtools.cluster.constraints import Hint, Mask
from omtools.cluster.decay import PER_MILLE, Decay

HintName = Literal["none", "cpu", "io"]
DecayName = Literal["slow", "fast", "none", "own"]
Seconds = Annotated[float, msgspec.Meta(ge=0.001, le=86400)]
PerMille = Annotated[int, msgspec.Meta(ge=0, le=PER_MILLE)]
NodeNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
MaybeNode = Annotated[int, msgspec.Meta(ge=0, le=65535)]
NodeNumbers = Annotated[tuple[NodeNumber, ...], msgspec.Meta(max_length=4096)]

_HINTS: dict[HintName, Hint] = {"none": Hint.NONE, "cpu": Hint.CPU, "io": Hint.IO}


class NodeDecay(msgspec.Struct, tag="node_decay", frozen=True):
    """How fast a node forgets what its processes did (mosctl setdecay); the defaults are openMosix's.

    Attributes:
        interval_s: every so many seconds only a portion of the old is kept:
        slow: that portion in 1000, where nothing else was asked for,
        fast: and where fast decay was.
    """

    interval_s: Seconds = 1.0
    slow: PerMille = 975
    fast: PerMille = 926


class ProcessSettings(msgspec.Struct, tag="process_settings", frozen=True, omit_defaults=True):
    """The settings of one process; None: not made.

    Attributes:
        locked: it is not to be moved automatically.
        migfilter: whether its cluster mask counts at all.
        mignodes: the nodes of the mask.
        migpolicy: "allow": it may run on these nodes only; "deny": on all but these.
        hint: "cpu": what it does in files and calls is to be forgotten; "io": it counts most.
        decay: how fast its statistics are forgotten; "own": as the next two say.
        interval_s: for "own".
        keep: for "own": portion in 1000.
        selected: number of the node that it has chosen for /omfs/selected; 0: none.
    """

    locked: bool | None = None
    migfilter: bool | None = None
    mignodes: NodeNumbers | None = None
    migpolicy: Literal["deny", "allow"] | None = None
    hint: HintName | None = None
    decay: DecayName | None = None
    interval_s: Seconds | None = None
    keep: PerMille | None = None
    selected: MaybeNode | None = None

    def over(self, older: ProcessSettings) -> ProcessSettings:
        """These settings, and where one is not made, that of `older`."""
        made = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(older, **made) if made else older

    @property
    def mask(self) -> Mask:
        """The cluster mask as the deciding parts have it."""
        bits = 0
        for number in self.mignodes or ():
            bits |= 1 << (number - 1)
        return Mask(bool(self.migfilter), bits, self.migpolicy == "allow")

    @property
    def owners_hint(self) -> Hint:
        """The hint as the deciding parts have it."""
        return _HINTS[self.hint or "none"]

    def forgetting(self, node: NodeDecay) -> Decay:
        """How fast its statistics are forgotten on that node."""
        if self.decay == "none":
            return Decay(node.interval_s, PER_MILLE)
        if self.decay == "fast":
            return Decay(node.interval_s, node.fast)
        if self.decay == "own":
            keep = node.slow if self.keep is None else self.keep
            return Decay(self.interval_s or node.interval_s, keep)
        return Decay(node.interval_s, node.slow)


NO_SETTINGS = ProcessSettings()
DEFAULTS = ProcessSettings(False, False, (), "deny", "none", "slow", selected=0)

"""Where lessons are held: a lab of namespaces or, for those about bare hardware, one of two machines."""

from __future__ import annotations

import threading
from collections.abc import Callable

from omtools.errors import LabNotUp
from omtools.lab.lab import Lab
from omtools.shell.bench import Bench, LabBench
from omtools.shell.cluster import Cluster, LabCluster
from omtools.shell.toolbox import furnish

_SERVER = "mCii"


class Grounds:
    """Both labs, each started when it is first needed.

    Args:
        lab: of namespaces, or of plain processes; up, with omsh's commands on its nodes.
        say: is told what is being started.
    """

    def __init__(self, lab: Lab, say: Callable[[str], None]) -> None:
        self._say = say
        self._lab: LabCluster | None = LabCluster(lab)
        self._how = (len(lab.nodes), lab.state.mode == "plain")
        self._machines: Cluster | None = None

    def cluster(self, *, metal: bool) -> Cluster:
        """The lab of that kind; raises OmError or OSError."""
        if metal:
            self._machines = self._machines or self._start_machines()
            return self._machines
        if self._lab is None:
            count, plain = self._how
            self._lab = LabCluster(Lab.up(count, plain=plain))
            furnish(self._lab.lab)
        return self._lab

    def _start_machines(self) -> Cluster:
        from omtools.lab.metal.lab import MetalLab  # noqa: PLC0415 - keys and SSH: only with machines
        from omtools.shell.machines import MetalCluster  # noqa: PLC0415

        try:
            have = MetalLab.find().state  # somebody started it, as they like it
        except LabNotUp:
            lab = MetalLab.up(bare=True, wait=False, report=self._say)
        else:
            lab = MetalLab.up(bare=have.bare, here=have.here, root=have.root, wait=False, report=self._say)
        lab.await_node(_SERVER, "booted", report=self._say)
        return MetalCluster(lab)

    def bench(self, cluster: Cluster, tell: threading.Event) -> Bench:
        """What the workshop handles such a lab by; `tell` is set when something has changed."""
        if isinstance(cluster, LabCluster):
            return LabBench(cluster.lab, tell)
        from omtools.shell.machines import MetalCluster  # noqa: PLC0415
        from omtools.shell.metal_bench import MetalBench  # noqa: PLC0415

        assert isinstance(cluster, MetalCluster)
        return MetalBench(cluster, tell)

    def leave(self, cluster: Cluster) -> None:
        """Nobody is there any more: machines are switched off for good, a lab of namespaces costs nothing."""
        if cluster is self._machines:
            self.take_down(cluster)

    def take_down(self, cluster: Cluster) -> None:
        """Take a lab down; the next `cluster` starts a fresh one."""
        if cluster is not self._machines:
            Lab.down()
            self._lab = None
            return
        from omtools.lab.metal.lab import MetalLab  # noqa: PLC0415

        cluster.close()
        self._machines = None
        MetalLab.down()

    def take_down_machines(self) -> None:
        """Take the machines down if they were started."""
        if self._machines is not None:
            self.take_down(self._machines)

    @property
    def machines_up(self) -> bool:
        """Whether the machines were started, or found, and not taken down."""
        return self._machines is not None

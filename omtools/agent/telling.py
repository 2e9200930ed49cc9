"""The agent's figures for Prometheus, gathered when somebody looks."""

from __future__ import annotations

import time
from collections.abc import Callable

from omtools import __version__
from omtools.agent import api
from omtools.agent.config import Configuration
from omtools.agent.knowing import Knowing
from omtools.agent.metrics import Counting, Labels, MetricsServer, Sample, own_process
from omtools.cluster.gossip import State
from omtools.cluster.load import BLOCK, LSTAY, NOMFS, QUIET, STAY

_FLAGS = {"block": BLOCK, "stay": STAY, "lstay": LSTAY, "quiet": QUIET, "nomfs": NOMFS}


class Telling:
    """Counts, and serves what was counted if METRICSPORT says where."""

    def __init__(
        self, configuration: Configuration, knowing: Knowing, report: Callable[[], api.NodeReport]
    ) -> None:
        self._configuration = configuration
        self._knowing = knowing
        self._report = report
        self._counting = Counting()
        self.server = MetricsServer(self.samples)
        self.hear = self._counting.hear

    async def start(self) -> None:
        """Serve, if that is wanted. Raises BadConfiguration."""
        address, port = self._configuration.settings.metrics
        if port:
            await self.server.open(address, port)

    def samples(self) -> list[Sample]:
        """Everything."""
        return [*self._node(), *self._cluster(), *self._counting.samples(), *own_process()]

    def _node(self) -> list[Sample]:
        report = self._report()
        who = (("node", str(report.number)), ("name", report.name), ("version", __version__))
        flags: dict[Labels, float] = {
            (("flag", name),): float(bool(report.status & bit)) for name, bit in _FLAGS.items()
        }
        memory: dict[Labels, float] = {
            (("kind", "total"),): report.mem_total,
            (("kind", "free"),): report.mem_free,
            (("kind", "available"),): report.mem_available,
        }
        return [
            Sample("openmosix_node_info", "gauge", "Who this is.", {who: 1}),
            Sample("openmosix_load", "gauge", "100 is one task on a standard processor.", {(): report.load}),
            Sample("openmosix_speed", "gauge", "10000 is the standard processor.", {(): report.speed}),
            Sample("openmosix_cpus", "gauge", "Processors.", {(): report.cpus}),
            Sample("openmosix_memory_bytes", "gauge", "Memory of the node.", memory),
            Sample("openmosix_utilizability_ratio", "gauge", "Time not lost to memory pressure.",
                   {(): report.util / 100}),
            Sample("openmosix_guests", "gauge", "Processes of other nodes here.", {(): report.guests}),
            Sample("openmosix_away", "gauge", "Processes of this node elsewhere.", {(): report.away}),
            Sample("openmosix_switch", "gauge", "Switches of the node that are on.", flags),
        ]  # fmt: skip

    def _cluster(self) -> list[Sample]:
        now, gossip = time.monotonic(), self._knowing.gossip
        states: dict[Labels, float] = {(("state", state.value),): 0.0 for state in State}
        states[(("state", State.UP.value),)] = 1.0  # this one
        ages = []
        for _number, state, view in gossip.nodes(now):
            states[(("state", state.value),)] += 1
            if state is State.UP:
                ages.append(view.age)
        refused: dict[Labels, float] = {
            (("reason", reason.name.lower()),): count for reason, count in gossip.refused.items()
        }
        mean = sum(ages) / len(ages) if ages else 0.0
        return [
            Sample("openmosix_nodes", "gauge", "Nodes by what this one thinks of them.", states),
            Sample("openmosix_news_age_seconds", "gauge", "Mean age of what is known of nodes that are up.",
                   {(): round(mean, 3)}),
            Sample("openmosix_gossip_sent_bytes_total", "counter", "Gossip sent, without SSH's share.",
                   {(): self._knowing.sent_bytes}),
            Sample("openmosix_gossip_refused_total", "counter", "Gossip not believed.", refused),
        ]  # fmt: skip

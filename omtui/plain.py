"""The nodes as text: for readers aloud, pipes and terminals that cannot be drawn on."""

from __future__ import annotations

from omtools.agent import api
from omtools.agent.client import Client
from omtools.cluster.load import FULL
from omtools.i18n import _
from omtui.cells import size_of
from omtui.cluster.rows import sums_line
from omtui.model import State, used_memory
from omtui.spans import text_of


def nodes_as_text(agent: Client) -> str:
    """One line about all nodes, then one about each."""
    state = State()
    state.hear_views(agent.call(api.Views(), api.NodeViews))
    lines = [text_of(sums_line(state))]
    for node in state.nodes.values():
        view = node.view
        said = _(
            "{number} {name}: {status}, load {load:.2f}, speed {speed}, {cpus} CPUs, memory {used} of {total}"
        )
        lines.append(
            said.format(
                number=view.number,
                name=view.name,
                status=_(node.words),
                load=view.load / FULL,
                speed=view.speed,
                cpus=view.cpus,
                used=size_of(used_memory(view)),
                total=size_of(view.mem_total),
            )
        )
    return "\n".join(lines)

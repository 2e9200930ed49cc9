"""The names of all keys, for those who want others."""

from __future__ import annotations

from textual.binding import Binding
from textual.dom import DOMNode

from omtools.i18n import _
from omtui.analyzer.page import AnalyzerPage
from omtui.app import Omtui
from omtui.cluster.page import ClusterPage
from omtui.host import Host
from omtui.live.page import LivePage
from omtui.migmon.page import MigmonPage
from omtui.mosmon.app import Bars, Monitor
from omtui.processes.page import ProcessesPage
from omtui.sheet import Sheet
from omtui.terminal.screens import TerminalScreen
from omtui.travelling import Travelling

_OWNERS: tuple[type[DOMNode], ...] = (
    Host,
    Omtui,
    Travelling,
    Sheet,
    ClusterPage,
    ProcessesPage,
    MigmonPage,
    LivePage,
    AnalyzerPage,
    Monitor,
    Bars,
    TerminalScreen,
)


def all_keys() -> list[tuple[str, str, str]]:
    """Name, keys and meaning of everything that can be bound to other keys."""
    found = []
    for owner in _OWNERS:
        for binding in owner.__dict__["BINDINGS"]:
            if isinstance(binding, Binding) and binding.id:
                what = _(binding.tooltip or binding.description) if binding.description else ""
                found.append((binding.id, binding.key, what))
    return found

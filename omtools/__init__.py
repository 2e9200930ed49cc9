"""openMosix again, in user space: running, unmodified Linux processes move between nodes.

    import omtools

    async with omtools.connect() as cluster:
        await cluster.migrate(4711, "metrakilate")

See `omtools.agent.cluster.Cluster` for all that can be asked and done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omtools.agent.cluster import Cluster as Cluster
    from omtools.agent.connect import connect as connect

__version__ = "0.1.0"
__all__ = ["Cluster", "__version__", "connect"]

_PUBLIC = {"connect": "omtools.agent.connect", "Cluster": "omtools.agent.cluster"}


def __getattr__(name: str) -> Any:
    # Loaded when it is used: keepers and commands import this package and need no asyncio.
    if name not in _PUBLIC:
        raise AttributeError(name)
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_PUBLIC[name]), name)

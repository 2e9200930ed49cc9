"""omagentd with keepers that move nothing: everything but the engine is real."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from agent.support import FakeEngine  # noqa: E402

from omtools.agent import agent  # noqa: E402
from omtools.commands.omagentd import main  # noqa: E402

if __name__ == "__main__":
    vars(agent)["RealEngine"] = lambda: FakeEngine(real=True)
    sys.exit(main())

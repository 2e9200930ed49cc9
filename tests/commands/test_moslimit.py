from __future__ import annotations

import json

from .conftest import Nodes


def test_limits(nodes: Nodes, sleeper: int) -> None:
    assert nodes.run("moslimit").stdout == "load: no limit\ncpu: no limit\nguests: no limit\n"
    done = nodes.run("moslimit", "--on", "metrakilate", "--guests", "0", "--cpu", "50", "--json")
    assert json.loads(done.stdout) == {"load": -1, "cpu": 50, "guests": 0}
    refused = nodes.run("migrate", str(sleeper), "2")
    assert refused.returncode == 22
    assert "its limit of 0 guests is reached" in refused.stderr
    assert "cpu: 50 %\nguests: no limit\n" in nodes.run("moslimit", "--guests", "off", node=2).stdout
    assert nodes.run("migrate", str(sleeper), "2").returncode == 0
    for wrong in (["--cpu", "101"], ["--load", "-1"], ["--guests", "few"], ["--gests", "1"]):
        done = nodes.run("moslimit", *wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Did you mean `--guests`?" in done.stderr

from __future__ import annotations

from pathlib import Path

import pytest

from omtools.agent import api
from omtools.agent.config import Overheads, read_settings
from omtools.cluster.costs import Costs
from omtools.errors import BadConfiguration, NodeRefuses, NotAllowed

from .support import Cluster

PID = 4711


async def test_the_balancer_reckons_by_what_was_measured(pair: Cluster) -> None:
    agent = pair.agents[1]
    agent.balancing.costs = Costs(links={2: 5e6, 3: 7e6})  # as moves have shown
    async with pair.asking(1) as asker:
        assert (await asker.ask(api.Tune())).links == {2: 5_000_000, 3: 7_000_000}
        tuned = await asker.ask(api.Tune(fixed_s=0.02, call_s=1e-4, bytes_per_s=2e8, links={2: 3e8}))
    assert agent.balancing.costs == Costs(0.02, 1e-4, 2e8, {2: 3e8, 3: 7e6})
    assert tuned == api.Tuned(0.02, 1e-4, 2e8, {2: 300_000_000, 3: 7_000_000})


async def test_it_is_kept_and_forgotten(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        await asker.ask(api.Tune(fixed_s=0.02, links={2: 3e8}, yardstick=12000, guest_limit=5))
    await pair.stop(1)
    await pair.start(1)
    agent = pair.agents[1]
    assert agent.balancing.costs == Costs(0.02, links={2: 3e8})
    async with pair.asking(1) as asker:
        assert (await asker.ask(api.Tune())).yardstick == 12000
        await asker.ask(api.Tune(links={2: 0.0}))
    assert agent.balancing.costs == Costs(0.02)
    (pair.config(1) / "tuning.json").write_text("{nonsense")
    await pair.stop(1)
    await pair.start(1)
    assert pair.agents[1].balancing.costs == Costs()


async def test_the_configuration_goes_before(short: Path) -> None:
    cluster = Cluster(short, 1, 'OVERHEADS="12.5 90 250"\n')
    (cluster.config(1) / "tuning.json").write_text('{"fixed_s": 9, "links": {"2": 5}}')
    await cluster.start()
    assert cluster.agents[1].balancing.costs == Costs(0.0125, 90e-6, 250e6, {2: 5.0})
    await cluster.end()


@pytest.mark.parametrize(("value", "found"), [
    ('"12 90 250"', Overheads(0.012, 90e-6, 250e6)),
    ('"25400 1 2 3 4 5 6 7"', None),  # the original's own vector
    ("", None),
])  # fmt: skip
def test_overheads(tmp_path: Path, value: str, found: Overheads | None) -> None:
    path = tmp_path / "openmosix.config"
    path.write_text(f"OVERHEADS={value}\n")
    assert read_settings(path).overheads == found


@pytest.mark.parametrize("value", ['"1 2 x"', '"-1 2 3"', '"1 2 0"'])
def test_overheads_that_cannot_be(tmp_path: Path, value: str) -> None:
    path = tmp_path / "openmosix.config"
    path.write_text(f"\nOVERHEADS={value}\n")
    with pytest.raises(BadConfiguration, match="line 2"):
        read_settings(path)


async def test_it_cannot_be_kept(pair: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_paths: object) -> None:
        raise OSError(28, "No space left on device")

    async with pair.asking(1) as asker:
        monkeypatch.setattr("omtools.agent.tuning.os.replace", full)
        with pytest.raises(BadConfiguration, match="No space"):
            await asker.ask(api.Tune(fixed_s=1.0))
        assert (await asker.ask(api.Tune())).fixed_s == Costs().fixed_s


async def test_who_may(pair: Cluster) -> None:
    here, other = pair.agents[2], pair.agents[2].configuration.map.number(1)
    for uid in (None, 54321):
        with pytest.raises(NotAllowed):
            await here.peers.call(other, api.Tune(yardstick=5), api.Tuned, uid=uid)
        assert (await here.peers.call(other, api.Tune(), api.Tuned, uid=uid)).yardstick == 10000
    with pytest.raises(NotAllowed):  # nobody asks round corners
        await here.peers.call(other, api.Tune("2", yardstick=5), api.Tuned, uid=0)


async def test_limits_for_guests(pair: Cluster) -> None:
    limited = pair.agents[2]
    async with pair.asking(1) as asker:
        for limit, why in ((api.Tune("2", guest_limit=0), "0 guests"), (api.Tune("2", cpu_limit=0), "0 %")):
            await asker.ask(limit)
            with pytest.raises(NodeRefuses, match=why):
                await asker.ask(api.Migrate(PID, "2"))
            await asker.ask(api.Tune("2", guest_limit=-1, cpu_limit=-1))
        limited.gauge.loads = limited.gauge.loads.after(500.0)
        await asker.ask(api.Tune("2", load_limit=100))
        with pytest.raises(NodeRefuses, match="its limit for guests 100"):
            await asker.ask(api.Migrate(PID, "2"))
        await asker.ask(api.Tune("2", load_limit=-1, guest_limit=1))
        await asker.ask(api.Migrate(PID, "2"))
        pair.engine.owners[4712] = pair.engine.owners[PID]
        with pytest.raises(NodeRefuses, match="limit of 1 guests"):
            await asker.ask(api.Migrate(4712, "2"))

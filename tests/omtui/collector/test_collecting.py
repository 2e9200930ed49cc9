"""What is taken down of a cluster, picture by picture."""

from __future__ import annotations

from pathlib import Path

from recordings import BEGUN

from omtools.agent import api
from omtools.cluster.load import BLOCK
from omtui.collector.collecting import Collecting
from omtui.recording.picture import Picture, apply
from omtui.recording.reader import Recording
from omtui.recording.recorder import Recorder
from omtui.simulated import SimulatedAgent, SimulatedMachine
from omtui.world import World


class Clock:
    """Of a collector, in seconds."""

    def __init__(self) -> None:
        self.now = BEGUN / 1000

    def __call__(self) -> float:
        self.now += 1
        return self.now


async def test_processes_events_and_what_is_read_off_other_nodes(tmp_path: Path) -> None:
    async with SimulatedAgent(World(4, 30, deaths=1e9), tick=None) as agent:
        recorder = Recorder(tmp_path / "r")
        collecting = Collecting(recorder, agent.socket, machine=SimulatedMachine(agent), clock=Clock())
        await collecting.refresh()
        agent.world.switch("block", True, "3")
        process = next(one for one in agent.world.processes.values() if one.home == one.where == 1)
        agent.tell(agent.world.migrate(process.pid, "2")[1])
        await collecting.report_of("")  # by its answer the event has arrived too
        collecting._due = 0.0
        await collecting.refresh()
        await agent.stop()
        await collecting.refresh()
        await agent.start()
        collecting._due = 0.0
        await collecting.refresh()
        await collecting._hang_up()
        recorder.close()
        assert collecting.written == 3
    recording = Recording(tmp_path / "r")
    picture = Picture()
    for frame in recording.frames(0, 1 << 60):
        apply(picture, frame.change)
    assert picture.nodes[3].status & BLOCK
    assert picture.processes[1]["deputy", process.pid].where == 2
    assert picture.local[process.pid].command == process.command
    events = [(happened.node, happened.event) for happened in recording.events(0, 1 << 60)]
    assert any(
        node == 1 and isinstance(event, api.ProcessChanged) and event.process.pid == process.pid
        for node, event in events
    )
    assert (3, api.SwitchChanged(3, picture.nodes[3].status)) in events
    recording.close()


async def test_nodes_that_are_followed_tell_themselves_and_only_once(tmp_path: Path) -> None:
    async with SimulatedAgent(World(4, 30, deaths=1e9), tick=None) as agent:
        recorder = Recorder(tmp_path / "r")
        collecting = Collecting(recorder, agent.socket, machine=SimulatedMachine(agent), clock=Clock())
        await collecting.refresh()
        agent.tell(api.Followed(3, on=True))
        await collecting.report_of("")
        await collecting.refresh()
        changed = agent.world.switch("block", True, "3")
        for event in (*changed, api.Elsewhere(3, api.Decided(8, "stay", 0, "it is locked"))):
            agent.tell(event)
        await collecting.report_of("")
        await collecting.refresh()
        agent.tell(api.Followed(3, on=False))
        await collecting.report_of("")
        agent.world.switch("block", False, "3")  # what nobody tells any more is read off again
        await collecting.refresh()
        await collecting.refresh()
        await collecting._hang_up()
        recorder.close()
    recording = Recording(tmp_path / "r")
    told = [happened.event for happened in recording.events(0, 1 << 60) if happened.node == 3]
    assert [type(event).__name__ for event in told] == ["SwitchChanged", "Decided", "SwitchChanged"]
    recording.close()


async def test_a_disk_that_was_full_for_a_while(tmp_path: Path) -> None:
    async with SimulatedAgent(World(4, 30), tick=None) as agent:
        recorder = Recorder(tmp_path / "r")
        collecting = Collecting(recorder, agent.socket, machine=SimulatedMachine(agent), clock=Clock())
        await collecting.refresh()
        (pages,) = recorder._database.execute("PRAGMA page_count").fetchone()
        recorder._database.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(5, 300):
            agent.world.nodes[number] = agent.world._node(number)
        agent.world.switch("quiet", True, "2")
        await collecting.refresh()
        await collecting.refresh()
        assert collecting.written == 1
        recorder._database.execute("PRAGMA max_page_count = 1000000")
        await collecting.refresh()
        await collecting._hang_up()
        recorder.close()
        assert collecting.written == 2
    recording = Recording(tmp_path / "r")
    told = [happened for happened in recording.events(0, 1 << 60) if happened.node == 2]
    assert len(told) == 1  # once, though it was tried three times
    assert len(list(recording.frames(0, 1 << 60))) == 2
    recording.close()

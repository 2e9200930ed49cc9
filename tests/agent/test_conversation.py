from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from omtools.agent import api
from omtools.agent.callers import Caller
from omtools.agent.conversation import MAX_CALLS, MAX_UNREAD, Conversation, Notify
from omtools.errors import NoSuchProcess


class FakeAgent:
    """Answers what the test wants."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.notifiers: list[Notify] = []
        self.cancelled = 0

    def hello(self) -> api.Hello:
        return api.Hello(api.VERSION, 1, "mCii")

    async def handle(self, request: api.Request, caller: Caller, notify: Notify) -> api.Result:  # noqa: ARG002
        match request:
            case api.Nodes():
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            case api.Migrate():
                raise NoSuchProcess(pid=request.pid)
            case api.Processes():
                raise ZeroDivisionError("a bug")
            case api.Subscribe():
                self.notifiers.append(notify)
        return api.Done()

    def forget(self, notify: Notify) -> None:
        self.notifiers.remove(notify)


class Wire:
    """The other end of a conversation."""

    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent
        self.sent: list[Any] = []
        self.closed = False
        self.unread = 0
        self.talk = Conversation(agent, Caller("user", 1000), self._write, self._close, lambda: self.unread)

    def _write(self, data: bytes) -> None:
        assert data.endswith(b"\n")
        self.sent.append(msgspec.json.decode(data, type=api.FromAgent))

    def _close(self) -> None:
        self.closed = True

    def greet(self) -> Wire:
        self.talk.feed(api.line_of(api.Hello(api.VERSION)))
        return self

    def call(self, number: int, request: api.Request) -> None:
        self.talk.feed(api.line_of(api.Call(number, request)))

    async def settle(self) -> None:
        for _turn in range(5):
            await asyncio.sleep(0)

    def failures(self) -> list[tuple[int, str]]:
        return [(m.id, str(m.error["error"])) for m in self.sent if isinstance(m, api.Failure)]


@pytest.fixture
async def wire() -> Wire:
    return Wire(FakeAgent())


async def test_the_agent_greets_first(wire: Wire) -> None:
    assert wire.sent == [api.Hello(api.VERSION, 1, "mCii")]


async def test_another_version_is_told_and_let_go(wire: Wire) -> None:
    wire.talk.feed(api.line_of(api.Hello(99)))
    assert wire.failures() == [(0, "AgentVersion")]
    assert wire.sent[-1].error == {"error": "AgentVersion", "theirs": api.VERSION, "ours": 99}
    assert wire.closed
    wire.talk.feed(api.line_of(api.Call(1, api.Nodes())))  # nobody listens any more
    assert len(wire.sent) == 2


async def test_a_future_hello_with_more_in_it_is_understood(wire: Wire) -> None:
    wire.talk.feed(b'{"type":"hello","version":2,"colour":"green"}\n')
    assert wire.failures() == [(0, "AgentVersion")]


async def test_answers_come_in_any_order(wire: Wire) -> None:
    wire.greet()
    wire.call(1, api.Nodes())
    wire.call(2, api.Whois(""))
    await wire.settle()
    assert wire.sent[1:] == [api.Answer(2, api.Done())]
    wire.agent.gate.set()
    await wire.settle()
    assert wire.sent[-1] == api.Answer(1, api.Done())


async def test_errors_travel_with_their_fields(wire: Wire) -> None:
    wire.greet()
    wire.call(7, api.Migrate(4711, "2"))
    await wire.settle()
    assert wire.sent[-1] == api.Failure(7, {"error": "NoSuchProcess", "pid": 4711})


async def test_a_bug_fails_one_call_and_not_the_agent(wire: Wire) -> None:
    wire.greet()
    wire.call(7, api.Processes())
    wire.call(8, api.Whois())
    await wire.settle()
    assert wire.failures() == [(7, "OmError")]
    assert wire.sent[-1] == api.Answer(8, api.Done())


async def test_the_hello_comes_first(wire: Wire) -> None:
    wire.call(1, api.Nodes())
    assert wire.failures() == [(0, "BadRequest")]
    assert wire.closed


@pytest.mark.parametrize("line", [
    b"{", b"null", b"[]", b'"hello"', b"\xff\xfe", b'{"type":"hello"}', b'{"type":"dance"}',
    b'{"type":"hello","version":"1"}', b"[" * 100_000, b'{"type":"call","id":5}', b"GET / HTTP/1.1\r",
])  # fmt: skip
async def test_broken_lines(wire: Wire, line: bytes) -> None:
    wire.talk.feed(line + b"\n")
    assert wire.failures() == [(0, "BadRequest")]
    assert wire.closed
    again = Wire(FakeAgent()).greet()
    again.talk.feed(line + b"\n")
    again.call(9, api.Whois())
    await again.settle()
    assert [name for _id, name in again.failures()] == ["BadRequest"]
    assert again.sent[-1] == api.Answer(9, api.Done())
    assert not again.closed


@pytest.mark.parametrize("request_", [
    b'{"type":"migrate","pid":0,"to":"2"}', b'{"type":"migrate","pid":-5,"to":"2"}',
    b'{"type":"migrate","pid":4194305,"to":"2"}', b'{"type":"migrate","pid":"4711","to":"2"}',
    b'{"type":"migrate","pid":4711}', b'{"type":"switch","name":"sway","on":true}',
    b'{"type":"migrate","pid":4711,"to":"' + b"2" * 300 + b'"}', b'{"type":"no_such_request"}',
])  # fmt: skip
async def test_a_request_that_cannot_be_is_answered_by_number(wire: Wire, request_: bytes) -> None:
    wire.greet()
    wire.talk.feed(b'{"type":"call","id":12,"request":' + request_ + b"}\n")
    assert wire.failures() == [(12, "BadRequest")]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", "x" * 65, "a\x00b", "a b", "-a", "a\n"])
def test_migration_names_that_would_be_paths(name: str) -> None:
    line = msgspec.json.encode({"migration": name})
    with pytest.raises(msgspec.ValidationError, match="migration"):
        msgspec.json.decode(line, type=msgspec.defstruct("Named", [("migration", api.MigrationName)]))


async def test_a_huge_line(wire: Wire) -> None:
    wire.greet()
    for _piece in range(17):
        wire.talk.feed(b"x" * (1 << 16))
    assert wire.failures() == [(0, "BadRequest")]
    assert wire.closed
    whole = Wire(FakeAgent()).greet()
    whole.talk.feed(b"x" * (api.MAX_LINE + 1) + b"\n")
    assert whole.closed


async def test_empty_lines_are_nothing(wire: Wire) -> None:
    wire.talk.feed(b"\n\r\n  \n")
    wire.greet()
    assert wire.sent == [wire.agent.hello()]


async def test_too_many_calls_at_a_time(wire: Wire) -> None:
    wire.greet()
    for number in range(MAX_CALLS + 3):
        wire.call(number, api.Nodes())
    assert wire.failures() == [(MAX_CALLS + more, "BadRequest") for more in range(3)]
    wire.talk.lost()
    await wire.settle()


async def test_who_does_not_read_is_let_go(wire: Wire) -> None:
    wire.greet()
    wire.call(1, api.Subscribe())
    await wire.settle()
    (notify,) = wire.agent.notifiers
    wire.unread = MAX_UNREAD + 1
    notify(api.SwitchChanged(1, 3))
    assert wire.closed
    before = len(wire.sent)
    notify(api.SwitchChanged(1, 3))
    assert len(wire.sent) == before


async def test_who_is_gone_is_forgotten(wire: Wire) -> None:
    wire.greet()
    wire.call(1, api.Subscribe())
    wire.call(2, api.Nodes())
    await wire.settle()
    wire.talk.lost()
    await wire.settle()
    assert wire.agent.notifiers == []
    assert wire.agent.cancelled == 1


@given(st.lists(st.binary(max_size=60), max_size=20), st.integers(1, 7))
def test_any_bytes_in_any_pieces_end_no_agent(lines: list[bytes], size: int) -> None:
    async def feed() -> None:
        wire = Wire(FakeAgent()).greet()
        data = b"\n".join(lines)
        for start in range(0, len(data), size):
            wire.talk.feed(data[start : start + size])
        wire.talk.lost()
        await wire.settle()

    asyncio.run(feed())


@given(st.integers(1, 40))
def test_lines_may_arrive_in_any_pieces(size: int) -> None:
    async def feed() -> None:
        wire = Wire(FakeAgent())
        data = api.line_of(api.Hello(api.VERSION)) + b"".join(
            api.line_of(api.Call(number, api.Whois("ä"))) for number in range(5)
        )
        for start in range(0, len(data), size):
            wire.talk.feed(data[start : start + size])
        await wire.settle()
        assert wire.sent[1:] == [api.Answer(number, api.Done()) for number in range(5)]

    asyncio.run(feed())

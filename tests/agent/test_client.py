from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from omtools.agent import api
from omtools.agent.client import Client
from omtools.errors import AgentVersion, BadRequest, NoAgent, NodeDown, OmError

HELLO = api.line_of(api.Hello(api.VERSION, 1, "mCii"))
DONE = api.line_of(api.Answer(1, api.Done()))


@contextmanager
def speaking(path: Path, *pieces: bytes) -> Iterator[None]:
    """Somebody on that socket who says this, whatever he hears, and hangs up."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def speak() -> None:
            connection, _address = server.accept()
            with connection:
                for piece in pieces:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        return
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def test_an_answer_in_small_pieces(short: Path) -> None:
    data = HELLO + api.line_of(api.Notice(7, api.SwitchChanged(1, 3))) + DONE
    with (
        speaking(short / "s", *(data[at : at + 3] for at in range(0, len(data), 3))),
        Client(short / "s") as agent,
    ):
        assert agent.hello.name == "mCii"
        assert agent.call(api.Subscribe(), api.Done) == api.Done()


def test_events(short: Path) -> None:
    event = api.SwitchChanged(1, 3)
    with speaking(short / "s", HELLO, DONE, api.line_of(api.Notice(1, event))), Client(short / "s") as agent:
        assert next(agent.events()) == event


def test_nobody_there(short: Path) -> None:
    with pytest.raises(NoAgent, match=r"none\.sock"):
        Client(short / "none.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(short / "stale.sock"))
    with pytest.raises(NoAgent):
        Client(short / "stale.sock")


@pytest.mark.parametrize(("said", "error"), [
    ([], NoAgent),
    ([HELLO[:5]], NoAgent),
    ([b"{]\n"], BadRequest),
    ([DONE], BadRequest),
    ([api.line_of(api.Hello(7, 1, "mCii"))], AgentVersion),
    ([api.line_of(api.Failure(0, AgentVersion(theirs=7, ours=1).to_wire()))], AgentVersion),
    ([HELLO], NoAgent),
    ([HELLO, DONE[:5]], NoAgent),
    ([HELLO, b"\xff\n"], BadRequest),
    ([HELLO, api.line_of(api.Answer(1, api.NodeList(1, [], [])))], BadRequest),
    ([HELLO, api.line_of(api.Failure(1, NodeDown(node="x", address="y", why="z").to_wire()))], NodeDown),
    ([HELLO, api.line_of(api.Failure(0, BadRequest(why="z").to_wire()))], BadRequest),
    ([HELLO, api.line_of(api.Failure(1, {"error": "NotYetInvented", "x": 1}))], OmError),
])  # fmt: skip
def test_what_an_agent_may_not_say(short: Path, said: list[bytes], error: type[OmError]) -> None:
    with speaking(short / "s", *said), pytest.raises(error) as caught, Client(short / "s") as agent:
        agent.call(api.Subscribe(), api.Done)
    assert type(caught.value) is error

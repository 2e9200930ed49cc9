"""omtools.migration.control: a keeper's control socket."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from omtools.migration.control import Control
from omtools.migration.orders import (
    Ask,
    Bring,
    Command,
    Credentials,
    Endpoint,
    Hop,
    Phase,
    State,
    Statistics,
)


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a socket may be; short."""
    folder = Path(tempfile.mkdtemp(prefix="om"))
    yield folder / "control.sock"
    shutil.rmtree(folder)


@pytest.fixture
def control(path: Path) -> Iterator[Control]:
    made = Control(str(path))
    yield made
    if path.exists():  # not closed by the test itself
        listener = Client(path)  # else it would wait for one
        made.close()
        listener.close()


def state(phase: Phase = "away") -> State:
    return State(
        role="deputy", migration="m", pid=1, local_pid=1, uid=0, home=1, node=2, phase=phase,
        statistics=Statistics(frozen_ms=12.5),
    )  # fmt: skip


class Client:
    """Somebody who listens to a keeper."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self._file = self.socket.makefile("rb")

    def heard(self) -> State | None:
        """The next state, None at the end."""
        line = self._file.readline()
        return msgspec.json.decode(line, type=State) if line else None

    def say(self, command: Command) -> None:
        self.socket.sendall(msgspec.json.encode(command) + b"\n")

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def handle_all(control: Control) -> list[Command]:
    """What a keeper does when poll returns, until nothing is left."""
    found: list[Command] = []
    while ready := select.select(control.descriptors(), [], [], 0)[0]:
        for descriptor in ready:
            found += control.handle(descriptor)
    return found


@pytest.fixture
def client(control: Control, path: Path) -> Iterator[Client]:
    control.tell(state("freezing"))
    made = Client(path)
    assert handle_all(control) == []
    yield made
    made.close()


def test_whoever_connects_is_told_the_last_state_and_every_change(control: Control, client: Client) -> None:
    assert client.heard() == state("freezing")
    control.tell(state("away"))
    control.tell(state("home"))
    assert client.heard() == state("away")
    assert client.heard() == state("home")


COMMANDS: list[Command] = [
    Ask(),
    Bring(),
    Bring("the node goes down"),
    Hop(3, Endpoint("10.0.0.3", 4711), Credentials("certificate", "key", "peer")),
]


def test_commands_arrive(control: Control, client: Client) -> None:
    for command in COMMANDS:
        client.say(command)
    assert handle_all(control) == COMMANDS


def test_a_command_in_pieces(control: Control, client: Client) -> None:
    line = msgspec.json.encode(COMMANDS[2]) + b"\n"
    client.socket.sendall(line[:10])
    assert handle_all(control) == []
    client.socket.sendall(line[10:] + line[:5])
    assert handle_all(control) == [COMMANDS[2]]
    client.socket.sendall(line[5:])
    assert handle_all(control) == [COMMANDS[2]]


def test_nonsense_is_passed_over(control: Control, client: Client) -> None:
    client.socket.sendall(b"hello\n\xff\xfe\n{}\n[]\n\n" + b'{"type":"no such"}\n')
    client.say(Bring())
    assert handle_all(control) == [Bring()]


def test_an_endless_line_ends_the_connection(control: Control, client: Client) -> None:
    client.heard()
    for _time in range(20):
        try:
            client.socket.sendall(b"x" * 4096)
        except BrokenPipeError:
            break
        handle_all(control)
    with contextlib.suppress(ConnectionResetError):
        assert client.heard() is None
    assert len(control.descriptors()) == 1


def test_whoever_goes_away_is_forgotten(control: Control, path: Path) -> None:
    client = Client(path)
    handle_all(control)
    assert len(control.descriptors()) == 2
    client.close()
    handle_all(control)
    assert len(control.descriptors()) == 1
    control.tell(state())


def test_whoever_does_not_read_is_not_waited_for(control: Control, client: Client) -> None:
    for _time in range(10_000):
        control.tell(state())
        if len(control.descriptors()) == 1:
            break
    assert len(control.descriptors()) == 1
    assert client.heard() == state("freezing")


def test_the_socket_is_its_owner_s_alone(control: Control, path: Path) -> None:
    assert control.descriptors()
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert os.umask(0o022) == 0o022  # as it was


def test_a_socket_left_behind_by_a_crash_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    control = Control(str(path))
    client = Client(path)
    control.tell(state())
    control.close()
    assert client.heard() == state()
    client.close()
    assert not path.exists()


def test_the_last_word_reaches_who_is_about_to_ask(control: Control, path: Path) -> None:
    control.tell(state("failed"))
    client = Client(path)  # connected, not yet accepted
    control.close()
    assert client.heard() == state("failed")
    assert client.heard() is None
    client.close()
    assert not path.exists()


def test_two_who_listen_both_hear(control: Control, path: Path) -> None:
    clients = [Client(path), Client(path)]
    handle_all(control)
    control.tell(state())
    for client in clients:
        assert client.heard() == state()
        client.close()

"""Which machines may boot from here: a list by hardware address, in one file.

A machine that asks and is not known is written down as waiting, and gets no answer: its firmware goes on to
whatever else it can boot. Somebody approves it (`omnetboot approve`), and from then on it is served. Beside
the list lies a directory with a file for each that is approved; dnsmasq watches that (dhcp-hostsdir).
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from omtools.errors import NetbootNoSuchMachine, NetbootRefused, UsageError
from omtools.i18n import _

State = Literal["waiting", "approved", "refused"]
MOST = 256  # that may wait: a wire full of made-up addresses fills no disk
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class Machine(msgspec.Struct):
    """One machine.

    Attributes:
        mac: the address of its network card, lower case, with colons.
        state: what was decided.
        seen: when it last asked, in seconds since 1970.
        number: the number of the node that it is to be; 0: not decided.
        name: and its name.
        address: where it last fetched something from; "": nowhere yet.
    """

    mac: str
    state: State = "waiting"
    seen: float = 0.0
    number: int = 0
    name: str = ""
    address: str = ""


def hardware_address(word: str) -> str:
    """A hardware address as people write it, in the one way in which it is kept; raises UsageError."""
    found = word.strip().lower().replace("-", ":")
    if not _MAC.fullmatch(found):
        sentence = _("“{word}” is no hardware address, as 52:54:00:77:00:02 is.")
        raise UsageError(detail=sentence.format(word=word))
    return found


class Approvals:
    """The list.

    Args:
        directory: where it is kept.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.hosts = directory / "hosts"
        self._path = directory / "machines.json"

    def all(self) -> list[Machine]:
        """All machines, those that wait first, the latest first.

        Raises:
            NetbootRefused: the list cannot be read.
        """
        order = {"waiting": 0, "approved": 1, "refused": 2}
        return sorted(self._read().values(), key=lambda one: (order[one.state], -one.seen))

    def find(self, word: str) -> Machine:
        """The machine with that hardware address, or name.

        Raises:
            NetbootNoSuchMachine: none has.
        """
        mac, name = word.lower().replace("-", ":"), word.casefold()
        for one in self._read().values():
            if mac == one.mac or (one.name and name == one.name.casefold()):
                return one
        raise NetbootNoSuchMachine(machine=word)

    def heard(self, mac: str, now: float | None = None, address: str = "") -> Machine:
        """It asks for something to boot; returns what is known of it."""
        with self._changing() as known:
            if mac not in known:
                waiting = sorted((one.seen, one.mac) for one in known.values() if one.state == "waiting")
                for _seen, old in waiting[: max(0, len(waiting) - MOST + 1)]:
                    del known[old]
                known[mac] = Machine(mac)
            one = known[mac]
            one.seen = time.time() if now is None else now
            one.address = address or one.address
            return one

    def approve(self, word: str, number: int, name: str, taken: set[int]) -> Machine:
        """Let a machine boot as a node; it need not have asked yet.

        Args:
            word: its hardware address, or the name of one that is known.
            number: of the node; 0: the one it has, else the lowest that is free.
            name: of the node; "": the one it has, else `node` and the number.
            taken: numbers that others have.

        Raises:
            UsageError: name or number cannot be.
        """
        with self._changing() as known:
            mac = next((one.mac for one in known.values() if one.name and one.name == word), "")
            mac = mac or hardware_address(word)
            one = known.setdefault(mac, Machine(mac))
            others = taken | {other.number for other in known.values() if other.mac != mac}
            number = number or one.number or next(n for n in range(2, 65536) if n not in others)
            if number in others:
                raise UsageError(detail=_("Number {number} is another node's.").format(number=number))
            name = name or one.name or f"node{number}"
            if not _NAME.fullmatch(name):
                raise UsageError(detail=_("“{name}” cannot be a node's name.").format(name=name))
            if any(other.name == name for other in known.values() if other.mac != mac):
                raise UsageError(detail=_("The name {name} is another machine's.").format(name=name))
            one.state, one.number, one.name = "approved", number, name
            self.hosts.mkdir(mode=0o755, exist_ok=True)
            _replace(self.hosts / mac.replace(":", "-"), f"{mac},set:approved\n".encode(), 0o644)
            return one

    def refuse(self, word: str) -> Machine:
        """Answer a machine no more; raises NetbootNoSuchMachine."""
        mac = self.find(word).mac
        with self._changing() as known:
            known[mac].state = "refused"
            (self.hosts / mac.replace(":", "-")).unlink(missing_ok=True)
            return known[mac]

    def forget(self, word: str) -> Machine:
        """Take it from the list; when it asks again it waits again. Raises NetbootNoSuchMachine."""
        mac = self.find(word).mac
        with self._changing() as known:
            (self.hosts / mac.replace(":", "-")).unlink(missing_ok=True)
            return known.pop(mac)

    def _read(self) -> dict[str, Machine]:
        try:
            machines = msgspec.json.decode(self._path.read_bytes(), type=list[Machine])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            raise NetbootRefused(why=f"{self._path}: {error}") from None
        return {one.mac: one for one in machines}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Machine]]:
        try:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NetbootRefused(why=f"{error.filename}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            known = self._read()
            yield known
            _replace(self._path, msgspec.json.format(msgspec.json.encode(list(known.values()))), 0o600)
        except OSError as error:
            raise NetbootRefused(why=f"{error.filename}: {error.strerror}") from None
        finally:
            os.close(descriptor)


def _replace(path: Path, data: bytes, mode: int) -> None:
    new = path.with_name(f".{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    new.rename(path)

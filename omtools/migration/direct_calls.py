"""The calls of a guest that concern its direct files: what home does is followed here, and the other way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import msgspec

from omtools.image.model import OpenFile
from omtools.linux import seccomp
from omtools.migration.at_home import AtHome, plain, refresh
from omtools.migration.calls.direct import (
    Closed,
    Duplicated,
    Followed,
    GivenAway,
    Native,
    Placed,
    Synced,
    Touch,
    touch,
)
from omtools.migration.direct import DirectFiles
from omtools.migration.flight import Flight
from omtools.migration.remote import Remote

_SYS_LSEEK = 8  # <asm/unistd_64.h>


class DirectCalls:
    """What must be done so that nobody can tell a direct file from another.

    Attributes:
        place: puts something in the place of a file that is direct no more (a waiting call's cookie, or 0,
            and the number); needed where the filter does not trap what is done with the number.
    """

    def __init__(self, remote: Remote, files: DirectFiles, home: AtHome) -> None:
        self._remote = remote
        self._files = files
        self._home = home
        self._stale: set[int] = set()  # the guest still has a file there that is direct no more
        self._owed: list[OpenFile] = []  # the deputy must be told their positions
        self.place: Callable[[int, int], None] | None = None

    def prepare(self, opened: list[OpenFile]) -> None:
        """Open here what can be opened here; the guest is not built yet."""
        for one in opened:
            if (file := self._files.open(one)) is None:
                if one.direct:
                    self._owed.append(one)
                continue
            file.position = one.position
            for number in one.numbers:
                self._files.put(number, file)

    def arrive(self) -> None:
        """The guest is built and stopped: give it its files."""
        if self._files:
            self._remote.install([(self._files[number].descriptor, number) for number in self._files])

    def tell_positions(self) -> None:
        """The guest runs here: what was direct before and is not here, the deputy must do from now on."""
        for file in self._owed:
            plain(self._home, _SYS_LSEEK, file.numbers[0], file.position, os.SEEK_SET)
        self._owed.clear()

    def leaving(self) -> list[OpenFile]:
        """The direct files, for the guest's image."""
        return self._files.leaving()

    def close(self) -> None:
        """The guest is gone."""
        self._files.close()

    def meaning(self, notification: seccomp.Notification) -> Touch | None:
        """What a call means for the direct descriptors; what has to be done before it is done."""
        files = self._files
        if not files and not self._stale:
            return None
        self._sweep(notification)
        meaning = touch(notification.nr, notification.args, files)
        if isinstance(meaning, Native):
            files[notification.args[0] & 0xFFFFFFFF].note(notification.nr, notification.args)
        elif isinstance(meaning, Synced):
            for number in meaning.numbers:
                plain(self._home, _SYS_LSEEK, number, files[number].position, os.SEEK_SET)
                if files[number].node != files.home:
                    refresh(self._home, number)
        elif isinstance(meaning, Placed):
            plain(self._home, _SYS_LSEEK, meaning.number, files[meaning.number].position, os.SEEK_SET)
        elif isinstance(meaning, GivenAway):
            for number in files:
                self.give_back(number, notification.cookie)
        return meaning

    def _sweep(self, notification: seccomp.Notification) -> None:
        try:
            for number in self._stale:
                self._blank(notification, number)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return  # the caller was interrupted; it comes back
        self._stale.clear()

    def follow(self, flight: Flight, result: int) -> bool:
        """The deputy did a call and the caller waits: follow it here; says if its own kernel shall do it too.

        Raises OSError, ENOENT if the caller was interrupted: then all of it is done once more.
        """
        meaning, notification = flight.touch, flight.notification
        cookie = notification.cookie
        if isinstance(meaning, Synced):
            self._read_positions(meaning.numbers)
        if result < 0:
            return False
        if flight.forward.opens and flight.outcome is not None and flight.outcome.data:
            self._open_here(flight.outcome.data, cookie, result)
        elif isinstance(meaning, Duplicated):
            if meaning.source in self._files:
                file = self._files[meaning.source]
                self._remote.give(cookie, file.descriptor, result)
                self._files.put(result, file)
            elif meaning.replaces in self._files:
                self._blank(notification, meaning.replaces)
                self._files.drop(meaning.replaces)
        elif isinstance(meaning, Closed):
            for number in self._files.within(meaning.first, meaning.last):
                self._files.drop(number)
            return True
        return isinstance(meaning, Followed)

    def _open_here(self, told: bytes, cookie: int, number: int) -> None:
        file = self._files.open(msgspec.msgpack.decode(told, type=OpenFile))
        if file is None:
            return
        try:
            self._remote.give(cookie, file.descriptor, number)
        except OSError as error:
            os.close(file.descriptor)
            if error.errno == errno.ENOENT:
                raise
        else:
            self._files.put(number, file)

    def catch_up(self, flight: Flight, result: int) -> None:
        """As `follow`, for a caller that is stopped: its descriptors cannot be changed now."""
        meaning = flight.touch
        if isinstance(meaning, Synced):
            self._read_positions(meaning.numbers)
        elif result >= 0 and isinstance(meaning, Duplicated):
            if meaning.source in self._files:
                self.give_back(meaning.source)
            if meaning.replaces in self._files:
                self._forget(meaning.replaces)
        elif result >= 0 and isinstance(meaning, Closed):
            for number in self._files.within(meaning.first, meaning.last):
                self._forget(number)

    def give_back(self, number: int, cookie: int = 0) -> None:
        """From now on the deputy does what concerns this file."""
        if number in self._files:
            file = self._files[number]
            plain(self._home, _SYS_LSEEK, number, file.position, os.SEEK_SET)
            for one in list(file.numbers):
                self._forget(one, cookie)

    def _forget(self, number: int, cookie: int = 0) -> None:
        self._files.drop(number)
        if self.place is not None:
            self.place(cookie, number)
        else:
            self._stale.add(number)

    def _blank(self, notification: seccomp.Notification, number: int) -> None:
        """Have the guest's own descriptor closed, in the only way there is: by another in its place."""
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._remote.give(notification.cookie, nothing, number)
        finally:
            os.close(nothing)

    def _read_positions(self, numbers: tuple[int, ...]) -> None:
        for number in numbers:
            position = plain(self._home, _SYS_LSEEK, number, 0, os.SEEK_CUR)
            if number in self._files and position >= 0:
                self._files[number].position = position

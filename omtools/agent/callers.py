"""Who asks, and what they may do."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, replace
from typing import Literal

from omtools.errors import NotAllowed, NotYourProcess
from omtools.i18n import _


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody at the other end of a connection.

    Attributes:
        role: a person (or a program of theirs), or a peer agent.
        uid: the person's; for a peer the one it acts for, or -1 where it acts for itself.
        where: where they come from, for the log.
        node: which node the peer is by its certificate; 0: not proven (a pinned key, or a person).
    """

    role: Literal["user", "node"]
    uid: int
    where: str = "here"
    node: int = 0

    def acting_for(self, uid: int | None) -> Caller:
        """The caller of one request: a peer may name the user it asks for, and so may root; nobody else."""
        if uid is None or (self.role != "node" and self.uid != 0):
            return self
        return replace(self, uid=uid)

    @property
    def master(self) -> bool:
        """Whether this node obeys: root, or the user whose agent this is; here, or through a peer."""
        return self.uid in (0, os.geteuid())

    def check_process(self, pid: int, owner: int) -> None:
        """Refuse who may not move a process of `owner`.

        Raises:
            NotYourProcess: its owner and root may, nobody else; a user's agent has that user's only.
        """
        if self.uid not in (0, owner):
            raise NotYourProcess(
                pid=pid,
                user=user_name(self.uid),
                why=_("it belongs to {owner}").format(owner=user_name(owner)),
            )
        if os.geteuid() not in (0, owner):
            raise NotYourProcess(
                pid=pid,
                user=user_name(self.uid),
                why=_("it belongs to {owner}, and this agent serves {master} only").format(
                    owner=user_name(owner), master=user_name(os.geteuid())
                ),
            )

    def check_master(self, what: str) -> None:
        """Refuse who may not set this node's switches.

        Raises:
            NotAllowed: it is for root, or for the user whose agent this is.
        """
        if not self.master:
            raise NotAllowed(
                user=user_name(self.uid),
                what=what,
                why=_("it is for {master} alone").format(master=user_name(os.geteuid())),
            )

    def check_user(self, what: str) -> None:
        """Refuse peer agents.

        Raises:
            NotAllowed: it is for people.
        """
        if self.role != "user":
            raise NotAllowed(user=user_name(self.uid), what=what, why=_("agents ask each other directly"))

    def check_node(self, what: str, number: int = 0) -> None:
        """Refuse everybody but peer agents.

        Args:
            what: is asked.
            number: the node that the peer says it is, if it does.

        Raises:
            NotAllowed: only agents ask that; or its certificate is another node's.
        """
        if self.role != "node":
            raise NotAllowed(user=user_name(self.uid), what=what, why=_("only agents ask that of each other"))
        if number and self.node and number != self.node:
            why = _("node {n} speaks in the name of node {other}").format(n=self.node, other=number)
            raise NotAllowed(user=user_name(self.uid), what=what, why=why)


def user_name(uid: int) -> str:
    """The name of that uid, or the number where it has none."""
    if uid < 0:
        return _("an agent")
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def name_of(uid: int) -> str:
    """The name of that uid, or "" where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""

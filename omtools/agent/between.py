"""Requests about files and news, which agents ask of each other: part of `omtools.agent.api`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from omtools.agent.answers import Pem, Word
from omtools.omfs.rights import GROUPS_MAX

Number = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Id = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
GroupLine = Annotated[str, msgspec.Meta(max_length=GROUPS_MAX, pattern=r"^([0-9]{1,10}( [0-9]{1,10})*)?\Z")]


class PrepareFiles(msgspec.Struct, tag="prepare_files", frozen=True):
    """From agent to agent: let one of my users at your files. Answer: `FilesReady`.

    Attributes:
        uid: that user.
        user: the user's name there ("" if the uid has none).
        certificate: PEM, the only one to accept.
        link: over what the files will come.
        gid: the asking process's group; None: that user's own, with his further groups.
        groups: its further groups, numbers in a line.
    """

    uid: Id
    user: Word
    certificate: Pem
    link: Literal["direct", "ssh", "auto"] = "auto"
    gid: Id | None = None
    groups: GroupLine = ""


class OpenFiles(msgspec.Struct, tag="open_files", frozen=True):
    """From the agent's own mount: a way to the files of a node, for one user. Answer: `FilesOpened`.

    Attributes:
        node: that node.
        uid: that user.
        gid: as `PrepareFiles` has it.
        groups: likewise.
    """

    node: Number
    uid: Id
    gid: Id | None = None
    groups: GroupLine = ""


class News(msgspec.Struct, tag="news", frozen=True):
    """From agent to agent: what I know, as `omtools.cluster.vector` encodes it. Answer: `Heard`."""

    data: Annotated[bytes, msgspec.Meta(max_length=16384)]

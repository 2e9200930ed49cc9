"""A guest on its way out: what its image is made of, and how that is sent."""

from __future__ import annotations

import msgspec

from omtools.errors import OmError, RestoreFailed
from omtools.image.capture import Before
from omtools.image.model import Image, Resume
from omtools.image.pages import CopySource
from omtools.migration.forwarding import Forwarding
from omtools.migration.frames import Kind
from omtools.migration.link import Link
from omtools.migration.remote import Remote
from omtools.migration.transfer import Progress, send_pages


def image_of(
    remote: Remote,
    calls: Forwarding,
    before: Before,
    ending: tuple[Resume | None, list[bytes]],
    there: list[str] | None,
) -> Image:
    """The image of the stopped guest. Raises OmError.

    Args:
        remote: the guest.
        calls: its calls.
        before: what was looked at before it stopped.
        ending: how its interrupted call goes on, and the signal it goes home to die of.
        there: what is mapped where it goes, see `Remote.take_image`.
    """
    numbers = calls.native.leave(dying=bool(ending[1])) if calls.native is not None else None
    image = remote.take_image(before, *ending, (calls.arena.base, calls.arena.size), there)
    image = msgspec.structs.replace(image, files=calls.direct.leaving(), locked=calls.locked)
    if calls.native is not None:
        image = msgspec.structs.replace(
            image, numbers=numbers, umask=remote.umask(), directory=calls.native.told_directory
        )
    return image


def refusal(error: Exception, node: int) -> bytes:
    """The body of a REFUSED: why node `node` cannot do it."""
    known = error if isinstance(error, OmError) else RestoreFailed(node=node, why=str(error))
    return msgspec.msgpack.encode(known.to_wire() | ({"node": node} if "node" in known.fields else {}))


def send(link: Link, pid: int, head: bytes, image: Image, tell: Progress) -> int:
    """Send it and its pages, and `tell` how far that is; returns bytes. Raises LinkBroken, OSError."""
    link.send(Kind.LEAVING, head)
    link.send(Kind.IMAGE, msgspec.msgpack.encode(image))
    amount = 0
    for ranges in CopySource(pid, image.regions).rounds():
        amount = send_pages(link, pid, ranges, tell)
    return amount

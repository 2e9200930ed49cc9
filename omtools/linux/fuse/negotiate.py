"""What kernel and server agree on in INIT, the first request of a mount. No I/O."""

from __future__ import annotations

from typing import Final

from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Init

MAX_PAGES: Final = 256  # the kernel's default of fs.fuse.max_pages_limit
MAX_DATA: Final = MAX_PAGES * 4096
_DEFAULT_PAGES = 32  # FUSE_DEFAULT_MAX_PAGES_PER_REQ of the kernel's fs/fuse/fuse_i.h


def init_flags(low: int, rest: bytes | bytearray) -> Init:
    """All flags of an INIT: the low word, and the first one of what follows if INIT_EXT says so."""
    high = 0
    if low & Init.INIT_EXT and len(rest) >= abi.INIT_IN_EXT.size:
        (high,) = abi.INIT_IN_EXT.unpack_from(rest)
    return Init(low | high << 32)


def agree(offered: Init, wanted: Init) -> Init:
    """What both sides can do."""
    return Init(offered & (wanted | Init.INIT_EXT | Init.MAX_PAGES))


def init_reply(max_readahead: int, agreed: Init) -> bytes:
    """The fuse_init_out: requests of up to a mebibyte where the kernel can, depth 1 for PASSTHROUGH."""
    pages = MAX_PAGES if Init.MAX_PAGES in agreed else _DEFAULT_PAGES
    return abi.INIT_OUT.pack(
        abi.MAJOR, abi.MINOR, max_readahead, int(agreed) & 0xFFFFFFFF,
        64, 48,  # requests that the kernel does in the background, and when it calls that congested
        pages * 4096, 1, pages, 0, int(agreed) >> 32, 1 if Init.PASSTHROUGH in agreed else 0, 0,
    )  # fmt: skip

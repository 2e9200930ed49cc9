"""What every keeper would do for the first time is done once in the template from which they are forked.

The TLS library looks up its algorithms when they are first used, the processor tells by dozens of CPUID
instructions (each leads to the hypervisor, if there is one) where it keeps its registers, and the types of
messages are analysed. That takes each keeper ten milliseconds of a processor while its process waits; done
before the fork it is done for all of them, in memory that they share.
"""

from __future__ import annotations

import contextlib
import ssl

import msgspec

from omtools.image.model import Image
from omtools.linux.cpuid import xsave_layout
from omtools.migration.hello import Hello
from omtools.migration.link import context_of
from omtools.migration.orders import Credentials, State

_STEPS = 8  # more than a handshake takes


def rehearse() -> None:
    """All that needs nothing: once, when the template begins."""
    xsave_layout()
    for kind in (Image, Hello):
        with contextlib.suppress(msgspec.DecodeError):
            msgspec.msgpack.decode(b"", type=kind)
    with contextlib.suppress(msgspec.DecodeError):
        msgspec.json.decode(b"", type=State)


def rehearse_link(credentials: Credentials) -> None:
    """Shake hands with oneself: once, with the credentials of the first order."""
    own = Credentials(credentials.certificate, credentials.key, credentials.certificate)
    with contextlib.suppress(OSError, ValueError):  # the keeper will say what is wrong with them
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        caller = context_of(own, server=False).wrap_bio(down, up)
        called = context_of(own, server=True).wrap_bio(up, down, server_side=True)
        for _step in range(_STEPS):
            for side in (caller, called):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        for one, other in ((caller, called), (called, caller)):
            one.write(b"well")
            other.read(4)

"""Where the browser finds the application, and who may act there. Pure."""

from __future__ import annotations

import hmac
import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

from omtools.errors import UsageError
from omtools.i18n import _

DEFAULT = "127.0.0.1:8787"
TOKEN = "token"  # the name of the secret in addresses
_ANY = ("0.0.0.0", "::")  # listen everywhere


class Place(NamedTuple):
    """An address to listen on."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """As a browser wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def open_to_others(self) -> bool:
        """Whether other machines reach it."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"


def place_of(text: str) -> Place:
    """``PORT``, ``ADDRESS:PORT`` or ``[ADDRESS]:PORT``; without an address only this machine is served.

    Raises:
        UsageError: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    if not host or not (port.isascii() and port.isdigit()) or not 0 <= int(port) <= 65535:
        raise UsageError(detail=_("“{text}” is no [ADDRESS:]PORT.").format(text=text))
    return Place(host, int(port))


def may_act(given: str | None, token: str) -> bool:
    """Whether what is given is the secret; without a secret nobody may."""
    return bool(token) and hmac.compare_digest((given or "").encode(), token.encode())


def same_site(origin: str | None, host: str | None) -> bool:
    """Whether a page of this very server asks, and not one that the visitor happens to have open.

    Browsers send Origin with every web socket (RFC 6455, 10.2); what sends none is no browser.
    """
    return origin is None or (host is not None and urlsplit(origin).netloc == host)


def known_host(host: str | None, place: Place) -> bool:
    """Whether the name by which the server was called is its own: no other site's name may lead here."""
    if host is None:
        return False
    name = urlsplit(f"//{host}").hostname or ""
    if place.host in _ANY:
        return True
    return name in (place.host, "localhost", "127.0.0.1", "::1")

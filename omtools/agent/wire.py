"""The wire of discovery: announcements by multicast DNS (RFC 6762, 6763), by python-zeroconf."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable
from ipaddress import ip_address

from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from omtools.agent import log
from omtools.cluster.discovery import SERVICE, Announcement, announcement_of, text_of, with_zone

_RESOLVE_MS = 3000

Heard = Callable[[str, Announcement], None]
Left = Callable[[str], None]


def _version(addresses: list[str]) -> IPVersion:
    families = {":" in address for address in addresses}
    if len(families) > 1:
        return IPVersion.All
    return IPVersion.V6Only if True in families else IPVersion.V4Only


def _limit(sender: socket.socket, ttl: int) -> None:
    if sender.family == socket.AF_INET6:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
    else:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, bytes([ttl]))


class Wire:
    """Announces this node, and hears of others, on some interfaces."""

    def __init__(self, heard: Heard, left: Left) -> None:
        """`heard` gets service name and announcement, `left` the name of one that said goodbye."""
        self._heard = heard
        self._left = left
        self._zone = ""
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._resolving: set[asyncio.Task[None]] = set()

    async def open(self, addresses: list[str], ttl: int = 0, own: Announcement | None = None) -> None:
        """Begin.

        Args:
            addresses: of the interfaces to use.
            ttl: of the multicasts; 0: mDNS's own, 255. (Routers that follow RFC 6762 pass none on anyway.)
            own: to announce; None: only listen.

        Raises:
            OSError: an interface cannot be used.
        """
        version = _version(addresses)
        self._zeroconf = AsyncZeroconf(addresses or InterfaceChoice.All, ip_version=version)
        zones = {zone for address in addresses if (zone := address.partition("%")[2])}
        self._zone = zones.pop() if len(zones) == 1 else ""
        zeroconf = self._zeroconf.zeroconf
        await zeroconf.async_wait_for_start()
        if ttl:
            for sender in zeroconf.engine.senders:
                _limit(sender.transport.get_extra_info("socket"), ttl)
        if own is not None:
            await self._zeroconf.async_register_service(service_of(own), allow_name_change=True)
        self._browser = AsyncServiceBrowser(zeroconf, SERVICE, handlers=[self._changed])

    async def close(self) -> None:
        """Say goodbye."""
        for task in self._resolving:
            task.cancel()
        await asyncio.gather(*self._resolving, return_exceptions=True)
        if self._browser is not None:
            await self._browser.async_cancel()
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()
        self._browser = self._zeroconf = None

    # zeroconf passes these by name
    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            self._left(name)
            return
        task = asyncio.get_running_loop().create_task(self._resolve(zeroconf, service_type, name))
        self._resolving.add(task)
        task.add_done_callback(self._resolving.discard)

    async def _resolve(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        info = AsyncServiceInfo(service_type, name)
        if not await info.async_request(zeroconf, _RESOLVE_MS):
            return
        text = {key: value or "" for key, value in info.decoded_properties.items()}
        found = announcement_of(text, info.port or 0)
        if found is not None:
            found = with_zone(found, _zone_of(info) or self._zone)
        if found is None:
            log.debug("an announcement makes no sense", service=name)
        else:
            self._heard(name, found)


def _zone_of(info: AsyncServiceInfo) -> str:
    """The interface on which a link-local address was heard; "" if none was."""
    for address in info.parsed_scoped_addresses(IPVersion.V6Only):
        zone = address.partition("%")[2]
        with contextlib.suppress(OSError):
            if zone:
                return socket.if_indextoname(int(zone)) if zone.isdigit() else zone
    return ""


def service_of(own: Announcement) -> AsyncServiceInfo:
    """The service record of an announcement; two clusters may have nodes of the same name."""
    cluster = re.sub(r"[^A-Za-z0-9]", "", own.cluster)[:8]
    return AsyncServiceInfo(
        SERVICE,
        f"{own.name[:40]}-{own.number}-{cluster}.{SERVICE}",
        port=own.port,
        properties=text_of(own),
        server=f"{own.name[:40]}-{own.number}-{cluster}.local.",
        addresses=[ip_address(address.partition("%")[0]).packed for address in own.addresses],
    )

"""The wire of discovery: announcements by multicast DNS (RFC 6762, 6763), by python-zeroconf."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable

from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from omtools.agent import log
from omtools.cluster.discovery import SERVICE, Announcement, announcement_of, text_of

_RESOLVE_MS = 3000

Heard = Callable[[str, Announcement], None]
Left = Callable[[str], None]


class Wire:
    """Announces this node, and hears of others, on some interfaces."""

    def __init__(self, heard: Heard, left: Left) -> None:
        """`heard` gets service name and announcement, `left` the name of one that said goodbye."""
        self._heard = heard
        self._left = left
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
        self._zeroconf = AsyncZeroconf(addresses or InterfaceChoice.All, ip_version=IPVersion.V4Only)
        zeroconf = self._zeroconf.zeroconf
        await zeroconf.async_wait_for_start()
        if ttl:
            for sender in zeroconf.engine.senders:
                sender.transport.get_extra_info("socket").setsockopt(
                    socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, bytes([ttl])
                )
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
        if found is None:
            log.debug("an announcement makes no sense", service=name)
        else:
            self._heard(name, found)


def service_of(own: Announcement) -> AsyncServiceInfo:
    """The service record of an announcement; two clusters may have nodes of the same name."""
    cluster = re.sub(r"[^A-Za-z0-9]", "", own.cluster)[:8]
    return AsyncServiceInfo(
        SERVICE,
        f"{own.name[:40]}-{own.number}-{cluster}.{SERVICE}",
        port=own.port,
        properties=text_of(own),
        server=f"{own.name[:40]}-{own.number}-{cluster}.local.",
        addresses=[socket.inet_aton(address) for address in own.addresses],
    )

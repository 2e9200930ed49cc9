"""``omtui --web``: one process of the application per browser.

textual-serve brings the page's script and speaks to the processes; here is who may do what. Guests look; who
has the address with the secret may act. The page loads nothing from elsewhere.
"""

from __future__ import annotations

import asyncio
import html
import os
import secrets
import shlex
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlencode

import msgspec
import textual_serve
from aiohttp import WSMsgType, web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from omtools.errors import CannotListen
from omtools.i18n import _
from omtools.lab.settings import PACKAGE_HOME
from omtui.web.place import TOKEN, Place, known_host, may_act, same_site

MOST = 48  # browsers at a time: a class; each has a process of some 50 MB
_FONTS = range(6, 41)
_CELLS = range(1, 1001)  # columns or lines of a browser's terminal
_MESSAGE = 1 << 16  # bytes a browser may say at once
_PATIENCE = 5.0  # seconds that processes may take to end
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from omtui.main import main; sys.exit(main())"
_STATIC = Path(textual_serve.__file__).parent / "static"
_POLICY = {
    # The secret stands in the address: no other site may learn it, and none may frame this page.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def command_of(options: Sequence[str]) -> str:
    """The command line of one browser's application, as textual-serve's shell wants it."""
    return "exec " + shlex.join([sys.executable, "-c", _START, str(PACKAGE_HOME), *options])


class WebServer:
    """Serves the application.

    Attributes:
        place: where; the port is the real one as soon as it listens.
        token: the secret of those who may act, "" if nobody may.
    """

    def __init__(self, place: Place, options: Sequence[str], *, read_only: bool = False) -> None:
        """Nothing happens yet.

        Args:
            place: where to listen; port 0: any that is free.
            options: of the application.
            read_only: nobody may act.
        """
        self.place = place
        self.token = "" if read_only else secrets.token_urlsafe(18)
        self._commands = {True: command_of(options), False: command_of([*options, "--read-only"])}
        self._downloads = DownloadManager()
        self._browsers: set[asyncio.Task[object]] = set()

    @property
    def address(self) -> str:
        """For guests."""
        return f"{self.place.url}/"

    @property
    def acting_address(self) -> str:
        """For the one who may act, "" if nobody may."""
        return f"{self.address}?{urlencode({TOKEN: self.token})}" if self.token else ""

    async def run(self) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP; says where on standard output.

        Raises:
            CannotListen: the address is taken, or is not this machine's.
        """
        over = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, over.set)
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=_PATIENCE)
        await runner.setup()
        try:
            await self._listen(runner)
            self._announce()
            await over.wait()
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> None:
        try:
            await web.TCPSite(runner, self.place.host, self.place.port).start()
        except OSError as error:
            number = 0 if isinstance(error, socket.gaierror) else error.errno or 0
            why = os.strerror(number) if number else error.strerror or str(error)
            raise CannotListen(address=f"{self.place.host}:{self.place.port}", why=why) from None
        self.place = Place(self.place.host, runner.addresses[0][1])

    def _announce(self) -> None:
        print(_("The cluster is at {address} (to look at).").format(address=self.address))
        if self.token:
            print(_("Who is to act opens {address}").format(address=self.acting_address))
        if self.place.open_to_others:
            print(_("Other machines reach it too, unencrypted. Ctrl-C ends it."), flush=True)
        else:
            print(_("Only this machine reaches it. Ctrl-C ends it."), flush=True)

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/ws", self._browser),
                web.get("/ws/{token}", self._browser),  # the script adds a query of its own
                web.static("/static", _STATIC),
            ]
        )
        app.on_shutdown.append(self._hang_up)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if not known_host(request.host, self.place):
            raise web.HTTPForbidden(text=_("This server has another name."))
        response = await handler(request)
        if not response.prepared:
            response.headers.update(_POLICY)
        return response

    def _acts(self, request: web.Request) -> bool:
        """Whether who asks may act; an old secret is refused rather than taken for a guest's."""
        given = request.match_info.get(TOKEN, request.query.get(TOKEN))
        acting = may_act(given, self.token)
        if given is not None and not acting:
            raise web.HTTPForbidden(text=_("This address is not valid any more; ask for the present one."))
        return acting

    async def _page(self, request: web.Request) -> web.Response:
        acting = f"/{self.token}" if self._acts(request) else ""
        fields = {
            "socket": f"ws://{request.host}/ws{acting}",
            "font": str(_number(request, "fontsize", _FONTS, 16)),
            "over": _("It has ended. Click to begin again."),
        }
        template = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
        text = template.format(**{name: html.escape(value) for name, value in fields.items()})
        return web.Response(text=text, content_type="text/html")

    async def _browser(self, request: web.Request) -> web.StreamResponse:
        """A browser, for as long as it is there."""
        if not same_site(request.headers.get("Origin"), request.host):
            raise web.HTTPForbidden(text=_("Another site's page asked."))
        command = self._commands[self._acts(request)]
        task = asyncio.current_task()
        if len(self._browsers) >= MOST or task is None:
            raise web.HTTPServiceUnavailable(text=_("{n} browsers look already.").format(n=MOST))
        talk = web.WebSocketResponse(heartbeat=15, max_msg_size=_MESSAGE)
        self._browsers.add(task)
        try:
            await talk.prepare(request)
            service = AppService(
                command,
                write_bytes=talk.send_bytes,
                write_str=talk.send_str,
                close=_closer(talk),
                download_manager=self._downloads,
            )
            await service.start(_number(request, "width", _CELLS, 80), _number(request, "height", _CELLS, 24))
            try:
                async for message in talk:
                    if message.type == WSMsgType.TEXT:
                        await _pass_on(message.data, service, talk)
            finally:
                await service.stop()
        finally:
            self._browsers.discard(task)
        return talk

    async def _hang_up(self, _app: web.Application) -> None:
        """The end of all processes."""
        for task in self._browsers:
            task.cancel()
        if self._browsers:
            await asyncio.wait(self._browsers, timeout=_PATIENCE)


def _closer(talk: web.WebSocketResponse) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        await talk.close()

    return close


def _number(request: web.Request, name: str, known: range, otherwise: int) -> int:
    """A number of the address, if it is one and makes sense."""
    asked = request.query.get(name, "")
    return int(asked) if asked.isascii() and asked.isdigit() and int(asked[:9]) in known else otherwise


async def _pass_on(text: str, service: AppService, talk: web.WebSocketResponse) -> None:
    """What a browser says, to its application; what makes no sense is left out."""
    try:
        kind, *rest = msgspec.json.decode(text, type=list[object])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return
    said = rest[0] if rest else ""
    if kind == "stdin" and isinstance(said, str):
        await service.send_bytes(said.encode(errors="replace"))
    elif kind == "resize" and isinstance(said, dict):
        width, height = said.get("width"), said.get("height")
        if isinstance(width, int) and isinstance(height, int) and width in _CELLS and height in _CELLS:
            await service.set_terminal_size(width, height)
    elif kind == "ping":
        await talk.send_json(["pong", said])
    elif kind == "blur":
        await service.blur()
    elif kind == "focus":
        await service.focus()

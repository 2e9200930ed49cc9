"""A real browser, by its own protocol: https://chromedevtools.github.io/devtools-protocol/."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pyte
import pytest

_COLOURS = """
new Promise((done) => {
  const image = new Image();
  image.onload = () => {
    const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    const data = new Uint32Array(pen.getImageData(0, 0, image.width, image.height).data.buffer);
    done(new Set(data).size);
  };
  image.src = "data:image/png;base64,PNG";
})
"""


class Tab:
    """A page in the browser; what its terminal was told is played on a terminal of our own."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        self._screen = pyte.Screen(200, 80)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    def hear(self, method: str, told: dict[str, Any]) -> None:
        if method == "Network.webSocketFrameReceived" and told["response"]["opcode"] == 2:
            self._stream.feed(base64.b64decode(told["response"]["payloadData"]))

    async def ask(self, method: str, **given: Any) -> dict[str, Any]:
        return await self._browser.ask(method, self._session, **given)

    async def shows(self, words: str) -> None:
        """Wait until they are there."""
        try:
            async with asyncio.timeout(40):
                while words not in self.text:
                    await self._browser.news()
        except TimeoutError:
            pytest.fail(f"“{words}” is not on the page:\n{self.text}")

    async def press(self, key: str) -> None:
        await self.ask("Runtime.evaluate", expression="document.querySelector('textarea').focus()")
        about = {"key": key, "code": f"Key{key.upper()}", "windowsVirtualKeyCode": ord(key.upper())}
        await self.ask("Input.dispatchKeyEvent", type="keyDown", text=key, **about)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    async def close(self) -> None:
        """Only one page at a time is drawn without a screen."""
        await self._browser.ask("Target.closeTarget", targetId=self._target)

    async def colours(self) -> int:
        """How many colours a picture of the page has."""
        picture = (await self.ask("Page.captureScreenshot"))["data"]
        code = _COLOURS.replace("PNG", picture)
        told = await self.ask("Runtime.evaluate", expression=code, awaitPromise=True)
        return int(told["result"]["value"])


class Browser:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._tabs: dict[str, Tab] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self.requests: list[str] = []

    async def ask(self, method: str, session: str | None = None, **given: Any) -> dict[str, Any]:
        number = next(self._numbers)
        about = {"sessionId": session} if session else {}
        await self._socket.send_json({"id": number, "method": method, "params": given, **about})
        async with asyncio.timeout(60):
            while number not in self._answers:
                await self.news()
        answer = self._answers.pop(number)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def news(self) -> None:
        """Wait for something that the browser tells."""
        told = await self._socket.receive_json()
        if "id" in told:
            self._answers[told["id"]] = told
        elif told.get("sessionId") in self._tabs:
            self._tabs[told["sessionId"]].hear(told["method"], told["params"])
            if told["method"] == "Network.requestWillBeSent":
                self.requests.append(told["params"]["request"]["url"])

    async def open(self, url: str) -> Tab:
        target = (await self.ask("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = self._tabs[session] = Tab(self, target, session)
        await tab.ask("Network.enable")
        await tab.ask("Page.enable")
        await tab.ask("Page.navigate", url=url)
        return tab


@contextlib.asynccontextmanager
async def chromium(directory: Path) -> AsyncIterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed (Debian: chromium)")
    process = await asyncio.create_subprocess_exec(
        found, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
        "--window-size=1000,700", "--remote-debugging-port=0", f"--user-data-dir={directory}", "about:blank",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said: list[str] = []
        async with asyncio.timeout(90):
            while not (said and said[-1].startswith("DevTools listening on ")):
                line = await process.stderr.readline()
                assert line, said
                said.append(line.decode(errors="replace").strip())
        drain = asyncio.create_task(process.stderr.read())
        address = said[-1].removeprefix("DevTools listening on ")
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            browser = Browser(socket)
            yield browser
            await browser.ask("Browser.close")
        await drain
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

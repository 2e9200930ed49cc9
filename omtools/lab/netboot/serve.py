"""The netboot server while it runs: dnsmasq for proxy DHCP and TFTP, HTTP for the big files, and who asks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from omtools.errors import NetbootRefused, OmError
from omtools.i18n import _
from omtools.lab.metal import checks, image
from omtools.lab.netboot import identity, plan
from omtools.lab.netboot.approvals import Approvals, Machine
from omtools.lab.netboot.plan import Server
from omtools.linux.interfaces import hardware_address_of
from omtools.linux.namespaces import set_parent_death_signal

DNSMASQ = checks.HERE[:1]
# What dnsmasq logs of who asks: DHCPDISCOVER(eth1) 52:54:00:77:00:02 ignored; PXE(eth1) 52:… proxy
_ASKED = re.compile(r"(?:DHCP\w+|PXE)\(\S+\) (?:[\d.]+ )?([0-9a-f]{2}(?::[0-9a-f]{2}){5}) (\S+)")
_SENT = re.compile(r"sent (\S+) to ([\d.]+)")
_NODE = re.compile(r"/nodes/([0-9a-f]{2}(?:-[0-9a-f]{2}){5})\.cpio")
_PIECE = 1 << 20
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
Say = Callable[[str], None]


def prepare(server: Server) -> None:
    """Write what dnsmasq reads and TFTP shows.

    Raises:
        NetbootRefused: it cannot be written.
    """
    try:
        for place in (server.directory, server.tftp, server.directory / "hosts"):
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
        (server.directory / "dnsmasq.conf").write_text(plan.dnsmasq_configuration(server))
        (server.tftp / "boot.ipxe").write_text(plan.boot_script(server))
        (server.tftp / "boot.ipxe").chmod(0o644)  # dnsmasq, as root, shows only what everybody may read
        for _kind, path in server.loaders:
            shutil.copyfile(path, server.tftp / path.name)
    except OSError as error:
        raise NetbootRefused(why=f"{error.filename}: {error.strerror}") from None


class _Handler(BaseHTTPRequestHandler):
    """Kernel and root for everybody on this wire, keys only for the machine whose they are."""

    protocol_version = "HTTP/1.1"  # iPXE keeps the connection
    timeout = 60
    server: _Http

    def do_GET(self) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError):
            parts = self.server.find(self.path, self.client_address[0])
            if parts is None:
                self.send_error(404)
                return
            sizes = [part.stat().st_size for part in parts]
            self.send_response(200)
            self.send_header("Content-Length", str(sum(sizes)))
            self.end_headers()
            for part in parts:
                with open(part, "rb") as file:
                    shutil.copyfileobj(file, self.wfile, _PIECE)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Nothing: what matters is said elsewhere."""


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, server: Server, built: image.Image, config: Path, approvals: Approvals, say: Say
    ) -> None:
        self._built = built
        self._config = config
        self._approvals = approvals
        self._say = say
        super().__init__((str(server.address.ip), plan.HTTP_PORT), _Handler)

    def find(self, path: str, address: str) -> list[Path] | None:
        """The files whose bytes, one behind the other, are the answer."""
        if path == "/vmlinuz":
            return [self._built.kernel]
        if path == "/initrd.img":
            return list(self._built.root)
        if (found := _NODE.fullmatch(path)) and (machine := self._allowed(found[1], address)):
            try:
                kept = identity.keep(self._approvals.directory, self._config, machine)
            except OmError as error:
                self._say(str(error))
                return None
            self._say(_("{name} ({mac}) boots, from {address}").format(
                name=machine.name, mac=machine.mac, address=address))  # fmt: skip
            return [kept]
        return None

    def _allowed(self, word: str, address: str) -> Machine | None:
        """The machine whose keys are wanted, if it is approved and the kernel sees that it is who asks."""
        mac = word.replace("-", ":")
        if hardware_address_of(address) != mac:
            sentence = _("{address} asked for the keys of {mac}, which it is not")
            self._say(sentence.format(address=address, mac=mac))
            return None
        machine = self._approvals.heard(mac, address=address)
        return machine if machine.state == "approved" else None


@contextlib.asynccontextmanager
async def _http(http: _Http) -> AsyncIterator[None]:
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        await asyncio.to_thread(http.shutdown)
        http.server_close()
        thread.join()


async def serve(
    server: Server, built: image.Image, config: Path, say: Say, ready: Callable[[], None]
) -> None:
    """Serve until SIGTERM, SIGHUP or SIGINT.

    Args:
        server: where, and what.
        built: what machines boot.
        config: this node's configuration directory, with the cluster's key.
        say: is told what happens.
        ready: called when it serves.

    Raises:
        NetbootRefused: a port is taken, or dnsmasq does not run.
    """
    approvals = Approvals(server.directory)
    await asyncio.to_thread(prepare, server)
    try:
        http = _Http(server, built, config, approvals, say)
    except OSError as error:
        why = _("TCP port {port} of {address}: {why}")
        raise NetbootRefused(
            why=why.format(port=plan.HTTP_PORT, address=server.address.ip, why=error.strerror)
        ) from None
    async with _http(http):
        await _run_dnsmasq(server, approvals, say, ready)


async def _run_dnsmasq(server: Server, approvals: Approvals, say: Say, ready: Callable[[], None]) -> None:
    own = os.getpid()
    process = await asyncio.create_subprocess_exec(
        checks.program_path("dnsmasq") or "dnsmasq", "--keep-in-foreground",
        f"--conf-file={server.directory / 'dnsmasq.conf'}",
        "--log-facility=-", "--pid-file=", stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: set_parent_death_signal(signal.SIGKILL, own), start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    loop = asyncio.get_running_loop()

    def end() -> None:
        # not process.terminate(): that reaps a child which has just ended, and asyncio misses its exit status
        if process.returncode is None:
            os.kill(process.pid, signal.SIGTERM)

    for signum in _ENDING:
        loop.add_signal_handler(signum, end)
    complaint = ""
    try:
        while line := (await process.stderr.readline()).decode(errors="replace").strip():
            if "started, version" in line:
                ready()
            elif "FAILED to start up" not in line:  # what it said before says why
                complaint = line
                await asyncio.to_thread(heard, line, approvals, say)
    except BaseException:
        end()
        raise
    finally:
        await process.wait()
        for signum in _ENDING:
            loop.remove_signal_handler(signum)
    if process.returncode:
        raise NetbootRefused(why=complaint)


def heard(line: str, approvals: Approvals, say: Say) -> None:
    """Who asks, by a line of dnsmasq's log, is written down."""
    found = _ASKED.search(line)
    if found is None:
        return
    mac, what = found.groups()
    with contextlib.suppress(NetbootRefused):  # a full disk: who asks is served all the same
        before = {one.mac for one in approvals.all()}
        machine = approvals.heard(mac)
        if mac not in before:
            say(_("{mac} asks for something to boot; `omnetboot approve {mac}` lets it").format(mac=mac))
        elif machine.state == "approved" and "ignored" not in what:
            say(_("{name} ({mac}) is told what to boot").format(name=machine.name, mac=mac))

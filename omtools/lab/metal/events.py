"""What happens in the lab, as events: read from the machines' logs and screens, one JSON object per line.

Every event has `at` (seconds since 1970), `node` (whom it is about) and `event`; some have more:

    power-on, power-off     the machine was switched; `why` where it switched itself off
    reset                   it started anew
    cable-in, cable-out     somebody plugged it in, pulled it out
    firmware                its firmware looks for something to boot
    dhcp-discover, -offer, -request, -ack      with `address` (not discover) and `hardware`
    tftp-sent, tftp-missing                    with `path`
    http-request, http-missing, http-sent      with `path`; sent: `seconds` it took
    kernel                  the kernel's first words, with `release`
    root                    the kernel starts the first program of the root file system
    nfs-root, nfs-refused   that one mounts its root by NFS, or cannot: `path`
    booted                  network and SSH are up
    ssh-login, ssh-refused  with `user`; somebody came in by SSH
    agent-ready             its omagentd serves
    agent-joined            its omagentd has connected to another, `peer`
    problem                 a service complained: `text`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath

from omtools.i18n import N_, _

Event = dict[str, str | float]

# busybox syslogd: Mon DD HH:MM:SS host facility.severity tag[pid]: text
_LINE = re.compile(
    r"^\w{3} [ \d]\d \d\d:\d\d:\d\d \S+ \w+\.(?P<severity>\w+) "
    r"(?P<tag>[^\s:\[]*)(\[\d+\])?: ?(?P<text>.*)$"
)
_DHCP = re.compile(r"(?:\d+ )?DHCP(DISCOVER|OFFER|REQUEST|ACK|NAK)\(\S+\) (?:([\d.]+) )?([0-9a-f:]{17})")
_SENT = re.compile(r"sent (\S+) to (\S+)")
_MISSING = re.compile(r"file (\S+) not found for (\S+)")
_HTTP = re.compile(r"\[(?:::ffff:)?([\d.]+)\]:(\d+): (?:(url|response):)?(\S+)")
_LOGIN = re.compile(r"Pubkey auth succeeded for '(\w+)'.* from ([\d.]+)")
_REFUSED = re.compile(r"(?:Login attempt for nonexistent user|Exit before auth.*user '(\w+)', \d+ fails)")
_JOINED = re.compile(r"connected to a peer peer=(\S+)")
_SCREEN: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"SeaBIOS \(version"), "firmware"),
    (re.compile(r"Linux version (?P<release>\S+)"), "kernel"),
    (re.compile(r"Run /init as init process"), "root"),
    (re.compile(r"omlab: root by NFS: (?P<path>\S+)"), "nfs-root"),
    (re.compile(r"omlab: no root by NFS: (?P<path>\S+)"), "nfs-refused"),
)
_COMPLAINTS = {"err", "crit", "alert", "emerg"}


class LogReader:
    """Reads the log of one machine.

    Attributes:
        node: its name.
    """

    def __init__(self, node: str, name_of: Callable[[str], str]) -> None:
        """Begin.

        Args:
            node: whose log it is.
            name_of: the name of the machine with that IP or hardware address, or the address itself.
        """
        self.node = node
        self._name_of = name_of
        self._requests: dict[str, tuple[str, float]] = {}

    def read(self, line: str, now: float) -> Event | None:
        """The event that a line of the log tells of, if any.

        Args:
            line: without its end.
            now: when it arrived, in seconds.
        """
        found = _LINE.match(line)
        if found is None:
            return None
        tag, text = found["tag"], found["text"]
        reader = _READERS.get(tag)
        event = reader(self, text, now) if reader else None
        if event is None and found["severity"] in _COMPLAINTS:
            event = {"node": self.node, "event": "problem", "text": f"{tag}: {text}"}
        return event

    def _dhcp(self, text: str, _now: float) -> Event | None:
        if (found := _DHCP.match(text)) is None:
            return None
        kind, address, hardware = found.groups()
        event: Event = {"node": self._name_of(hardware), "event": f"dhcp-{kind.lower()}"}
        event["hardware"] = hardware
        return {**event, "address": address} if address else event

    def _tftp(self, text: str, _now: float) -> Event | None:
        for pattern, what in ((_SENT, "tftp-sent"), (_MISSING, "tftp-missing")):
            if found := pattern.match(text):
                return {"node": self._name_of(found[2]), "event": what, "path": found[1]}
        return None

    def _http(self, text: str, now: float) -> Event | None:
        if (found := _HTTP.match(text)) is None:
            return None
        address, port, kind, word = found.groups()
        about: Event = {"node": self._name_of(address)}
        if kind == "url":
            self._requests[port] = (word, now)
            return {**about, "event": "http-request", "path": word}
        if kind == "response" and word != "200" and port in self._requests:
            return {**about, "event": "http-missing", "path": self._requests.pop(port)[0]}
        if word == "closed" and port in self._requests:
            path, begun = self._requests.pop(port)
            return {**about, "event": "http-sent", "path": path, "seconds": round(now - begun, 3)}
        return None

    def _ssh(self, text: str, _now: float) -> Event | None:
        if found := _LOGIN.match(text):
            event: Event = {"node": self.node, "event": "ssh-login", "user": found[1]}
            return {**event, "from": self._name_of(found[2])}
        if found := _REFUSED.match(text):
            return {"node": self.node, "event": "ssh-refused", "user": found[1] or "?"}
        return None

    def _agent(self, text: str, _now: float) -> Event | None:
        if "the agent serves" in text:
            return {"node": self.node, "event": "agent-ready"}
        if found := _JOINED.search(text):
            return {"node": self.node, "event": "agent-joined", "peer": found[1]}
        return None

    def _own(self, text: str, _now: float) -> Event | None:
        return {"node": self.node, "event": "booted"} if text == "booted" else None


_READERS: Mapping[str, Callable[[LogReader, str, float], Event | None]] = {
    "dnsmasq-dhcp": LogReader._dhcp,
    "dnsmasq-tftp": LogReader._tftp,
    "httpd": LogReader._http,
    "dropbear": LogReader._ssh,
    "omagentd": LogReader._agent,
    "omlab": LogReader._own,
}


def read_screen(node: str, line: str) -> Event | None:
    """The event that a line on a machine's screen shows, if any."""
    for pattern, what in _SCREEN:
        if found := pattern.search(line):
            event: Event = {"node": node, "event": what}
            return {**event, **found.groupdict()}
    return None


# How far a machine came that does not boot: its last event, and where to look.
_HOW_FAR: Mapping[str, str] = {
    "power-on": N_("nothing has appeared on its screen"),
    "reset": N_("nothing has appeared on its screen"),
    "firmware": N_("its card asks for an address in vain: does dnsmasq run on mCii, and is the cable in"),
    "dhcp-discover": N_("it asked for an address, and mCii offered none: dnsmasq.conf says whom it serves"),
    "dhcp-offer": N_("it did not take the address that it was offered"),
    "dhcp-request": N_("it was refused the address that it wanted"),
    "dhcp-nak": N_("it was refused the address that it wanted"),
    "dhcp-ack": N_("it has an address, and fetched no boot script: dnsmasq.conf names it (dhcp-boot)"),
    "tftp-missing": N_("it asked by TFTP for {path}, which is not there"),
    "tftp-sent": N_("it has the boot script, and fetched nothing that it names: does httpd run on mCii"),
    "http-request": N_("it did not get all of {path}"),
    "http-missing": N_("it asked by HTTP for {path}, which is not there"),
    "http-sent": N_("it has fetched {path}, and its kernel did not start"),
    "kernel": N_("its kernel runs and has not come to its root file system"),
    "root": N_("it has its root, and not its network; its screen says where it waits"),
    "nfs-root": N_("it has its root by NFS, and did not come up from there; its screen says where it waits"),
    "nfs-refused": N_("it asked by NFS for {path} in vain: /etc/exports on mCii says who may have what"),
    "booted": N_("it is up, and its agent does not serve; /var/log/messages on it says why"),
    "problem": N_("{text}"),
}


def how_far(events: Iterable[Mapping[str, object]], node: str) -> str:
    """How far a machine came since it was switched on, and where to look; "" if nothing is known.

    Args:
        events: of all machines, from the beginning.
        node: its name.
    """
    last: Mapping[str, object] = {}
    for event in events:
        if event["node"] == node and event["event"] in _HOW_FAR:
            last = event
    return _(_HOW_FAR[str(last["event"])]).format(**last) if last else ""


class Lines:
    """Cuts a stream of bytes into lines; what is no line yet waits for the rest, within bounds."""

    LONGEST = 4096

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-self.LONGEST :]
        return [line.decode(errors="replace").rstrip("\r") for line in lines]


def sentence(event: Mapping[str, object], begun: float) -> str:
    """An event as a line for people: seconds since `begun`, whom it is about, what, and the rest of it."""
    more = " ".join(str(PurePosixPath(str(value)) if key == "path" else value)
                    for key, value in event.items() if key not in {"at", "node", "event"})  # fmt: skip
    at = event["at"]
    assert isinstance(at, int | float)
    return f"{at - begun:8.2f}  {event['node']!s:<12} {event['event']!s:<14} {more}".rstrip()

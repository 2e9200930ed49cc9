from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from omtools.lab.metal.events import Event, Lines, LogReader, how_far, read_screen, sentence

NAMES = {"52:54:00:77:00:02": "metrakilate", "10.77.0.2": "metrakilate"}


def reader() -> LogReader:
    return LogReader("mCii", lambda address: NAMES.get(address, address))


def read(text: str, who: str = "daemon.info dnsmasq-dhcp[127]") -> Event | None:
    return reader().read(f"Nov 23 08:53:27 mCii {who}: {text}", 0.0)


@pytest.mark.parametrize("kind", ["DISCOVER", "OFFER", "REQUEST", "ACK"])
def test_dhcp(kind: str) -> None:
    for before in ("", "892280164 "):  # with log-dhcp there is a number
        address = "" if kind == "DISCOVER" else "10.77.0.2 "
        found = read(f"{before}DHCP{kind}(eth0) {address}52:54:00:77:00:02 metrakilate")
        assert found is not None
        assert (found["node"], found["event"]) == ("metrakilate", f"dhcp-{kind.lower()}")
        assert found.get("address") == (address.strip() or None)


def test_tftp() -> None:
    sent = read("sent /srv/tftp/boot.ipxe to 10.77.0.2", "daemon.info dnsmasq-tftp[1]")
    assert sent == {"node": "metrakilate", "event": "tftp-sent", "path": "/srv/tftp/boot.ipxe"}
    missing = read("file /srv/tftp/x not found for 10.77.0.2", "daemon.err dnsmasq-tftp[1]")
    assert missing == {"node": "metrakilate", "event": "tftp-missing", "path": "/srv/tftp/x"}


def test_http_from_request_to_end() -> None:
    log = reader()
    head = "Nov 23 08:53:43 mCii daemon.info httpd: [::ffff:10.77.0.2]:36115: "
    found = [log.read(head + text, at) for text, at in
             (("connected", 1.0), ("url:/vmlinuz", 1.1), ("response:200", 1.2), ("closed", 1.75), ("closed", 2.0))]
    about = {"node": "metrakilate", "path": "/vmlinuz"}
    assert found == [
        None, {**about, "event": "http-request"}, None, {**about, "event": "http-sent", "seconds": 0.65}, None,
    ]  # fmt: skip


def test_http_of_what_is_not_there() -> None:
    log = reader()
    head = "Nov 23 08:53:43 mCii daemon.info httpd: 10.77.0.2:36115: ".replace("10.77.0.2", "[::ffff:10.77.0.2]")
    log.read(head + "url:/nodes/none.cpio", 0.0)
    found = log.read(head + "response:404", 0.0)
    assert found == {"node": "metrakilate", "event": "http-missing", "path": "/nodes/none.cpio"}
    assert log.read(head + "closed", 0.0) is None


def test_ssh_and_agent() -> None:
    key = "ssh-ed25519 key SHA256:Bu7eoFIEec"
    found = read(f"Pubkey auth succeeded for 'root' with {key} from 10.77.0.2:46964", "authpriv.notice dropbear[9]")
    assert found == {"node": "mCii", "event": "ssh-login", "user": "root", "from": "metrakilate"}
    stamp = "2026-11-23 08:53:29,537 INFO node=1 "
    found = read(f"{stamp}the agent serves name=mCii address=10.77.0.1", "daemon.info omagentd")
    assert found == {"node": "mCii", "event": "agent-ready"}
    found = read(f"{stamp}connected to a peer peer=metrakilate address=10.77.0.2", "daemon.info omagentd")
    assert found == {"node": "mCii", "event": "agent-joined", "peer": "metrakilate"}
    assert read("booted", "daemon.notice omlab") == {"node": "mCii", "event": "booted"}


def test_complaints_of_anybody() -> None:
    found = read("failed to bind", "daemon.crit dnsmasq[5]")
    assert found == {"node": "mCii", "event": "problem", "text": "dnsmasq: failed to bind"}
    assert read("all is well", "daemon.info dnsmasq[5]") is None


@given(st.text(max_size=200))
def test_no_line_confuses_it(line: str) -> None:
    found = reader().read(line, 0.0)
    assert found is None or found["event"]
    assert read(line) is None or read(line)
    read_screen("mCii", line)


def test_the_screen() -> None:
    line = "[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org)"
    found = read_screen("mCii", line)
    assert found == {"node": "mCii", "event": "kernel", "release": "6.1.0-56-cloud-amd64"}
    assert read_screen("mCii", "[  2.47] Run /init as init process") == {"node": "mCii", "event": "root"}
    root = {"node": "metrakilate", "event": "nfs-root", "path": "10.77.0.1:/srv/nfs/root"}
    assert read_screen("metrakilate", "omlab: root by NFS: 10.77.0.1:/srv/nfs/root") == root
    refused = read_screen("metrakilate", "omlab: no root by NFS: 10.77.0.1:/srv/nfs/root cannot be mounted")
    assert refused == {**root, "event": "nfs-refused"}
    assert read_screen("mCii", "login:") is None


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\n\r"), max_size=20)), st.integers(1, 7))
def test_lines_however_they_are_cut(lines: list[str], size: int) -> None:
    data = "".join(f"{line}\r\n" for line in lines).encode()
    cutter = Lines()
    found = [line for at in range(0, len(data), size) for line in cutter.feed(data[at : at + size])]
    assert found == lines


def test_a_line_without_end_does_not_grow() -> None:
    cutter = Lines()
    for _time in range(10):
        assert cutter.feed(bytes(Lines.LONGEST)) == []
    assert len(cutter.feed(b"\n")[0]) <= Lines.LONGEST


def test_for_people() -> None:
    event = {"at": 12.5, "node": "metrakilate", "event": "tftp-sent", "path": "/srv/tftp/boot.ipxe"}
    assert sentence(event, 10.0).split() == ["2.50", "metrakilate", "tftp-sent", "/srv/tftp/boot.ipxe"]


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ({"event": "firmware"}, "does dnsmasq run"),
        ({"event": "tftp-missing", "path": "/srv/tftp/boot.ipxe"}, "/srv/tftp/boot.ipxe, which is not there"),
        ({"event": "http-sent", "path": "/vmlinuz", "seconds": 1.0}, "/vmlinuz, and its kernel did not start"),
        ({"event": "nfs-refused", "path": "10.77.0.1:/srv/nfs/root"}, "10.77.0.1:/srv/nfs/root in vain"),
        ({"event": "booted"}, "/var/log/messages"),
    ],
)
def test_how_far_one_came_that_does_not_boot(last: dict[str, object], says: str) -> None:
    before = [{"node": "metrakilate", "event": "power-on"}, {"node": "mCii", "event": "agent-ready"}]
    after = [{"node": "metrakilate", "event": "cable-in"}, {"node": "mCii", "event": "booted"}]
    assert says in how_far([*before, {"node": "metrakilate", **last}, *after], "metrakilate")


def test_how_far_is_not_known_of_one_that_was_never_on() -> None:
    assert how_far([{"node": "mCii", "event": "power-on"}], "metrakilate") == ""

"""``omnetboot``: machines without a disk boot from this node, in a house whose router gives out addresses."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.commands._common import as_whole, parser, print_json, run, say
from omtools.errors import NetbootRefused, UsageError
from omtools.i18n import N_, _

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from omtools.lab.netboot.approvals import Approvals, Machine
    from omtools.lab.netboot.plan import Server

KERNEL = "linux-image-amd64"
PLACE = "/var/lib/openmosix/netboot"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omnetboot, arguments)


def _omnetboot(arguments: list[str]) -> int:
    given = _options().parse_args(arguments)
    if given.config:
        os.environ["OPENMOSIX_CONFIG"] = os.path.abspath(given.config)
    return _VERBS[given.verb][1](given)


def _options() -> ArgumentParser:
    what = _(
        "Machines without a disk boot from this node over the network. The router of the house goes on "
        "giving out addresses, and only machines that you have approved are answered."
    )
    options = parser("omnetboot", what)
    verbs = options.add_subparsers(dest="verb", metavar="VERB", required=True)
    subs = {}
    for verb, (text, _act) in _VERBS.items():
        subs[verb] = verbs.add_parser(verb, help=_(text), description=_(text), allow_abbrev=False)
        subs[verb].add_argument("--debug", action="store_true", help=_("show tracebacks"))
        subs[verb].add_argument("--config", metavar="DIR", help=_("keys and settings, as of omagentd"))
        where = _("where everything is kept ({place})").format(place=PLACE)
        subs[verb].add_argument("--directory", metavar="DIR", type=Path, default=Path(PLACE), help=where)
    for verb in ("plan", "run"):
        on = _("the interface to serve on; no other is used")
        subs[verb].add_argument("--interface", "-i", metavar="IF", required=True, help=on)
        whose = _("whose kernel they boot ({kernel})").format(kernel=KERNEL)
        subs[verb].add_argument("--kernel", metavar="PACKAGE", default=KERNEL, help=whose)
    subs["run"].add_argument("--dry-run", action="store_true", help=_("show what would be done, and end"))
    subs["run"].add_argument("--yes", "-y", action="store_true", help=_("do it without asking"))
    for verb in ("list", "approve", "refuse", "forget"):
        subs[verb].add_argument("--json", action="store_true", help=_("answer as JSON"))
    for verb in ("approve", "refuse", "forget"):
        subs[verb].add_argument("machine", metavar="MAC", help=_("its hardware address, or its name"))
    subs["approve"].add_argument(
        "--number", metavar="N", type=as_whole(1, 65535), default=0, help=_("the node's number, 1 to 65535")
    )
    subs["approve"].add_argument("--name", metavar="NAME", default="", help=_("the node's name"))
    return options


def _server(given: Namespace) -> Server:
    from omtools.lab.netboot.plan import Server, find_loaders  # noqa: PLC0415 - --help needs none of it
    from omtools.linux.interfaces import interface_of  # noqa: PLC0415

    try:
        address = interface_of(given.interface)
    except OSError as error:
        why = _("{name}: {why}").format(name=given.interface, why=error.strerror)
        raise NetbootRefused(why=why) from None
    return Server(given.interface, address, given.directory.absolute(), find_loaders())


def _approvals(given: Namespace) -> Approvals:
    from omtools.lab.netboot.approvals import Approvals  # noqa: PLC0415

    return Approvals(given.directory.absolute())


def _config() -> Path:
    from omtools.agent.paths import config_dir  # noqa: PLC0415

    return config_dir().absolute()


def _plan(given: Namespace) -> int:
    server = _server(given)
    _show(server, given, _approvals(given))
    from omtools.lab.netboot.plan import boot_script, dnsmasq_configuration  # noqa: PLC0415

    for path, text in (
        (server.directory / "dnsmasq.conf", dnsmasq_configuration(server)),
        (server.tftp / "boot.ipxe", boot_script(server)),
    ):
        print(f"\n{path}:")
        print("".join(f"    {line}\n" for line in text.splitlines()), end="")
    return 0


def _show(server: Server, given: Namespace, approvals: Approvals) -> None:
    from omtools.lab.netboot.plan import sentences  # noqa: PLC0415

    machines = approvals.all()
    counts = [sum(one.state == state for one in machines) for state in ("approved", "waiting")]
    for sentence in sentences(server, given.kernel, *counts):
        print(f"- {sentence}")


def _run(given: Namespace) -> int:
    import asyncio  # noqa: PLC0415

    from omtools.lab.metal import checks, image  # noqa: PLC0415
    from omtools.lab.metal.layers import for_real_machines  # noqa: PLC0415
    from omtools.lab.netboot.identity import check_cluster  # noqa: PLC0415
    from omtools.lab.netboot.serve import DNSMASQ, serve  # noqa: PLC0415

    if given.dry_run:
        return _plan(given)
    checks.check_programs(DNSMASQ)
    check_cluster(_config())
    server = _server(given)
    _show(server, given, _approvals(given))
    sys.stdout.flush()
    if not given.yes and not _agreed():
        print(_("Nothing was done."))
        return 1
    if os.geteuid():
        raise NetbootRefused(why=_("the ports of DHCP and TFTP are root's"))
    built = image.build(kind=for_real_machines(given.kernel), report=say)
    serving = _("serving on {interface}; Ctrl-C ends it").format(interface=server.interface)
    asyncio.run(serve(server, built, _config(), say, lambda: say(serving)))
    return 0


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError(detail=_("Nobody can be asked here; --yes does it without asking."))
    return input(_("Do this? [y/N] ")).strip().casefold() in {"y", "yes", *_("y yes").casefold().split()}


def _list(given: Namespace) -> int:
    machines = _approvals(given).all()
    if given.json:
        print_json(machines)
        return 0
    if not machines:
        print(_("No machine has asked to boot from here."))
    for one in machines:
        print(_line(one))
    return 0


def _line(one: Machine) -> str:
    states = {"waiting": _("waiting"), "approved": _("approved"), "refused": _("refused")}
    seconds = int(max(0, time.time() - one.seen))
    ago = _("asked {s} s ago").format(s=seconds) if one.seen else _("never asked")
    node = f"{one.number} {one.name}" if one.number else ""
    return f"{one.mac}  {states[one.state]:<10} {node:<20} {one.address:<15} {ago}".rstrip()


def _approve(given: Namespace) -> int:
    from omtools.agent.config import read_discovered  # noqa: PLC0415
    from omtools.agent.paths import run_dir  # noqa: PLC0415
    from omtools.lab.netboot import identity  # noqa: PLC0415

    own = identity.check_cluster(_config())
    approvals = _approvals(given)
    taken = {own.number, *(one.number for one in read_discovered(run_dir().absolute()))}
    taken -= {one.number for one in approvals.all()}  # these are theirs
    machine = approvals.approve(given.machine, given.number, given.name, taken)
    identity.keep(approvals.directory, _config(), machine)
    sentence = _("{mac} may boot, as node {number}, {name}; switch it on again.")
    return _answer(given, machine, sentence)


def _refuse(given: Namespace) -> int:
    from omtools.lab.netboot import identity  # noqa: PLC0415

    machine = _approvals(given).refuse(given.machine)
    identity.drop(given.directory.absolute(), machine.mac)
    return _answer(given, machine, _("{mac} is not answered any more."))


def _forget(given: Namespace) -> int:
    from omtools.lab.netboot import identity  # noqa: PLC0415

    machine = _approvals(given).forget(given.machine)
    identity.drop(given.directory.absolute(), machine.mac)
    return _answer(given, machine, _("{mac} is forgotten; when it asks again it waits again."))


def _answer(given: Namespace, machine: Machine, sentence: str) -> int:
    if given.json:
        print_json(machine)
    else:
        print(sentence.format(mac=machine.mac, number=machine.number, name=machine.name))
    return 0


_VERBS: dict[str, tuple[str, Callable[[Namespace], int]]] = {
    "plan": (N_("show what would be done on an interface, with every file"), _plan),
    "run": (N_("show what will be done, ask, and serve until Ctrl-C"), _run),
    "list": (N_("the machines that have asked, and what was decided"), _list),
    "approve": (N_("let a machine boot, as a node of this cluster"), _approve),
    "refuse": (N_("answer a machine no more"), _refuse),
    "forget": (N_("take a machine from the list"), _forget),
}

if __name__ == "__main__":
    sys.exit(main())

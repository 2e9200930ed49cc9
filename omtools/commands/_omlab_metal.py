"""omlab's commands for a lab of machines; imported only where there is one, or where one is wanted."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from omtools.commands._common import say
from omtools.errors import LabError, LabNotUp, MetalBootFailed
from omtools.i18n import _
from omtools.lab.lab import Lab
from omtools.lab.metal import plan
from omtools.lab.metal.lab import MetalLab

_SCREEN_BYTES, _SCREEN_LINES = 4096, 12  # of a screen, for somebody who wonders why it does not boot
_UNPRINTABLE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x1f\x7f]")  # ECMA-48's control sequences


def up(options: argparse.Namespace) -> int:
    """Start the lab, or what is missing of it."""
    if options.nodes not in (None, 2) or options.plain:
        raise LabError(why=_("a lab of machines has two nodes, and no plain ones"))
    root = options.root or plan.MEMORY
    if root == plan.NFS and options.metal == "here":
        why = _("with this machine as mCii there is no NFS root: its kernel has one NFS server for everybody")
        raise LabError(why=why)
    if _namespaces_up():
        raise LabError(why=_("a lab of namespaces is up; `omlab down` first, or name another by OMLAB_NAME"))
    report = (lambda _line: None) if options.json else say
    try:
        lab = MetalLab.up(bare=options.bare, here=options.metal == "here", root=root, report=report)
    except MetalBootFailed as error:
        _show_screen(Path(str(error.fields["record"])))
        raise
    if options.json:
        print(json.dumps(_description(lab)))
        return 0
    found = [node for node in lab.nodes() if node["power"] == "on"]
    nodes = ", ".join(f"{node['name']} ({node['number']}, {node['address']})" for node in found)
    print(_("Up: {nodes}.").format(nodes=nodes))
    if lab.state.bare:
        print(_("mCii has no services yet; /usr/share/omlab/netboot there is how they could look."))
    print(_("`omlab shell {name}` takes you there.").format(name=found[0]["name"]))
    return 0


def _show_screen(record: Path) -> None:
    """The last lines of what was on a machine's screen."""
    with contextlib.suppress(OSError):
        text = record.read_bytes()[-_SCREEN_BYTES:].decode(errors="replace")
        lines = [_UNPRINTABLE.sub("", line).rstrip() for line in text.splitlines()]
        for line in [line for line in lines if line][-_SCREEN_LINES:]:
            print(f"  | {line}", file=sys.stderr)


def _namespaces_up() -> bool:
    try:
        Lab.find()
    except LabNotUp:
        return False
    return True


def down(_options: argparse.Namespace) -> bool:
    """Take it down; False if there was nothing."""
    return MetalLab.down()


def _description(lab: MetalLab) -> dict[str, Any]:
    return {
        "up": True, "name": lab.state.name, "mode": "metal", "bare": lab.state.bare,
        "here": lab.state.here, "root": lab.state.root,
        "directory": str(lab.directory), "nodes": lab.nodes(),
    }  # fmt: skip


def status(options: argparse.Namespace) -> int:
    """What is up; exit status 1 if anything that should be is not."""
    lab = MetalLab.find()
    found = _description(lab)
    well = all(node["agent"] and node["cable"] == "in" for node in found["nodes"])
    if options.json:
        print(json.dumps(found))
        return 0 if well else 1
    head = _("Lab “{name}”, machines under emulation, in {directory}")
    if lab.state.here:
        head = _("Lab “{name}”, this machine and an emulated one, in {directory}")
    print(head.format(name=lab.state.name, directory=lab.directory))
    for node in found["nodes"]:
        print(f"{node['number']:>5}  {node['name']:<16} {node['address']:<15}  {_words(node)}")
    return 0 if well else 1


def _words(node: dict[str, Any]) -> str:
    if node["power"] == "off":
        words = _("off; `omlab power on {name}` switches it on").format(name=node["name"])
    elif node["agent"]:
        words = _("on, its agent serves")
    elif node["booted"]:
        words = _("on, no agent yet")
    else:
        words = _("on, starting")
    return words if node["cable"] == "in" else _("{words}; its cable is out").format(words=words)


def list_nodes(options: argparse.Namespace) -> int:
    """Number, name and address of each node."""
    nodes = [{key: node[key] for key in ("number", "name", "address")} for node in MetalLab.find().nodes()]
    if options.json:
        print(json.dumps(nodes))
    else:
        for node in nodes:
            print(f"{node['number']:>5}  {node['name']:<16} {node['address']}")
    return 0


def power(options: argparse.Namespace) -> int:
    """Switch a machine on or off, or reset it."""
    node = MetalLab.find().power(options.node, options.to)
    print(f"{node['name']}: {_words(node)}")
    return 0


def cable(options: argparse.Namespace) -> int:
    """Plug a machine's cable in, or pull it out."""
    node = MetalLab.find().cable(options.node, options.to)
    print(f"{node['name']}: {_words(node)}")
    return 0


def console(options: argparse.Namespace) -> int:
    """Attach to a machine's console."""
    from omtools.lab.metal.console import attach  # noqa: PLC0415 - terminals and all: only where it is used

    lab = MetalLab.find()
    name = lab.node(options.node)["name"]
    if sys.stdin.isatty():
        say(_("the console of {name}; Ctrl-] leaves it").format(name=name))
    return attach(lab, options.node, watch=options.watch)


def events(options: argparse.Namespace) -> int:
    """Print what happened, and with --follow what happens."""
    from omtools.lab.metal.events import sentence  # noqa: PLC0415

    begun: float | None = None
    for event in MetalLab.find().events(follow=options.follow):
        begun = event["at"] if begun is None else begun
        print(json.dumps(event) if options.json else sentence(event, begun), flush=True)
    return 0


def image_build(options: argparse.Namespace) -> int:
    """Build what the machines boot."""
    from omtools.lab.metal import image  # noqa: PLC0415

    built = image.build(force=options.force, report=say)
    size = sum(path.stat().st_size for path in (built.kernel, *built.root, built.server))
    print(_("Image {digest}, {mb:.0f} MB, in {directory}").format(
        digest=built.digest[:12], mb=size / 1e6, directory=built.kernel.parent))  # fmt: skip
    return 0


def execute(node: str, command: list[str]) -> int:
    """Run a program on a machine."""
    from omtools.lab.metal import way  # noqa: PLC0415 - SSH

    return way.execute(MetalLab.find(), node, command)


def shell(options: argparse.Namespace) -> int:
    """An interactive shell on a machine."""
    from omtools.lab.metal import way  # noqa: PLC0415

    return way.shell(MetalLab.find(), options.node)

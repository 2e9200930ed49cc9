"""omlab: nodes on one machine."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from typing import Any, cast

from omtools.commands._common import parser as make_parser, run, say
from omtools.errors import LabError, LabNotUp, UsageError
from omtools.i18n import N_, _
from omtools.lab.lab import Lab
from omtools.lab.metal import plan
from omtools.lab.settings import own_environment
from omtools.lab.state import LabState, NodeState


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omlab, arguments)


def _omlab(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    status: int = options.action(options)
    return status


def _parser() -> argparse.ArgumentParser:
    what = _("A cluster on one machine: nodes with their own address, processes, /tmp and agent.")
    parser = make_parser("omlab", what)
    parser.epilog = _("OMLAB_NAME names the lab, so that a user can have several.")
    commands = parser.add_subparsers(required=True, metavar=_("COMMAND"))

    up = commands.add_parser("up", help=_("start the lab, or what is missing of it"))
    up.add_argument("--nodes", type=int, metavar="N", help=_("how many nodes; two if nothing is said"))
    up.add_argument("--plain", action="store_true", help=_("without namespaces: agents on 127.x.y.z"))
    machines = _("two emulated machines; metrakilate boots over the network from mCii; with “here” "
                 "this machine is mCii")
    up.add_argument(
        "--metal", nargs="?", const="two", choices=("two", "here"), metavar="here", help=machines
    )
    bare = _("with --metal: leave the services that metrakilate boots from to you")
    up.add_argument("--bare", action="store_true", help=bare)
    root = _("with --metal: where metrakilate has its root file system: unpacked into its memory, or by NFS "
             "in a directory of mCii")
    up.add_argument("--root", choices=("memory", "nfs"), help=root)
    up.add_argument("--json", action="store_true", help=_("print what is up as JSON"))
    up.set_defaults(action=_up)

    down = commands.add_parser("down", help=_("take the lab down; nothing of it remains"))
    down.set_defaults(action=_down)

    for name, action, text in (
        ("status", _status, N_("what is up, and whether all of it lives (exit status 1: not)")),
        ("list", _list, N_("number, name and address of each node")),
    ):
        command = commands.add_parser(name, help=_(text))
        command.add_argument("--json", action="store_true", help=_("as JSON"))
        command.set_defaults(action=action)

    usage = "omlab exec NODE -- CMD..."
    execute = commands.add_parser("exec", help=_("run a program on a node"), usage=usage)
    execute.add_argument("node", metavar="NODE", help=_("name or number"))
    execute.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help=_("program and arguments"))
    execute.set_defaults(action=_exec)

    shell = commands.add_parser("shell", help=_("an interactive shell on a node"))
    shell.add_argument("node", metavar="NODE", help=_("name or number"))
    shell.set_defaults(action=_shell)

    env = commands.add_parser("env", help=_("shell commands that make this shell talk to a node's agent"))
    env.add_argument("node", metavar="NODE", help=_("name or number"))
    env.set_defaults(action=_env)
    _add_machine_commands(commands)
    return parser


def _add_machine_commands(commands: Any) -> None:
    """What only a lab of machines (`omlab up --metal`) has: switches, cables, screens."""
    for name, switches, text in (
        ("power", ("on", "off", "reset"), N_("switch a machine of a metal lab on or off, or reset it")),
        ("cable", ("in", "out"), N_("plug a machine's network cable in, or pull it out")),
    ):
        command = commands.add_parser(name, help=_(text))
        command.add_argument("to", choices=switches, metavar="|".join(switches))
        command.add_argument("node", metavar="NODE", help=_("name or number"))
        command.set_defaults(action=_machines(name))

    console = commands.add_parser("console", help=_("a machine's screen and keyboard; Ctrl-] leaves"))
    console.add_argument("node", metavar="NODE", help=_("name or number"))
    console.add_argument("--watch", action="store_true", help=_("only watch"))
    console.set_defaults(action=_machines("console"))

    events = commands.add_parser("events", help=_("what happened to the machines: DHCP, TFTP, kernel, …"))
    events.add_argument("--follow", action="store_true", help=_("and what happens from now on"))
    events.add_argument("--json", action="store_true", help=_("as JSON, one object per line"))
    events.set_defaults(action=_machines("events"))

    image = commands.add_parser("image", help=_("what the machines of a metal lab boot"))
    build = image.add_subparsers(required=True, metavar="build").add_parser(
        "build", help=_("build it, as far as it is not there")
    )
    build.add_argument("--force", action="store_true", help=_("everything anew, from the newest packages"))
    build.set_defaults(action=_machines("image_build"))


def _machines(name: str) -> Any:
    """A command of `_omlab_metal`, which is imported when it is called."""

    def call(*arguments: Any) -> Any:
        from omtools.commands import _omlab_metal  # noqa: PLC0415 - keys and SSH: only for a metal lab

        return getattr(_omlab_metal, name)(*arguments)

    return call


def _metal() -> bool:
    """Whether the user's lab is one of machines."""
    return plan.home().exists()


def _up(options: argparse.Namespace) -> int:
    if options.metal:
        return cast(int, _machines("up")(options))
    if options.root:
        raise UsageError(detail=_("--root is for a lab of machines: omlab up --metal --root=nfs"))
    if options.bare:
        raise UsageError(detail=_("--bare is for a lab of machines: omlab up --metal --bare"))
    if _metal():
        raise LabError(why=_("a lab of machines is up; `omlab down` first, or name another by OMLAB_NAME"))
    lab = Lab.up(options.nodes, plain=options.plain)
    if options.json:
        print(json.dumps(_description(lab)))
        return 0
    if lab.state.reason:
        sentence = _(
            "No namespaces here ({why}): the nodes are plain processes on loopback addresses, which share "
            "/tmp, pids and the network with this machine. `omcheck` tells how to get namespaces."
        )
        say(sentence.format(why=lab.state.reason))
    nodes = ", ".join(f"{node.name} ({node.number}, {node.address})" for node in lab.state.nodes)
    print(_("Up: {nodes}.").format(nodes=nodes))
    print(_("`omlab shell {name}` takes you there.").format(name=lab.state.nodes[0].name))
    return 0


def _down(options: argparse.Namespace) -> int:
    was_metal = _metal() and _machines("down")(options)
    print(_("The lab is down.") if Lab.down() or was_metal else _("No lab was up."))
    return 0


def _description(lab: Lab) -> dict[str, Any]:
    return {
        "up": True,
        "name": lab.state.name,
        "mode": lab.state.mode,
        "reason": lab.state.reason,
        "directory": str(lab.directory),
        "nodes": [_node_description(lab, node) for node in lab.state.nodes],
    }


def _node_description(lab: Lab, node: NodeState) -> dict[str, Any]:
    agent = lab.agent_alive(node)  # first: it also learns the pid of one that was restarted by hand
    return {
        "number": node.number,
        "name": node.name,
        "address": node.address,
        "pid": node.being.pid if node.being else None,
        "alive": _alive(lab.state, node),
        "agent_pid": node.agent.pid if node.agent else None,
        "agent": agent,
    }


def _alive(state: LabState, node: NodeState) -> bool:
    return state.mode == "plain" or (node.being is not None and node.being.alive())


def _status(options: argparse.Namespace) -> int:
    try:
        if _metal():
            return cast(int, _machines("status")(options))
        lab = Lab.find()
    except LabNotUp as error:
        print(json.dumps({"up": False}) if options.json else error)
        return 1
    found = _description(lab)
    well = all(node["alive"] and node["agent"] for node in found["nodes"])
    if options.json:
        print(json.dumps(found))
        return 0 if well else 1
    mode = _("namespaces") if lab.state.mode == "namespaces" else _("plain processes")
    head = _("Lab “{name}”, {mode}, in {directory}")
    print(head.format(name=lab.state.name, mode=mode, directory=lab.directory))
    for node in found["nodes"]:
        if not node["alive"]:
            words = _("dead; `omlab up` repairs it")
        elif not node["agent"]:
            words = _("alive, its agent is not; `omlab up` repairs it")
        else:
            words = _("alive, agent {pid}").format(pid=node["agent_pid"])
        print(f"{node['number']:>5}  {node['name']:<16} {node['address']:<15}  {words}")
    return 0 if well else 1


def _list(options: argparse.Namespace) -> int:
    if _metal():
        return cast(int, _machines("list_nodes")(options))
    lab = Lab.find()
    nodes = [{"number": n.number, "name": n.name, "address": n.address} for n in lab.state.nodes]
    if options.json:
        print(json.dumps(nodes))
    else:
        for node in nodes:
            print(f"{node['number']:>5}  {node['name']:<16} {node['address']}")
    return 0


def _exec(options: argparse.Namespace) -> int:
    from omtools.lab import enter  # noqa: PLC0415 - terminals and all: only where it is used

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise UsageError(detail=_("exec what? omlab exec NODE -- CMD..."))
    if _metal():
        return cast(int, _machines("execute")(options.node, command))
    lab = Lab.find()
    return enter.execute(lab, lab.node_state(options.node), command)


def _shell(options: argparse.Namespace) -> int:
    if _metal():
        return cast(int, _machines("shell")(options))
    from omtools.lab import enter  # noqa: PLC0415

    lab = Lab.find()
    return enter.shell(lab, lab.node_state(options.node))


def _env(options: argparse.Namespace) -> int:
    if _metal():
        raise LabError(why=_("its agents are in machines with shells of their own: `omlab shell NODE`"))
    lab = Lab.find()
    for name, value in own_environment(lab.directory, lab.state, lab.node_state(options.node)).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

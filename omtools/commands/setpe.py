"""``setpe``: check, install, show or take away the map of the cluster.

openMosix's setpe loaded the table into the kernel. Here the table is the file ``openmosix.map`` that the
agent reads when it starts, so loading it is replacing that file, in one step.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.agent.config_file import read_file, replace_file, with_key
from omtools.commands._cluster import NOBODY, known_cluster, own_number
from omtools.commands._common import as_whole, parser, run
from omtools.errors import BadConfiguration, BadMap, NotInMap, UsageError
from omtools.i18n import _

if TYPE_CHECKING:
    import argparse

    from omtools.agent import api
    from omtools.cluster.map import Map, Node

_MAP = "openmosix.map"
_CONFIG = "openmosix.config"
_OFF = ".off"  # what a map is called that has been taken out of use
_DISCARD = 9  # the port of that service: connecting a datagram socket sends nothing


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_setpe, arguments)


def _setpe(arguments: list[str]) -> int:
    given = _options().parse_args(arguments)
    _check_usage(given)
    if given.off:
        return _off()
    if given.read:
        _write(given.file, "\n".join(map_lines(known_cluster("setpe"))) + "\n")
        return 0
    text, path = _read(given.file)
    found, node = _checked(text, path, given.number)
    if given.check:
        return 0
    _install(text, given)
    print(
        _("This is openMosix node #{number} (of {n} configured).").format(number=node.number, n=len(found))
    )
    if _discovers():
        print(_("The agent finds its nodes itself (AUTODISC in openmosix.config): it does not read the map."))
    return _put_to_use()


def _options() -> argparse.ArgumentParser:
    options = parser(
        "setpe",
        _(
            "Set the map of the cluster: as root this machine's, as an ordinary user that of your own "
            "agent. The map is read from a file or from standard input."
        ),
        "setpe -{w|W} [-n inet] [-c] [-p N] [-g {0|1|2}] [-f {FILE|-}]\n"
        "       setpe -r [-f {FILE|-}]\n       setpe -off",
    )
    what = options.add_mutually_exclusive_group()
    what.add_argument("-w", dest="write", action="store_true", help=_("check the map, then use it"))
    what.add_argument("-W", dest="write", action="store_true", help=_("the same; init scripts wrote it so"))
    what.add_argument("-r", dest="read", action="store_true", help=_("print the map that is in use"))
    what.add_argument("-off", action="store_true", help=_("stop the agent and put the map out of use"))
    options.add_argument("-c", dest="check", action="store_true", help=_("only check the map"))
    options.add_argument(
        "-p", dest="number", metavar="N", type=as_whole(1, 65535), default=0, help=_("this is node N")
    )
    options.add_argument(
        "-g", dest="gates", type=as_whole(0, 2), choices=(0, 1, 2),
        help=_("gateways on the way; kept in openmosix.config"),
    )  # fmt: skip
    options.add_argument(
        "-n", dest="family", choices=["inet", "inet6"], help=_("network protocol; the map says it anyway")
    )
    options.add_argument(
        "-f", dest="file", metavar="FILE", default="-", help=_("the map; - is standard input or output")
    )
    return options


def _check_usage(given: argparse.Namespace) -> None:
    if not (given.write or given.read or given.off or given.check):
        raise UsageError(detail=_("One of -w, -r, -c and -off is needed; `setpe --help` shows them all."))
    if (given.read or given.off) and (given.check or given.number or given.gates is not None):
        raise UsageError(detail=_("-c, -p and -g go with -w only."))
    if given.off and given.file != "-":
        raise UsageError(detail=_("-off takes no file."))


# ----------------------------------------------------------------------------------------- checking


def _checked(text: str, path: str, number: int) -> tuple[Map, Node]:
    """The map and this node in it.

    Raises:
        OmError: the map has an error, or this machine is not in it.
    """
    # --help needs none of it.
    from omtools.agent.config import configured_number, find_own, read_settings  # noqa: PLC0415
    from omtools.agent.paths import config_dir  # noqa: PLC0415
    from omtools.cluster.map import parse_map, parse_names  # noqa: PLC0415

    directory = config_dir()
    names = directory / "names"
    found = parse_map(text, path, parse_names(read_file(names) or "", str(names)))
    if not found.nodes:
        raise BadConfiguration(path=path, why=_("there is no node in it"))
    _look_up(found, text, path)
    wanted = number or configured_number(directory, read_settings(directory / _CONFIG))
    if wanted:
        node = found.number(wanted)
        if not is_here(node):
            raise NotInMap(address=_my_address(found))
        return found, node
    try:
        return found, find_own(found, directory)
    except BadConfiguration:
        if any(is_here(node) for node in found.nodes.values()):
            raise  # several are: its sentence says what to do
        raise NotInMap(address=_my_address(found)) from None


def _look_up(found: Map, text: str, path: str) -> None:
    """A name that nobody knows is an error of its line: no node would reach that one."""
    for entry in found.ranges:
        try:
            socket.getaddrinfo(entry.host, None)
        except (OSError, UnicodeError):
            lines = enumerate(text.splitlines(), 1)
            line = next(number for number, words in lines if words.split()[1:2] == [entry.host])
            why = _("nobody knows the address of {host}").format(host=entry.host)
            raise BadMap(path=path, line=line, why=why) from None


def is_here(node: Node) -> bool:
    """Whether that node is this machine."""
    from omtools.cluster.map import Map  # noqa: PLC0415

    return own_number(Map({node.number: node}), NOBODY, Path()) == node.number


def _my_address(found: Map) -> str:
    """The address with which this machine would talk to that cluster."""
    for node in list(found.nodes.values())[:1]:
        family = socket.AF_INET6 if ":" in node.address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((node.address, _DISCARD))
                return str(probe.getsockname()[0])
        except (OSError, UnicodeError):
            pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


# ------------------------------------------------------------------------------------------ showing


def map_lines(nodes: api.NodeList) -> list[str]:
    """The map in the syntax of the map file, so that it can be read again."""
    first = _("# this is openMosix node #{number} (of {n} configured)")
    names = {node.number: node.name for node in nodes.nodes}
    lines = [first.format(number=nodes.own, n=len(nodes.nodes))]
    for entry in nodes.ranges:
        comment = f"    # {names[entry.first]}" if entry.count == 1 else ""
        lines.append(f"{entry.first:<7} {entry.host:<17} {entry.count}{comment}")
    lines += [f"{node.number:<7} {alias:<17} ALIAS" for node in nodes.nodes for alias in node.aliases]
    return lines


# ---------------------------------------------------------------------------------- reading, writing


def _read(file: str) -> tuple[str, str]:
    """The map's text, and what to call it in messages."""
    if file == "-":
        name = _("standard input")
        try:
            return sys.stdin.read(), name
        except UnicodeDecodeError:
            raise BadConfiguration(path=name, why=_("it is not text (UTF-8)")) from None
    text = read_file(Path(file))
    if text is None:
        raise BadConfiguration(path=file, why=os.strerror(2))
    return text, file


def _write(file: str, text: str) -> None:
    if file == "-":
        sys.stdout.write(text)
    else:
        replace_file(Path(file), text)


def _install(text: str, given: argparse.Namespace) -> None:
    from omtools.agent.paths import config_dir  # noqa: PLC0415

    directory = config_dir()
    before = read_file(directory / _CONFIG) or ""
    settings = before
    if given.number:
        settings = with_key(settings, "MYOMID", str(given.number))
    if given.gates is not None:
        settings = with_key(settings, "MOSGATES", str(given.gates))
    if settings != before:
        replace_file(directory / _CONFIG, settings)
    replace_file(directory / _MAP, text if text.endswith("\n") else text + "\n")


def _discovers() -> bool:
    from omtools.agent.config import read_settings  # noqa: PLC0415
    from omtools.agent.paths import config_dir  # noqa: PLC0415

    return read_settings(config_dir() / _CONFIG).discover


def _put_to_use() -> int:
    """An agent that runs has read another map: it begins anew."""
    from omtools.commands.openmosix import restart, serving_pid  # noqa: PLC0415

    if serving_pid() is not None:
        return restart()
    print(_("`openmosix start` starts the agent."))
    return 0


def _off() -> int:
    from omtools.agent.config import map_places  # noqa: PLC0415
    from omtools.agent.paths import config_dir  # noqa: PLC0415
    from omtools.commands.openmosix import stop  # noqa: PLC0415

    stop(leave=False)
    for path in map_places(config_dir()):
        kept = path.with_name(path.name + _OFF)
        try:
            path.replace(kept)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BadConfiguration(path=str(path), why=error.strerror or str(error)) from None
        print(_("The map is out of use; it is kept as {path}.").format(path=kept))
    return 0


if __name__ == "__main__":
    sys.exit(main())

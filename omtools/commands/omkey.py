"""``omkey``: the cluster's key: make one, sign with it, join, and who may join."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from omtools.commands._common import parser, print_json, run, say
from omtools.errors import BadConfiguration, NotInCluster, NotJoined, UsageError
from omtools.i18n import N_, _

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from omtools.agent.keys import Keys
    from omtools.agent.waiting import Waiting
    from omtools.cluster.discovery import Announcement

_LISTEN_S = 4.0  # for announcements of clusters
_KNOWN_S = 10.0  # for that of one that was named: somebody knows that it is there
_NAMESAKE_S = 1.0  # more, once the one that was named is heard: another of that name answers by then
_ASK_AGAIN_S = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omkey, arguments)


def _omkey(arguments: list[str]) -> int:
    given = _options().parse_args(arguments)
    for name, value in (("OPENMOSIX_CONFIG", given.config), ("OPENMOSIX_RUN", None)):
        if value:
            os.environ[name] = os.path.abspath(value)
    return _VERBS[given.verb][1](given, _directory())


def _directory() -> Path:
    from omtools.agent.paths import config_dir  # noqa: PLC0415

    return config_dir().absolute()


def _options() -> ArgumentParser:
    what = _("The key of the cluster: it signs nodes and people, so that all know each other.")
    options = parser("omkey", what)
    verbs = options.add_subparsers(dest="verb", metavar="VERB", required=True)
    subs = {}
    for verb, (what, _act) in _VERBS.items():
        subs[verb] = verbs.add_parser(verb, help=_(what), description=_(what), allow_abbrev=False)
        subs[verb].add_argument("--config", metavar="DIR", help=_("keys and settings, as of omagentd"))
        subs[verb].add_argument("--debug", action="store_true", help=_("show tracebacks"))
        subs[verb].add_argument("--json", action="store_true", help=_("answer as JSON"))
    subs["create"].add_argument("name", metavar="NAME", help=_("what to call the cluster"))
    for verb in ("create", "join", "accept"):
        subs[verb].add_argument(
            "--number", metavar="N", type=_number, default=0, help=_("the node's number, 1 to 65535")
        )
    for verb in ("accept", "refuse", "forget"):
        subs[verb].add_argument("who", metavar="WHO", help=_("name, code or address, as in `omkey list`"))
    join = subs["join"]
    join.add_argument("cluster", metavar="CLUSTER", nargs="?", default="", help=_("its name"))
    join.add_argument("--interface", "-i", metavar="IF", default="", help=_("where to look for it"))
    join.add_argument("--key", metavar="SHA256", default="", help=_("its key: nothing is asked"))
    join.add_argument("--wait", metavar="SECONDS", type=float, default=600.0, help=_("for the answer (600)"))
    sign = subs["sign"]
    sign.add_argument("name", metavar="USER", help=_("a person's user name"))
    sign.add_argument("key", metavar="FILE", help=_("the person's public SSH key"))
    sign.add_argument("--days", metavar="N", type=_number, default=365, help=_("how long it is valid (365)"))
    subs["retire"].add_argument("number", metavar="N", type=_number, help=_("the node's number"))
    return options


def _number(word: str) -> int:
    number = int(word)
    if not 1 <= number <= 65535:
        raise ValueError(word)
    return number


def _own_keys(directory: Path) -> Keys:
    from omtools.agent.keys import ensure_keys  # noqa: PLC0415

    return ensure_keys(directory, _hostname())


def _hostname() -> str:
    return socket.gethostname().partition(".")[0] or "node"


# ------------------------------------------------------------------------------------ the key's node


def _create(given: Namespace, directory: Path) -> int:
    from omtools.agent import cluster_key  # noqa: PLC0415
    from omtools.agent.waiting import Name  # noqa: PLC0415

    _check_name(given.name, Name)
    own = _own_keys(directory)
    number = given.number or _wish(directory, "")
    key = cluster_key.create(directory, given.name)
    place = cluster_key.Membership(given.name, number, _hostname())
    signed = cluster_key.certify(key, place, own.host, own.client)
    cluster_key.install(directory, signed, own.host, own.client, cluster_key.fingerprint(key))
    if given.json:
        print_json({"cluster": given.name, "key": cluster_key.fingerprint(key), "number": number})
    else:
        print(_("Cluster {name} is made, and this is its node {n}.").format(name=given.name, n=number))
        print(_("Its key: SHA256:{key}").format(key=cluster_key.fingerprint(key)))
        print(_("Now `openmosix start`; then, on every other node, `omkey join {name}`.").format(
            name=given.name
        ))  # fmt: skip
    return 0


def _check_name(name: str, rule: object) -> None:
    import msgspec  # noqa: PLC0415

    try:
        msgspec.convert(name, rule)
    except msgspec.ValidationError:
        raise UsageError(detail=_("“{name}” cannot be a cluster's name.").format(name=name)) from None


def _wish(directory: Path, interface: str) -> int:
    """The number that this node would like: configured, or by its address as the original had it."""
    from omtools.agent.config import own_addresses, read_settings  # noqa: PLC0415
    from omtools.agent.discovering import number_by  # noqa: PLC0415

    settings = read_settings(directory / "openmosix.config")
    if settings.number:
        return settings.number
    names = (interface,) if interface else settings.interfaces
    try:
        return number_by(own_addresses(names)[0])
    except BadConfiguration:
        return 1


def _list(given: Namespace, directory: Path) -> int:
    from omtools.agent.waiting import WaitingList  # noqa: PLC0415

    found = WaitingList(directory).all()
    if given.json:
        print_json([_row(one) for one in found])
        return 0
    if not found:
        print(_("Nobody has asked to join."))
    for one in found:
        row = _row(one)
        number = f" #{row['number']}" if row["number"] else ""
        until = "  " + _("until {day}").format(day=row["until"]) if row["until"] else ""
        print(f"{one.asked.name:<16} {one.address:<15} {one.code}  {_(_STATES[one.state])}{number}{until}")
    return 0


_STATES = {"waiting": N_("waits"), "accepted": N_("accepted"), "refused": N_("refused")}


def _row(one: Waiting) -> dict[str, object]:
    from omtools.agent import renewal  # noqa: PLC0415

    number = one.given.membership.number if one.given is not None else 0
    until = renewal.day_of(renewal.until(one.given)) if one.given is not None else ""
    return {
        "name": one.asked.name, "address": one.address, "code": one.code, "state": one.state,
        "number": number, "since": one.since, "until": until,
    }  # fmt: skip


def _accept(given: Namespace, directory: Path) -> int:
    from omtools.agent.waiting import WaitingList  # noqa: PLC0415

    one = WaitingList(directory).accept(given.who, given.number)
    number = one.given.membership.number if one.given is not None else 0
    return _told(given, one, _("{name} is node {n} of the cluster.").format(name=one.asked.name, n=number))


def _refuse(given: Namespace, directory: Path) -> int:
    from omtools.agent.waiting import WaitingList  # noqa: PLC0415

    one = WaitingList(directory).refuse(given.who)
    return _told(given, one, _("{name} is refused.").format(name=one.asked.name))


def _forget(given: Namespace, directory: Path) -> int:
    from omtools.agent.waiting import WaitingList  # noqa: PLC0415

    one = WaitingList(directory).forget(given.who)
    return _told(given, one, _("{name} is off the list and may ask again.").format(name=one.asked.name))


def _told(given: Namespace, one: Waiting, sentence: str) -> int:
    if given.json:
        print_json(_row(one))
    else:
        print(sentence)
    return 0


def _sign(given: Namespace, directory: Path) -> int:
    import asyncssh  # noqa: PLC0415

    from omtools.agent import cluster_key  # noqa: PLC0415

    path = Path(given.key)
    try:
        theirs = asyncssh.read_public_key(path)
    except OSError as error:
        raise BadConfiguration(path=str(path), why=error.strerror or str(error)) from None
    except ValueError as error:
        raise BadConfiguration(path=str(path), why=str(error)) from None
    text = cluster_key.certify_person(cluster_key.private_key(directory), given.name, theirs, given.days)
    signed = path.with_name(f"{path.name.removesuffix('.pub')}-cert.pub")
    cluster_key.write(signed, text, 0o644)
    if given.json:
        print_json({"certificate": str(signed)})
    else:
        print(_("{file} lets {name} at every agent of the cluster, for {n} days.").format(
            file=signed, name=given.name, n=given.days
        ))  # fmt: skip
    return 0


def _retire(given: Namespace, directory: Path) -> int:
    from omtools.agent import cluster_key  # noqa: PLC0415

    numbers = sorted({*cluster_key.retired(directory), given.number})
    text = "".join(f"{number}\n" for number in numbers)
    cluster_key.write(directory / cluster_key.RETIRED, text, 0o644)
    if given.json:
        print_json({"retired": numbers})
    else:
        print(_("Node {n} is believed here no more; copy {file} to the other nodes.").format(
            n=given.number, file=directory / cluster_key.RETIRED
        ))  # fmt: skip
    return 0


def _show(given: Namespace, directory: Path) -> int:
    from omtools.agent import cluster_key, renewal  # noqa: PLC0415

    place, key = cluster_key.membership(directory), cluster_key.public_key(directory)
    if place is None or key is None:
        raise NotInCluster(why=_("this node belongs to no cluster yet"))
    held = (directory / cluster_key.PRIVATE).exists()
    until = renewal.day_of(renewal.own_until(directory))
    if given.json:
        print_json({
            "cluster": place.cluster, "key": cluster_key.fingerprint(key), "number": place.number,
            "name": place.name, "holds_key": held, "until": until,
        })  # fmt: skip
        return 0
    print(_("This is node {n}, {name}, of cluster {cluster}.").format(
        n=place.number, name=place.name, cluster=place.cluster
    ))  # fmt: skip
    print(_("Its key: SHA256:{key}").format(key=cluster_key.fingerprint(key)))
    if until:
        print(_("Its certificates are valid until {day}, and renewed by omdiscd before.").format(day=until))
    if held:
        print(_("Newcomers are accepted here: `omkey list` shows who asks."))
    return 0


# ----------------------------------------------------------------------------------------- newcomer


def _join(given: Namespace, directory: Path) -> int:
    import asyncio  # noqa: PLC0415

    from omtools.agent import cluster_key  # noqa: PLC0415

    if (place := cluster_key.membership(directory)) is not None:
        why = _("it is node {n} of {cluster} already").format(n=place.number, cluster=place.cluster)
        raise NotJoined(why=why)
    own = _own_keys(directory)
    cluster = _choose(asyncio.run(_clusters(given, directory)), given)
    return asyncio.run(_ask_until_told(given, directory, own, cluster))


async def _clusters(given: Namespace, directory: Path) -> list[Announcement]:
    """The clusters on the wire that take newcomers, each once."""
    import asyncio  # noqa: PLC0415

    from omtools.agent.config import own_addresses, read_settings  # noqa: PLC0415
    from omtools.agent.wire import Wire  # noqa: PLC0415

    configured = read_settings(directory / "openmosix.config").interfaces
    names = (given.interface,) if given.interface else configured
    found: dict[str, Announcement] = {}
    hit, named = asyncio.Event(), asyncio.Event()

    def heard(_service: str, one: Announcement) -> None:
        if one.join:
            found.setdefault(one.cluster, one)
            if given.key and one.cluster == given.key.removeprefix("SHA256:"):
                hit.set()
            if one.called == given.cluster:
                named.set()

    wire = Wire(heard, lambda _service: None)
    try:
        await wire.open(own_addresses(names))
        async with asyncio.timeout(_KNOWN_S if given.cluster or given.key else _LISTEN_S):
            if given.cluster and not given.key:
                await named.wait()
                await asyncio.sleep(_NAMESAKE_S)
            else:
                await hit.wait()
    except TimeoutError:
        pass
    except OSError as error:
        raise NotJoined(why=error.strerror or str(error)) from None
    finally:
        await wire.close()
    return list(found.values())


def _choose(found: list[Announcement], given: Namespace) -> Announcement:
    key = given.key.removeprefix("SHA256:")
    wanted = [
        one for one in found
        if (not key or one.cluster == key)
        and given.cluster in ("", one.called)
    ]  # fmt: skip
    if not wanted:
        nobody = _("no cluster on this wire takes newcomers; is omdiscd running there?")
        raise NotJoined(why=_("no such cluster takes newcomers on this wire") if found else nobody)
    if len(wanted) > 1:
        names = ", ".join(f"{one.called} (SHA256:{one.cluster})" for one in wanted)
        raise NotJoined(why=_("there are several, say which: {names}").format(names=names))
    return wanted[0]


async def _ask_until_told(given: Namespace, directory: Path, own: Keys, cluster: Announcement) -> int:
    import asyncio  # noqa: PLC0415

    from omtools.agent import cluster_key, joining  # noqa: PLC0415
    from omtools.agent.waiting import Asked  # noqa: PLC0415

    host = own.host.export_public_key().decode()
    client = own.client.export_public_key().decode()
    number = given.number or _wish(directory, given.interface)
    asked = Asked(cluster.cluster, _hostname(), number, host, client)
    told = await joining.ask(cluster.addresses[0], cluster.join, asked)
    if told.state in ("waiting", "accepted"):
        _confirm(given, cluster, own)
    deadline = time.monotonic() + given.wait
    while told.state == "waiting" and time.monotonic() < deadline:
        await asyncio.sleep(_ASK_AGAIN_S)
        told = await joining.ask(cluster.addresses[0], cluster.join, asked)
    if told.given is None:
        raise NotJoined(why=_(_WHY.get(told.state, N_("it was refused"))))
    cluster_key.install(directory, told.given, own.host, own.client, cluster.cluster)
    place = told.given.membership
    if given.json:
        print_json({"cluster": place.cluster, "number": place.number, "name": place.name})
    else:
        print(_("This is node {n} of cluster {name} now; `openmosix start` starts it.").format(
            n=place.number, name=place.cluster
        ))  # fmt: skip
    return 0


_WHY = {
    "waiting": N_("nobody has answered yet; ask again later, the place in the list is kept"),
    "full": N_("too many wait there already"),
    "not_here": N_("that is another cluster now"),
}


def _confirm(given: Namespace, cluster: Announcement, own: Keys) -> None:
    """The newcomer's own decision whom to trust; without --key somebody is asked.

    Raises:
        NotJoined: no.
    """
    from omtools.agent.waiting import code_of  # noqa: PLC0415

    say(_("Asked {name} ({address}): `omkey accept {own}` there takes this node.").format(
        name=cluster.called or "?", address=cluster.addresses[0], own=_hostname()
    ))  # fmt: skip
    code = code_of(cluster.cluster, own.host, own.client)
    say(_("`omkey list` there must show this code: {code}").format(code=code))
    if given.key:
        return
    sys.stderr.write(_("Does it? [yes/no] "))
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not sys.stdin.isatty():  # nobody has pressed Enter
        sys.stderr.write("\n")
    if not answer:
        raise NotJoined(why=_("nobody was there to confirm the code; --key SHA256 does that beforehand"))
    if answer.strip().casefold() not in {"yes", _("yes"), *_("y yes").split()}:
        raise NotJoined(why=_("the code was not confirmed"))


_VERBS: dict[str, tuple[str, Callable[[Namespace, Path], int]]] = {
    "create": (N_("make a cluster key; this node is the first of its cluster"), _create),
    "join": (N_("ask a cluster on the wire to take this node"), _join),
    "show": (N_("which cluster this node belongs to"), _show),
    "list": (N_("who has asked to join"), _list),
    "accept": (N_("take a node that waits"), _accept),
    "refuse": (N_("refuse a node that waits"), _refuse),
    "forget": (N_("take a node off the list; it may ask again"), _forget),
    "sign": (N_("sign a person's SSH key"), _sign),
    "retire": (N_("believe a node no more"), _retire),
}


if __name__ == "__main__":
    sys.exit(main())

"""The verbs of mosctl that change something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omtools.agent import api
from omtools.commands._common import print_json, say
from omtools.commands._progress import Progress
from omtools.errors import OmError, UsageError
from omtools.i18n import N_, _

if TYPE_CHECKING:
    import argparse

    from omtools.agent.cluster import Cluster

SWITCHES: dict[str, tuple[api.SwitchName, bool, str]] = {
    "stay": ("stay", True, N_("Nothing leaves this node by itself from now on.")),
    "nostay": ("stay", False, N_("Processes may leave this node by themselves.")),
    "lstay": ("lstay", True, N_("This node's own processes do not leave by themselves from now on.")),
    "nolstay": ("lstay", False, N_("This node's own processes may leave by themselves.")),
    "quiet": ("quiet", True, N_("Other nodes hear nothing of this one's load from now on.")),
    "noquiet": ("quiet", False, N_("Other nodes hear of this one's load again.")),
    "block": ("block", True, N_("Guests are refused from now on.")),
    "noblock": ("block", False, N_("Guests are accepted from now on.")),
    "mfs": ("mfs", True, N_("Other nodes get this node's files from now on.")),
    "nomfs": ("mfs", False, N_("Other nodes do not get this node's files from now on.")),
    "dfsa": ("dfsa", True, N_("What migrates from now on opens its files where it runs.")),
    "nodfsa": ("dfsa", False, N_("What migrates from now on has its files opened at home.")),
}
# openMosix's man page names two processors as what 10000 stands for; only the first is the standard here.
PROCESSORS = {"pii-400": 10000, "piii-1000": 25000}


async def switch(cluster: Cluster, given: argparse.Namespace) -> int:
    """block, nostay and the others."""
    name, on, sentence = SWITCHES[given.verb]
    await cluster.switch(name, on, node=given.on)
    if given.json:
        print_json({name: on})
    else:
        print(_(sentence))
    return 0


async def clear(cluster: Cluster, given: argparse.Namespace) -> int:
    """expel, bring: return when it is done."""
    expels = given.verb == "expel"
    what = _("guests sent home") if expels else _("processes brought home")
    with Progress(what) as progress:

        def told(clearing: api.Clearing) -> None:
            progress.step(clearing.done, clearing.total)

        work = cluster.expel if expels else cluster.bring
        cleared = await work(node=given.on, progress=told)
    if given.json:
        print_json({"moved": cleared.moved, "failures": cleared.failures})
    elif not cleared.failures:
        print(
            _("All remote processes were expelled and no further remote processes accepted.")
            if expels
            else _("All processes of this node are at home and stay there.")
        )
    for failure in cleared.failures:
        say(str(OmError.from_wire(failure)))
    return 1 if cleared.failures else 0


async def set_speed(cluster: Cluster, given: argparse.Namespace) -> int:
    """The verb setspeed."""
    await cluster.set_speed(given.speed, node=given.on)
    told = (await cluster.node(given.on)).speed
    if given.json:
        print_json({"speed": told})
    else:
        print(_("This node's speed is {speed} from now on.").format(speed=told))
    return 0


async def set_yard(cluster: Cluster, given: argparse.Namespace) -> int:
    """setyard: the processor by which load and speed are shown."""
    word = given.processor.casefold()
    if word == "this":
        speed = (await cluster.node(given.on)).speed
    elif word.isascii() and word.isdigit():
        speed = int(word)
    else:
        speed = PROCESSORS.get(word, 0)
    if not 1 <= speed <= 10_000_000:
        raise UsageError(
            detail=_("The yardstick is a speed from 1 to 10000000, “this”, or one of {known}.").format(
                known=", ".join(PROCESSORS)
            )
        )
    tuned = await cluster.tune(api.Tune(given.on, yardstick=speed))
    if given.json:
        print_json({"yardstick": tuned.yardstick})
    else:
        print(_("The yardstick is {speed} from now on.").format(speed=tuned.yardstick))
    return 0


async def set_decay(cluster: Cluster, given: argparse.Namespace) -> int:
    """setdecay: interval and the two portions that are kept."""
    decay = api.NodeDecay(given.interval, given.slow, given.fast)
    await cluster.set_decay(decay, node=given.on)
    if given.json:
        print_json({"interval_s": decay.interval_s, "slow": decay.slow, "fast": decay.fast})
    else:
        print(decay_sentence(decay))
    return 0


def decay_sentence(decay: api.NodeDecay) -> str:
    """What getdecay prints."""
    return _("Every {interval:g} s, {slow} of 1000 are kept (slow decay) or {fast} (fast decay).").format(
        interval=decay.interval_s, slow=decay.slow, fast=decay.fast
    )


async def lock(cluster: Cluster, given: argparse.Namespace) -> int:
    """lock, unlock: a process that runs already."""
    locked = given.verb == "lock"
    await cluster.lock(given.pid, locked)
    if given.json:
        print_json({"pid": given.pid, "locked": locked})
    elif locked:
        print(_("Process {pid} does not move by itself from now on.").format(pid=given.pid))
    else:
        print(_("Process {pid} may move by itself from now on.").format(pid=given.pid))
    return 0

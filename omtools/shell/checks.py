"""The checks that lessons name: each looks at the state of things, says what it expects and what it sees.

A check is a function from facts and typed arguments to a `Finding`; it does no I/O. A new one is made by
decorating a function with `omtools.shell.registry.check`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from omtools.i18n import N_
from omtools.shell.facts import Decision, Facts, Move, MoveKind, NodeFacts, Process, Ran
from omtools.shell.legible import legible
from omtools.shell.lesson import CheckSpec
from omtools.shell.registry import REGISTRY, Arguments, Figures, Finding, Kind, check
from omtools.shell.words import tr

_FASTEST = 10_000_000  # as mosctl setspeed has it


def evaluate(spec: CheckSpec, facts: Facts, known: Figures) -> Finding:
    """Run one check of a lesson.

    Args:
        spec: which.
        facts: of the moment.
        known: figures of earlier checks of the lesson, as label.figure.
    """
    try:
        return REGISTRY[spec.name].evaluate(facts, spec.arguments, known)
    except Exception as error:  # a broken check must not take the session with it
        expected = tr(N_("the check {name} of this lesson works")).format(name=spec.name)
        why = str(error) or type(error).__name__
        return Finding(False, expected, tr(N_("it fails: {why}")).format(why=why))


def evaluate_all(
    specs: Sequence[CheckSpec], facts: Facts, known: Figures
) -> tuple[list[Finding], dict[str, str | float]]:
    """Run all checks of a step; each sees the figures of those before it.

    Returns:
        The findings, and the known figures with those of the checks that are ok.
    """
    figures = dict(known)
    findings = []
    for spec in specs:
        finding = evaluate(spec, facts, figures)
        findings.append(finding)
        if finding.ok and spec.label:
            figures.update({f"{spec.label}.{name}": value for name, value in finding.figures.items()})
    return findings, figures


# ---------------------------------------------------------------------------------------- processes


def _places(processes: list[Process]) -> str:
    return ", ".join(f"{process.pid} → {process.where}" for process in processes)


def _process_figures(process: Process) -> Figures:
    return {
        "pid": str(process.pid),
        "node": process.where,
        "home": process.home,
        "mb": process.bytes / 1e6,
        "frozen_ms": process.frozen_ms,
        "calls": float(process.calls),
    }


@check(
    "process_on",
    {"node": "node", "command": "pattern"},
    {"count": "number", "calls": "number"},
    ("pid", "node", "home", "mb", "frozen_ms", "calls"),
)
def process_on(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """Processes with that pattern in their command line are executed by that node.

    ``count`` asks for more than one, ``calls`` for so many forwarded system calls.
    """
    node, command, wanted = arguments["node"], arguments["command"], int(arguments.get("count", "1"))
    calls = int(arguments.get("calls", "0"))
    every = list(facts.matching(command))
    there = [process for process in every if process.where == node]
    ready = [process for process in there if process.calls >= calls]
    expected = tr(N_("“{command}” runs on {node}")).format(command=legible(command), node=node)
    if wanted > 1:
        expected += f" ({wanted}x)"
    if calls:
        expected += tr(N_(", with {n} calls forwarded")).format(n=calls)
    if len(ready) >= wanted:
        return Finding(True, expected, _places(ready), _process_figures(ready[-1]))
    if len(there) >= wanted:
        seen = tr(N_("{n} calls so far")).format(n=max(process.calls for process in there))
        return Finding(False, expected, seen)
    return Finding(False, expected, _places(every) if every else tr(N_("no such process")))


@check("no_process", {"command": "pattern"}, {"node": "node"})
def no_process(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """No process with that pattern in its command line (executed by that node) is left."""
    found = [p for p in facts.matching(arguments["command"]) if arguments.get("node", p.where) == p.where]
    expected = tr(N_("no “{command}” runs")).format(command=legible(arguments["command"]))
    return Finding(not found, expected, _places(found) if found else tr(N_("none")))


_MOVE_FIGURES = ("pid", "node", "home", "mb", "frozen_ms", "total_ms", "calls", "reason")


def _move_figures(move: Move) -> Figures:
    return {
        "pid": str(move.pid),
        "node": move.where,
        "home": move.home,
        "mb": move.bytes / 1e6,
        "frozen_ms": move.frozen_ms,
        "total_ms": move.total_ms,
        "calls": float(move.calls),
        "reason": move.reason,
    }


@check("moved", {"command": "pattern"}, {"node": "node"}, _MOVE_FIGURES)
def moved(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """Such a process has arrived on another node (on that one), even if it has gone on since."""
    node = arguments.get("node")
    command = legible(arguments["command"])
    expected = tr(N_("“{command}” moves to another node")).format(command=command)
    if node:
        expected = tr(N_("“{command}” moves to {node}")).format(command=command, node=node)
    for move in facts.moved(arguments["command"], "away"):
        if node in (None, move.where):
            return Finding(True, expected, f"{move.pid} → {move.where}", _move_figures(move))
    return Finding(False, expected, tr(N_("it has not moved")))


@check("migrated_home", {"command": "pattern"}, {"reason": "pattern"}, _MOVE_FIGURES)
def migrated_home(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """Such a process was away and has come home (for such a reason)."""
    expected = tr(N_("“{command}” comes home")).format(command=legible(arguments["command"]))
    return _after_being_away(facts, arguments, "home", expected)


@check("ended_away", {"command": "pattern"}, {}, _MOVE_FIGURES)
def ended_away(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """Such a process ended while another node executed it."""
    expected = tr(N_("“{command}” ends while it is away")).format(command=legible(arguments["command"]))
    return _after_being_away(facts, arguments, "ended", expected)


def _after_being_away(facts: Facts, arguments: Arguments, kind: MoveKind, expected: str) -> Finding:
    wanted = re.compile(arguments.get("reason", ""))
    for move in facts.moved(arguments["command"], kind):
        if wanted.search(move.reason):
            return Finding(True, expected, f"{move.pid} → {move.where}", _move_figures(move))
    away = [process for process in facts.matching(arguments["command"]) if process.where != process.home]
    return Finding(False, expected, _places(away) if away else tr(N_("it is not away")))


# -------------------------------------------------------------------------------------------- nodes


def _node(facts: Facts, name: str) -> NodeFacts:
    return facts.nodes.get(name) or NodeFacts(name, 0)


def _on(word: str) -> bool:
    return word in ("yes", "on", "true")


@check("node_up", {"node": "node"}, {"up": "switch"})
def node_up(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """The agent of that node answers and takes part (``up=no``: it does not)."""
    wanted, is_up = _on(arguments.get("up", "yes")), _node(facts, arguments["node"]).up
    words = {True: tr(N_("{node} is up")), False: tr(N_("{node} is down"))}
    said = {key: word.format(node=arguments["node"]) for key, word in words.items()}
    return Finding(is_up == wanted, said[wanted], said[is_up])


@check("reaches", {"node": "node", "other": "node"}, {"reaches": "switch"})
def reaches(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """That node gets an answer from the other (``reaches=no``: it gets none)."""
    wanted, node = _on(arguments.get("reaches", "yes")), _node(facts, arguments["node"])
    words = {True: tr(N_("{node} reaches {other}")), False: tr(N_("{node} does not reach {other}"))}
    said = {key: word.format(**arguments) for key, word in words.items()}
    for found, nodes in ((True, node.reaches), (False, node.misses)):
        if arguments["other"] in nodes:
            return Finding(found == wanted, said[wanted], said[found])
    return Finding(False, said[wanted], tr(N_("nothing is known yet")))


@check("switch_set", {"node": "node", "switch": "mosctl"}, {"on": "switch"})
def switch_set(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """A switch of that node (stay, lstay, block, quiet, nomfs) is set (``on=no``: is not)."""
    node, wanted = _node(facts, arguments["node"]), _on(arguments.get("on", "yes"))
    words = {True: tr(N_("“{switch}” is on at {node}")), False: tr(N_("“{switch}” is off at {node}"))}
    said = {key: word.format(node=node.name, switch=arguments["switch"]) for key, word in words.items()}
    if not node.up:
        return Finding(False, said[wanted], tr(N_("{node} is down")).format(node=node.name))
    is_set = node.is_set(arguments["switch"])
    return Finding(is_set == wanted, said[wanted], said[is_set])


@check("speed", {"node": "node"}, {"at_least": "number", "at_most": "number"}, ("speed",))
def speed(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """That node tells others a speed within these bounds; 10000 is the standard processor."""
    node = _node(facts, arguments["node"])
    low, high = int(arguments.get("at_least", "1")), int(arguments.get("at_most", str(_FASTEST)))
    expected = tr(N_("the speed of {node} is at least {n}")).format(node=node.name, n=low)
    if "at_most" in arguments:
        expected = tr(N_("the speed of {node} is at most {n}")).format(node=node.name, n=high)
    if not node.up:
        return Finding(False, expected, tr(N_("{node} is down")).format(node=node.name))
    return Finding(low <= node.speed <= high, expected, str(node.speed), {"speed": float(node.speed)})


# ---------------------------------------------------------------------------------------- decisions

_DECISION_FIGURES = (
    "pid", "node", "target", "reason", "stay_s", "go_s", "cost_s",
    "mb", "needed_mb", "available_mb", "low_mb",
)  # fmt: skip


@check(
    "decided",
    {"node": "node", "what": "text"},
    {"command": "pattern", "target": "node", "reason": "pattern"},
    _DECISION_FIGURES,
)
def decided(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """That node's balancer or usher has decided: ``what`` is move, stay, usher, failed, relieved, no_room."""
    about = legible(arguments["command"]) if "command" in arguments else arguments["node"]
    expected = tr(N_("decision on “{about}”: {what}")).format(about=about, what=arguments["what"])
    command, reason = re.compile(arguments.get("command", "")), re.compile(arguments.get("reason", ""))
    seen = tr(N_("none yet"))
    for decision in reversed(facts.decisions):
        if decision.node != arguments["node"] or not command.search(decision.command):
            continue
        right = decision.what == arguments["what"] and reason.search(decision.reason)
        if right and arguments.get("target", decision.target) == decision.target:
            return Finding(True, expected, decision.target or decision.reason, _decision_figures(decision))
        seen = f"{decision.what} {decision.target} {decision.reason}".strip()
    return Finding(False, expected, seen)


def _decision_figures(decision: Decision) -> Figures:
    figures: dict[str, str | float] = dict.fromkeys(_DECISION_FIGURES, 0.0)
    figures |= {name: value for name, value in decision.figures.items() if name in figures}
    for name in ("needed", "available", "low"):
        figures[f"{name}_mb"] = decision.figures.get(name, 0.0) / 1e6
    figures["mb"] = decision.figures.get("bytes", 0.0) / 1e6
    figures |= {"pid": str(decision.pid), "node": decision.node, "target": decision.target}
    return {**figures, "reason": decision.reason}


@check("shell_on", {"node": "node"})
def shell_on(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """The learner's shell is on that node."""
    expected = tr(N_("your shell is on {node}"))
    node = arguments["node"]
    return Finding(facts.node == node, expected.format(node=node), expected.format(node=facts.node))


# ----------------------------------------------------------------------------------------- machines


@check(
    "machine",
    {"node": "node"},
    {"power": "switch", "cable": "text", "booted": "switch", "agent": "switch"},
)
def machine(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """A machine is as it should be: ``power=on|off cable=in|out booted=yes agent=yes``."""
    name = arguments["node"]
    wanted = {key: value for key, value in arguments.items() if key != "node"}
    expected = f"{name}: " + ", ".join(f"{key} {value}" for key, value in wanted.items())
    found = facts.machines.get(name)
    if found is None:
        return Finding(False, expected, tr(N_("there is no such machine")))
    seen = {
        "power": found.power, "cable": found.cable,
        "booted": "yes" if found.booted else "no", "agent": "yes" if found.agent else "no",
    }  # fmt: skip
    return Finding(
        all(seen[key] == value for key, value in wanted.items()),
        expected,
        f"{name}: " + ", ".join(f"{key} {seen[key]}" for key in wanted),
    )


@check("happened", {"node": "node", "event": "text"}, {"path": "pattern"}, ("seconds", "address", "took"))
def happened(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """That has happened to a machine: an event of `omlab events`, e.g. dhcp-ack."""
    node, event, path = arguments["node"], arguments["event"], re.compile(arguments.get("path", ""))
    expected = tr(N_("{node}: {event}")).format(node=node, event=event)
    of_it = [one for one in facts.wire if one.node == node]
    for one in reversed(of_it):
        if one.event == event and path.search(str(one.more.get("path", ""))):
            more = {"address": one.more.get("address", ""), "took": one.more.get("seconds", 0.0)}
            return Finding(True, expected, one.event, {"seconds": one.seconds, **more})
    return Finding(False, expected, of_it[-1].event if of_it else tr(N_("nothing has happened yet")))


@check("screen", {"node": "node", "shows": "pattern"}, {}, (), ("shows",))
def screen(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """A machine's screen has shown that pattern since the step began; its named groups become figures."""
    expected = tr(N_("the screen of {node} shows “{shows}”")).format(
        node=arguments["node"], shows=legible(arguments["shows"])
    )
    text = facts.screen(arguments["node"])
    groups = _groups(arguments["shows"], text)
    if groups is None:
        last = next((line.strip() for line in reversed(text.split("\n")) if line.strip()), "")
        return Finding(False, expected, last[-60:] or tr(N_("nothing")))
    return Finding(True, expected, tr(N_("it does")), groups)


# -------------------------------------------------------------------------------------------- files


def _groups(pattern: str, text: str) -> dict[str, str | float] | None:
    """The pattern's named groups in the text, numbers as such; None if it is not there."""
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        return None
    return {name: _number(value) for name, value in found.groupdict().items() if value is not None}


def _number(text: str) -> str | float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return text


@check("file_contains", {"node": "node", "path": "path", "pattern": "pattern"}, {}, (), ("pattern",))
def file_contains(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """A file of that node has the pattern in it; its named groups become figures."""
    expected = tr(N_("{path} on {node} contains “{pattern}”")).format(
        path=arguments["path"], node=arguments["node"], pattern=legible(arguments["pattern"])
    )
    text = facts.read(arguments["node"], arguments["path"])
    if text is None:
        return Finding(False, expected, tr(N_("there is no such file")))
    groups = _groups(arguments["pattern"], text)
    if groups is None:
        return Finding(False, expected, tr(N_("it does not, in {n} lines")).format(n=text.count("\n")))
    return Finding(True, expected, tr(N_("it does")), groups)


@check("file_lines", {"node": "node", "path": "path", "at_least": "number"}, {}, ("lines",))
def file_lines(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """A file of that node has so many lines."""
    expected = tr(N_("{path} on {node} has {at_least} lines")).format(**arguments)
    lines = (facts.read(arguments["node"], arguments["path"]) or "").count("\n")
    ok = lines >= int(arguments["at_least"])
    return Finding(ok, expected, tr(N_("it has {n}")).format(n=lines), {"lines": float(lines)})


# ----------------------------------------------------------------------------------- what was done


@check(
    "command_ran",
    {"command": "pattern"},
    {"status": "number", "failed": "switch", "node": "node", "output": "pattern"},
    ("seconds", "status", "node"),
    ("output",),
)
def command_ran(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """A command line with that pattern has run to its end in omsh.

    With that exit status, or ``failed=yes``; on that node; having printed that pattern, whose named groups
    become figures. For things that leave no state behind: looking, measuring.
    """
    wanted = re.compile(arguments["command"])
    command = legible(arguments["command"])
    expected = tr(N_("“{command}” has run")).format(command=command)
    if node := arguments.get("node"):
        expected = tr(N_("“{command}” has run on {node}")).format(command=command, node=node)
    seen = tr(N_("not yet"))
    for ran in reversed(facts.ran):
        if not wanted.search(ran.line):
            continue
        problem, groups = _fits(ran, arguments)
        if not problem:
            groups.update(seconds=ran.seconds, status=str(ran.status), node=ran.node)
            return Finding(True, expected, tr(N_("it has")), groups)
        seen = problem if seen == tr(N_("not yet")) else seen
    return Finding(False, expected, seen)


def _fits(ran: Ran, arguments: Arguments) -> tuple[str, dict[str, str | float]]:
    """What is not as asked for, "" if all is; and the figures from its output."""
    if arguments.get("node", ran.node) != ran.node:
        return tr(N_("it ran on {node}")).format(node=ran.node), {}
    status = arguments.get("status")
    if status is not None and ran.status != int(status):
        return tr(N_("its exit status was {status}, not {wanted}")).format(
            status=ran.status, wanted=status
        ), {}
    if _on(arguments.get("failed", "no")) and ran.status == 0:
        return tr(N_("it did not fail")), {}
    groups = _groups(arguments.get("output", ""), ran.output)
    return ("", groups) if groups is not None else (tr(N_("it printed something else")), {})


@check("answer", {"is": "pattern"}, {}, ("text",))
def answer(facts: Facts, arguments: Arguments, _known: Figures) -> Finding:
    """The learner's answer, ``:answer …`` or ``:1`` …, is that pattern, whole; case does not count."""
    expected = tr(N_("the right answer"))
    for given in reversed(facts.answers):
        if re.fullmatch(arguments["is"], given.strip(), re.IGNORECASE):
            return Finding(True, expected, given, {"text": given})
        return Finding(False, expected, tr(N_("“{answer}”, and that is not it")).format(answer=given))
    return Finding(False, expected, tr(N_("none yet")))


@check("compare", {"left": "figure", "right": "figure"}, {}, ("ratio", "difference"))
def compare(_facts: Facts, arguments: Arguments, known: Figures) -> Finding:
    """Two figures of this lesson, both numbers, are known: how many times as much the left one is."""
    left, right = known.get(arguments["left"]), known.get(arguments["right"])
    expected = tr(N_("both measurements are there"))
    if not isinstance(left, float) or not isinstance(right, float) or right == 0:
        lacking = arguments["left"] if not isinstance(left, float) else arguments["right"]
        return Finding(False, expected, tr(N_("{figure} is missing")).format(figure=lacking))
    figures = {"ratio": left / right, "difference": left - right}
    return Finding(True, expected, f"{left:.1f} / {right:.1f}", figures)


@check("figure", {"of": "figure", "at_least": "number"}, {}, ("value",))
def figure(_facts: Facts, arguments: Arguments, known: Figures) -> Finding:
    """A figure of this lesson, a number, is at least that."""
    value = known.get(arguments["of"])
    expected = tr(N_("{of} is at least {at_least}")).format(**arguments)
    if not isinstance(value, float):
        return Finding(False, expected, tr(N_("{figure} is missing")).format(figure=arguments["of"]))
    return Finding(value >= int(arguments["at_least"]), expected, f"{value:.0f}", {"value": value})


KINDS: Mapping[str, Kind] = REGISTRY
"""All checks there are, by name."""

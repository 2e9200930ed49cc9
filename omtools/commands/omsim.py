"""``omsim``: a cluster of up to 20,000 nodes on paper, decided by the same code as a real one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from omtools.commands._common import parser, print_json, run
from omtools.errors import UsageError
from omtools.i18n import N_, _

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from omtools.cluster.simulator.scenario import Scenario
    from omtools.cluster.simulator.simulate import Result

_DEFAULT = "random"

_ROWS: tuple[tuple[str, Callable[[Result], str]], ...] = (
    (N_("last job through after"), lambda r: f"{r.makespan_s:.1f} s"),
    (N_("  a clairvoyant scheduler"), lambda r: f"{r.greedy_s:.1f} s"),
    (N_("  that is, times as long"), lambda r: f"{r.makespan_s / r.greedy_s:.2f}" if r.greedy_s else "-"),
    (N_("  sharing all evenly"), lambda r: f"{r.shared_s:.1f} s"),
    (N_("  nobody could before"), lambda r: f"{r.bound_s:.1f} s"),
    (N_("a job takes, on average"), lambda r: f"{r.mean_response_s:.1f} s"),
    (N_("fairness among jobs (Jain)"), lambda r: f"{r.fairness:.3f}"),
    (N_("evenness of nodes (Jain)"), lambda r: f"{r.evenness:.3f}"),
    (N_("jobs not through, lost"), lambda r: f"{r.unfinished}, {r.lost}"),
    (N_("moves"), lambda r: f"{r.migrations}"),
    (N_("  for want of memory"), lambda r: f"{r.evictions}"),
    (N_("  back within a minute"), lambda r: f"{r.ping_pongs}"),
    (N_("  most of a single job"), lambda r: f"{r.most_moves}"),
    (N_("  offers not wanted any more"), lambda r: f"{r.turned_away}"),
    (N_("  failed"), lambda r: f"{r.failed}"),
    (N_("  carried"), lambda r: f"{r.moved_mb:.0f} MB"),
    (N_("  standing still, in all"), lambda r: f"{r.frozen_s:.1f} s"),
    (N_("gossip per node"), lambda r: f"{r.gossip_bytes:.0f} B/s"),
    (N_("age of what is decided by"), lambda r: f"{r.age_s:.1f} s"),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_omsim, arguments)


def _omsim(arguments: list[str]) -> int:
    from omtools.cluster.simulator import scenario as scenarios  # noqa: PLC0415 - not for --help

    given = _options().parse_args(arguments)
    if given.list:
        _list()
        return 0
    scenario = scenarios.resized(scenarios.load(given.scenario), given.nodes, given.jobs)
    if given.svg:
        _write_svg(given.svg, "")  # better now than after minutes
    begun = time.monotonic()
    results = _results(scenario, given)
    took = time.monotonic() - begun
    if given.svg:
        _write_svg(given.svg, _charts(scenario, results))
    if given.json:
        print_json(_as_json(scenario, given, results, took))
    else:
        _print_table(scenario, results, took)
    return 0


def _options() -> ArgumentParser:
    options = parser("omsim", _("Simulate a cluster: the same jobs with balancing and without."))
    what = _("a scenario's name, or a TOML file (default: {name})").format(name=_DEFAULT)
    options.add_argument("scenario", nargs="?", default=_DEFAULT, help=what)
    options.add_argument("--list", action="store_true", help=_("list the scenarios"))
    options.add_argument("--nodes", type=_count, metavar="N", help=_("so many nodes instead"))
    options.add_argument("--jobs", type=_count, metavar="N", help=_("so many jobs instead"))
    options.add_argument("--seed", type=int, default=1, metavar="N", help=_("another number, other chances"))
    options.add_argument("--no-balance", action="store_true", help=_("only without balancing"))
    options.add_argument("--only-balance", action="store_true", help=_("only with balancing"))
    options.add_argument("--json", action="store_true", help=_("print all figures as JSON"))
    options.add_argument("--svg", metavar="FILE", help=_("draw charts into that file"))
    return options


def _count(word: str) -> int:
    if not (word.isascii() and word.isdigit()) or not 1 <= int(word) <= 1_000_000:
        raise UsageError(detail=_("“{word}” is no number from 1 to 1000000.").format(word=word))
    return int(word)


def _results(scenario: Scenario, given: Namespace) -> list[Result]:
    from omtools.cluster.simulator.simulate import simulate  # noqa: PLC0415 - not for --list

    if given.no_balance and given.only_balance:
        raise UsageError(detail=_("--no-balance and --only-balance leave nothing to simulate."))
    wanted = [on for on in (True, False) if not (given.no_balance if on else given.only_balance)]
    return [simulate(scenario, given.seed, balanced=on) for on in wanted]


def _list() -> None:
    from omtools.cluster.simulator import scenario as scenarios  # noqa: PLC0415

    names = scenarios.names()
    width = max(map(len, names))
    for name in names:
        print(f"{name:{width}}  {scenarios.load(name).about}")


def _write_svg(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(detail=_("{path} cannot be written: {why}.").format(path=path, why=why)) from None


def _charts(scenario: Scenario, results: list[Result]) -> str:
    from omtools.cluster.simulator.plot import svg  # noqa: PLC0415 - where it is asked for

    return svg(scenario.title, results)


def _as_json(scenario: Scenario, given: Namespace, results: list[Result], took: float) -> dict[str, object]:
    return {
        "title": scenario.title,
        "nodes": sum(group.count for group in scenario.nodes),
        "jobs": sum(group.total for group in scenario.jobs),
        "seed": given.seed,
        "took_s": round(took, 3),
        "results": [msgspec.to_builtins(one) for one in results],
    }


def _print_table(scenario: Scenario, results: list[Result], took: float) -> None:
    from rich.console import Console  # noqa: PLC0415 - not for --json
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from omtools.cluster.simulator.plot import line  # noqa: PLC0415

    words = {True: _("with balancing"), False: _("without")}
    console = Console(highlight=False)
    nodes = sum(group.count for group in scenario.nodes)
    jobs = sum(group.total for group in scenario.jobs)
    console.print(f"[bold]{escape(scenario.title)}[/bold]")
    console.print(_("{nodes} nodes, {jobs} jobs").format(nodes=nodes, jobs=jobs))
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for one in results:
        table.add_column(words[one.balanced], justify="right")
    for name, figure in _ROWS:
        table.add_row(escape(_(name)), *(figure(one) for one in results))
    console.print(table)
    end = max((second.at for one in results for second in one.seconds), default=1.0)
    console.print(_("Computing power in use, from the start to {end} s:").format(end=round(end)))
    for one in results:
        width = max(1, round(60 * len(one.seconds) / max(end, 1)))
        drawn = line([second.busy for second in one.seconds], min(width, 60))
        console.print(f"{words[one.balanced]:>16} {drawn}", soft_wrap=True)
    console.print(_("Simulated in {took} s.").format(took=f"{took:.1f}"))


if __name__ == "__main__":
    sys.exit(main())

"""The palette: every command of the API that is for people, and everything else the application can do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from omtools.i18n import _
from omtui import actions
from omtui.actions import Action
from omtui.commandline import PAGES, THEMES, Dress, Go, Look, Order, Plain, Terminal, Times
from omtui.page import TITLES

if TYPE_CHECKING:
    from omtui.app import Omtui


_MANY = 16  # nodes


class Entry(NamedTuple):
    """A line of the palette.

    Attributes:
        title: what it does.
        command: the command line that does the same, or what else helps.
        run: does it.
    """

    title: str
    command: str
    run: Callable[[], object]


def entries(app: Omtui) -> list[Entry]:
    """All there is to do now."""
    return [*_node_entries(app), *_process_entries(app), *_other_entries(app)]


def _entry(app: Omtui, title: str, action: Action) -> Entry:
    return Entry(title, action.command, partial(app.follow, action))


def _node_entries(app: Omtui) -> list[Entry]:
    found = []
    for row in actions.known_switches():
        for on in (True, False):
            said = _("Switch {name} on: {what}") if on else _("Switch {name} off: {what}")
            title = said.format(name=row.name, what=row.meaning(on))
            found.append(_entry(app, title, actions.switch(row, on)))
    found.append(_entry(app, _("Expel: send all guests home"), actions.expel()))
    found.append(_entry(app, _("Bring: call all own processes home"), actions.bring()))
    found.append(_entry(app, _("Tell others the measured speed"), actions.set_speed(0)))
    found.append(
        Entry(
            _("Tell others another speed"), "mosctl setspeed SPEED", partial(_type, app, "mosctl setspeed ")
        )
    )
    for title, given, syntax in (
        (_("Set the yardstick"), "mosctl setyard ", "mosctl setyard SPEED"),
        (
            _("Set how fast what processes did is forgotten"),
            "mosctl setdecay ",
            "mosctl setdecay SECONDS SLOW FAST",
        ),
    ):
        found.append(Entry(title, syntax, partial(_type, app, given)))
    found.append(_entry(app, _("How fast what processes did is forgotten"), actions.ask_decay()))
    found.append(_entry(app, _("What moving and forwarding cost"), actions.ask_tuning()))
    typed = "moslimit --guests 4"
    found.append(Entry(_("Set what guests may take of a node"), typed, partial(_type, app, "moslimit --")))
    found += _there(app)
    for node in app.feed.state.nodes.values():
        title = _("All about node {name}").format(name=node.view.name)
        order = Look(str(node.view.number))
        found.append(Entry(title, f"mosctl status {node.view.number}", partial(app.follow, order)))
    return found


def _there(app: Omtui) -> list[Entry]:
    """What can be done to the other nodes; where these are many, `--on` is typed."""
    found: list[Entry] = []
    nodes = app.feed.state.nodes
    for node in nodes.values() if len(nodes) <= _MANY else ():
        number, name = str(node.view.number), node.view.name
        if not node.up or node.view.number == app.feed.state.own:
            continue
        expel = _("Expel: send all guests of {name} home").format(name=name)
        bring = _("Bring: call all processes of {name} home").format(name=name)
        found += [_entry(app, expel, actions.expel(number)), _entry(app, bring, actions.bring(number))]
        for row in actions.known_switches():
            on = not row.is_on(node.view.status, None)
            title = _("Switch {name} {state} on {node}").format(
                name=row.name, state=_("on") if on else _("off"), node=name
            )
            if row.bit:
                found.append(_entry(app, title, actions.switch(row, on, number)))
    return found


def _process_entries(app: Omtui) -> list[Entry]:
    chosen = [process.pid for process in app.page.chosen] if app.page is not None else []
    if not chosen:
        return [
            Entry(_("Move a process"), "migrate PID NODE", partial(_type, app, "migrate ")),
            Entry(
                _("Lock a process: the balancer leaves it alone"),
                "mosctl lock PID",
                partial(_type, app, "lock "),
            ),
            Entry(_("Unlock a process"), "mosctl unlock PID", partial(_type, app, "unlock ")),
            Entry(_("Send a signal to a process"), "kill -STOP PID", partial(_type, app, "kill -")),
            Entry(_("Give a process another priority"), "renice", partial(_type, app, "renice -n ")),
        ]
    pid = chosen[0]
    found = [
        _entry(app, _("Call process {pid} home").format(pid=pid), actions.migrate(pid, "home")),
        _entry(
            app,
            _("Let process {pid} run where it runs best").format(pid=pid),
            actions.migrate(pid, "balance"),
        ),
        Entry(
            _("How long the calls of process {pid} take").format(pid=pid),
            f"mosctl calls {pid}",
            partial(app.follow, Times(pid)),
        ),
        _entry(app, _("Lock process {pid}").format(pid=pid), actions.lock(pid, True)),
        _entry(app, _("Unlock process {pid}").format(pid=pid), actions.lock(pid, False)),
        Entry(
            _("Give process {pid} another priority").format(pid=pid),
            f"renice -n NICE -p {pid}",
            partial(_type, app, "renice -n "),
        ),
    ]
    for node in app.feed.state.nodes.values():
        if node.up:
            title = _("Move process {pid} to {node}").format(pid=pid, node=node.view.name)
            found.append(_entry(app, title, actions.migrate(pid, str(node.view.number))))
    for name in actions.SIGNALS:
        title = _("Send SIG{name} to process {pid}").format(name=name, pid=pid)
        found.append(_entry(app, title, actions.signal(pid, name)))
    return found


def _other_entries(app: Omtui) -> list[Entry]:
    orders: list[tuple[str, str, Order]] = [
        (_("Show {page}").format(page=_(TITLES[page])), f":{page}", Go(page)) for page in PAGES
    ]
    orders += [
        (_("Colours: {name}").format(name=name), f":theme {name}", Dress(theme))
        for name, theme in THEMES.items()
    ]
    orders += [
        (_("Hold the picture, or go on"), ":pause", Plain("pause")),
        (_("Back to the present"), ":now", Plain("now")),
        (_("Copy the last command line"), ":copy", Plain("copy")),
        (_("All keys of this screen"), ":help", Plain("help")),
        (_("End"), ":quit", Plain("quit")),
    ]
    found = [Entry(title, typed, partial(app.follow, order)) for title, typed, order in orders]
    found.append(Entry(_("Show a moment of the past"), ":at TIME", app.action_moment))
    for said, key, steps in (
        (_("The picture before"), "app.back", -1),
        (_("The next picture"), "app.forth", 1),
    ):
        found.append(Entry(said, app.key_named(key), partial(app.action_travel, steps)))
    workshop, console = _("The workshop: the lesson beside omsh"), _("The console of a machine of the lab")
    found.append(Entry(workshop, ":workshop", partial(app.follow, Terminal())))
    found.append(Entry(console, ":console NODE", partial(_type, app, "console ")))
    found.append(Entry(_("Show only rows with a text in them"), "/", app.action_filter))
    return found


def _type(app: Omtui, given: str) -> None:
    if app.page is not None:
        app.page.open_prompt(":", given)


class Everything(Provider):
    """For Textual's palette."""

    async def discover(self) -> Hits:
        """Before anything is typed."""
        for entry in entries(cast("Omtui", self.app)):
            yield DiscoveryHit(entry.title, entry.run, help=entry.command)

    async def search(self, query: str) -> Hits:
        """What fits; the command lines are searched too."""
        matcher = self.matcher(query)
        for entry in entries(cast("Omtui", self.app)):
            score = max(matcher.match(entry.title), matcher.match(entry.command) * 0.9)
            if score > 0:
                yield Hit(score, matcher.highlight(entry.title), entry.run, help=entry.command)

"""omtui: openMosixview's screens as one application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, NamedTuple, cast

from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.screen import Screen
from textual.widgets import Input

from omtools.errors import InThePast, OmError, ReadOnly
from omtools.i18n import N_, _
from omtui.actions import Action
from omtui.analyzer.page import AnalyzerPage
from omtui.cluster.page import ClusterPage
from omtui.cluster.rows import details
from omtui.commandline import Dress, Export, Go, Look, Order, Plain, Terminal, Times, Travel, parse
from omtui.dialogs import Ask, Show
from omtui.feed import Feed
from omtui.history import History
from omtui.live.page import LivePage
from omtui.migmon.page import MigmonPage
from omtui.page import Page
from omtui.palette import Everything
from omtui.processes.page import ProcessesPage
from omtui.recording.places import file_to_read
from omtui.travelling import Travelling

GOES_ON = "…"  # said of what is not done yet


class Said(NamedTuple):
    """The last action.

    Attributes:
        command: the command line that does the same.
        sentence: what came of it.
        bad: it could not be done.
        hidden: it has been read, and takes no room any more.
    """

    command: str = ""
    sentence: str = ""
    bad: bool = False
    hidden: bool = False

    @property
    def shown(self) -> Said:
        """What of it is on the screen."""
        return Said() if self.hidden else self


class Omtui(Travelling):
    """The whole application."""

    TITLE = "omtui"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar = {Everything}
    MODES: ClassVar[dict[str, str | Callable[[], Screen[object]]]] = {
        "cluster": cast(Callable[[], Screen[object]], ClusterPage),
        "processes": cast(Callable[[], Screen[object]], ProcessesPage),
        "migmon": cast(Callable[[], Screen[object]], MigmonPage),
        "live": cast(Callable[[], Screen[object]], LivePage),
        "analyzer": cast(Callable[[], Screen[object]], AnalyzerPage),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "explain", N_("help"), id="app.help"),
        # With priority, so that the line is there before the next key is looked at, however fast it comes.
        Binding("slash", "filter", N_("filter"), priority=True, id="app.filter"),
        Binding("colon", "command", N_("command"), priority=True, id="app.command"),
        Binding("ctrl+p", "command_palette", N_("all commands"), show=False, id="app.palette"),
        Binding(
            "p", "pause", N_("pause"), show=False, tooltip=N_("hold the picture, or go on"), id="app.pause"
        ),
        Binding("y", "copy", N_("copy"), show=False, tooltip=N_("copy the last command line"), id="app.copy"),
        Binding("1", "go('cluster')", N_("the cluster"), show=False, id="app.cluster"),
        Binding("2", "go('processes')", N_("the processes"), show=False, id="app.processes"),
        Binding("3", "go('migmon')", N_("nodes in a circle"), show=False, id="app.migmon"),
        Binding("4", "go('live')", N_("what happens"), show=False, id="app.live"),
        Binding(
            "5", "go('analyzer')", N_("load and memory of hours and days"), show=False, id="app.analyzer"
        ),
        Binding(
            "escape",
            "let_go",
            N_("let go"),
            show=False,
            tooltip=N_("show all rows again, and forget what was said last"),
            id="app.let-go",
        ),
        Binding("q", "leave", N_("quit"), id="app.quit"),
    ]

    def __init__(
        self,
        feed: Feed,
        keys: Mapping[str, str] | None = None,
        *,
        read_only: bool = False,
        page: str = "cluster",
        theme: str = "",
    ) -> None:
        """Nothing happens yet.

        Args:
            feed: what to show; with a `History` also the past of it.
            keys: the user's own, by the names of bindings.
            read_only: look, and change nothing.
            page: to begin with.
            theme: one of Textual's; "": its own choice.
        """
        super().__init__(feed if isinstance(feed, History) else History(feed, file_to_read()), keys)
        self.read_only = read_only
        self.paused = False
        self.said = Said()
        self.filters: dict[str, str] = {}
        self.typed: list[str] = []
        self._first_page = page
        self._own_keys = dict(keys or {})
        if theme:
            self.theme = theme

    @property
    def page(self) -> Page | None:
        """The screen that is seen, below whatever stands in front of it."""
        found = self.screen_stack[0] if self._screen_stacks.get(self.current_mode) else None
        return found if isinstance(found, Page) else None

    async def on_mount(self) -> None:
        """Show the first screen."""
        await self.switch_mode(self._first_page)

    def hear(self) -> None:
        """There is news."""
        if self.page is not None and (not self.paused or self.feed.past is not None):
            self.page.draw_all()

    def action_command_palette(self) -> None:
        """All there is to do, in the user's language."""
        if not CommandPalette.is_open(cast("App[object]", self)):
            self.push_screen(CommandPalette(placeholder=_("Search for a command …")))

    def page_changed(self) -> None:
        """Another screen needs other news."""
        want = self.current_mode != "cluster"
        if want and not self.feed.want_processes:
            self.feed.nudge()
        self.feed.want_processes = want
        self.feed.want_report = None
        self.feed.want_calls = 0

    def key_of(self, binding: Binding) -> str:
        """The key for people, the user's own if there is one."""
        keys = self._own_keys.get(binding.id or "", binding.key)
        return self.get_key_display(binding.with_key(keys.split(",")[0]))

    # ---------------------------------------------------------------------------------- actions

    def say(self, command: str = "", sentence: str = "", bad: bool = False) -> None:
        """Show what was done, and what came of it."""
        self.said = Said(command, sentence, bad)
        if self.page is not None and self.page.is_mounted:
            self.page.draw_said()

    def perform(self, wanted: Sequence[Action]) -> None:
        """Do something; the screen goes on meanwhile."""
        if not wanted:
            self.say("", _("Nothing is chosen."), True)
            return
        self.work(partial(self._perform, wanted), "actions")

    async def _perform(self, wanted: Sequence[Action]) -> None:
        command = wanted[0].command if len(wanted) == 1 else "; ".join(one.command for one in wanted)
        if self.read_only and not all(one.asks for one in wanted):
            self.say(command, str(ReadOnly(command=command or type(wanted[0].request).__name__)), True)
            return
        if self.feed.past is not None:
            self.say(command, str(InThePast(command=command or type(wanted[0].request).__name__)), True)
            return
        if wanted[0].question:
            question = "\n".join(one.question for one in wanted)
            if not await self.push_screen_wait(Ask(question, command)):
                self.say(command, _("Not done."))
                return
        if command:
            self.copy_to_clipboard(command)
        self.say(command, GOES_ON)
        sentences, failures = await self._do_all(wanted)
        self.say(command, " ".join(failures + sentences), bool(failures))

    async def _do_all(self, wanted: Sequence[Action]) -> tuple[list[str], list[str]]:
        """All at the same time: a move takes its time, and another need not wait for it."""
        doing = (self.feed.do(one, partial(self._show_progress, one)) for one in wanted)
        done = await asyncio.gather(*doing, return_exceptions=True)
        sentences, failures = [], []
        for result in done:
            if isinstance(result, OmError):
                failures.append(str(result))
            elif isinstance(result, BaseException):
                raise result
            else:
                sentences.append(result)
        return sentences, failures

    def _show_progress(self, action: Action, done: int, total: int) -> None:
        self.say(action.command, _("{done} of {total} are at home …").format(done=done, total=total))

    def obey(self, line: str) -> None:
        """Do what was typed."""
        try:
            self.follow(parse(line))
        except OmError as error:
            self.say("", str(error), True)

    def follow(self, order: Order) -> None:  # noqa: PLR0912 - one branch for each order there is
        """Do what was asked for."""
        match order:
            case Action():
                self.perform([order])
            case Go(page):
                self.action_go(page)
            case Dress(theme):
                self.theme = theme
            case Times(pid):
                self.action_go("live")
                if isinstance(self.page, LivePage):
                    self.page.choose(pid)
            case Look(node):
                self.look_at(node)
            case Export(path):
                self.export(path)
            case Travel(moment):
                self.travel(partial(self.feed.go_to, moment))
            case Terminal():
                self.work(partial(self._open_terminal, order), "terminals")
            case Plain("quit"):
                self.action_leave()
            case Plain("help"):
                self.action_explain()
            case Plain("pause"):
                self.action_pause()
            case Plain("now"):
                self.action_now()
            case Plain():
                self.action_copy()

    def export(self, path: str) -> None:
        """Write what the analyzer shows to a file."""
        if self.read_only:  # who may only look may not write files either
            self.say("", str(ReadOnly(command=f"export {path}")), True)
        elif not isinstance(self.page, AnalyzerPage):
            self.say("", _("The analyzer exports what it shows; it is screen {n}.").format(n=5), True)
        else:
            self.page.export(path)

    async def _open_terminal(self, wanted: Terminal) -> None:
        from omtui.terminal.screens import console  # noqa: PLC0415 - not before it is wanted
        from omtui.terminal.workshop import workshop  # noqa: PLC0415

        command = f"omlab console {wanted.node}".strip() if wanted.console else "omsh"
        try:
            if self.read_only and not wanted.console:
                raise ReadOnly(command=command)
            screen = console(wanted.node, watch=self.read_only) if wanted.console else workshop()
        except OmError as error:
            self.say(command, str(error), True)
            return
        self.say(command, await self.push_screen_wait(screen))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a terminal is seen, all keys but its own are the program's."""
        if self._screen_stack and action != "leave_terminal" and self.screen.id == "terminal":
            return False
        if action in ("filter", "command") and (
            not isinstance(self.screen, Page) or isinstance(self.focused, Input)
        ):
            return False  # there it is a letter like any other
        return super().check_action(action, parameters)

    def look_at(self, word: str) -> None:
        """Show all that is known of a node."""
        self.work(partial(self._look_at, word), "looks")

    async def _look_at(self, word: str) -> None:
        try:
            report = await self.feed.report_of(word)
        except OmError as error:
            self.say(f"mosctl status {word}".strip(), str(error), True)
            return
        text = details(report, self.feed.state.nodes.get(report.number))
        await self.push_screen(Show(f"{report.number} {report.name}", text))

    # -------------------------------------------------------------------------------------- keys

    def action_go(self, page: str) -> None:
        """To another screen; what was said on this one stays here."""
        if page != self.current_mode:
            self.hush()
        self.switch_mode(page)

    def hush(self) -> None:
        """What was said has been read; its command line can still be copied."""
        if self.said.sentence != GOES_ON:
            self.said = Said(self.said.command, hidden=True)

    def action_let_go(self) -> None:
        """Escape: nothing is filtered any more, and the last sentence makes room."""
        self.hush()
        if self.page is not None:
            self.page.filter_by("")

    def action_explain(self) -> None:
        """All keys."""
        if self.page is not None:
            self.page.explain()

    def action_filter(self) -> None:
        """Let a filter be typed."""
        if self.page is not None:
            self.page.open_prompt("/", self.page.wanted)

    def action_command(self) -> None:
        """Let a command be typed."""
        if self.page is not None:
            self.page.open_prompt(":")

    def action_moment(self) -> None:
        """Let a moment of the past be typed."""
        if self.page is not None:
            self.page.open_prompt(":", "at ")

    def action_pause(self) -> None:
        """Hold the picture, or go on; the past plays, or stands still."""
        if self.feed.past is not None:
            self.feed.play()
            return
        self.paused = not self.paused
        if self.page is not None:
            self.page.draw_all()

    def action_copy(self) -> None:
        """Copy the last command line."""
        if self.said.command:
            self.copy_to_clipboard(self.said.command)
            self.say(self.said.command, _("It is copied."))
        else:
            self.say("", _("Nothing was done yet whose command line could be copied."), True)

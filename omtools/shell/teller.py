"""What the workshop says: every action of the course that is for the learner's eyes."""

from __future__ import annotations

from omtools.i18n import N_
from omtools.shell import events
from omtools.shell.lesson import HINTS, Lesson, Step, fill
from omtools.shell.markdown import BAD, BOLD, DIM, GOOD, HEAD
from omtools.shell.screen import Screen
from omtools.shell.words import tr

KEYS = (
    ("n", N_("next")), ("r", N_("run")), ("h", N_("hint")), ("l", N_("list")), ("c", N_("check")),
    ("x", N_("reset")), ("q", N_("quit")),
)  # fmt: skip

_REMARKS = {
    "unsolved": N_("This step is not solved yet. `:hint` helps; `:next` once more leaves it for later."),
    "sandbox": N_("Sandbox: the lab is yours, nothing is checked. `:sandbox` again goes back to the lesson."),
    "no step": N_("The lesson is at its end. `:next` goes on, `:list` shows all lessons."),
    "all done": N_("That was the last lesson. `:list` shows them all, `:sandbox` gives you the lab."),
    "typed out": N_("All commands of this step have been typed. `:run` begins again with the first."),
    "kept": N_("Your progress is kept: `omsh` goes on here."),
}

_QUESTIONS = {
    "step": N_("Begin this step again?"),
    "lesson": N_("Begin this whole lesson again, and forget what was solved in it?"),
    "lab": N_("Take the lab down and start a fresh one? Everything that runs on its nodes ends."),
}

_HELP = N_("""\
Lines that begin with a colon are for the workshop, all others run on the node. A letter is enough.

- `:next`: the next step, and after the last one the next lesson
- `:run`: types the next command of the solution for you
- `:hint`: a hint; the fourth is the solution (`:solution` at once)
- `:check`: what is expected, and what is so now
- `:list`: all lessons; `:go 7` or `:go 7 step-name` goes there
- `:show`: the step's text again
- `:reset`: this step again (`:reset lesson`, `:reset lab`)
- `:answer` words, or `:1`, `:2` …: answers a question
- `:sandbox`: the lab without lessons, and back
- `:quit`: ends; your progress is kept

With Alt the same letters work as keys. `on NODE` takes your shell to another node, `on NODE command` runs a \
command there.
""")


class Teller:
    """Tells the learner."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def _mark(self, solved: bool) -> str:
        if self._screen.plain:
            return tr(N_("solved")) if solved else tr(N_("open"))
        return "✓" if solved else "·"

    def tell(self, action: events.Action) -> None:
        """Say what the action has to say; nothing if it has nothing."""
        match action:
            case events.Introduce():
                self._introduce(action.lesson)
            case events.Present():
                self._present(action.lesson, action.step, action.solved)
            case events.TellHint():
                head = tr(N_("Hint {n} of {most}:")).format(n=action.number, most=HINTS)
                self._screen.show(f"{head} {action.text}")
            case events.TellSolution():
                self._solution(tr(N_("The solution:")), action.commands)
            case events.TellFindings():
                self._findings(action)
            case events.Celebrate():
                self._celebrate(action)
            case events.LessonDone():
                self._done(action)
            case events.TellContents():
                self._contents(action)
            case events.Tell():
                self._screen.show(tr(_REMARKS[action.what]))

    def question(self, scope: events.Scope) -> str:
        """What is asked before a reset."""
        return tr(_QUESTIONS[scope])

    def help(self) -> None:
        """All words of the workshop."""
        self._screen.show(tr(_HELP))

    def keys(self) -> str:
        """The line of keys."""
        return "  ".join(f"{key} {tr(word)}" for key, word in KEYS)

    def _gap(self) -> None:
        if not self._screen.plain:
            self._screen.write("\n")

    def _introduce(self, lesson: Lesson) -> None:
        self._gap()
        head = tr(N_("Lesson {n}: {title}")).format(n=lesson.number, title=lesson.title)
        self._screen.say(head, HEAD)
        about = tr(N_("{about} About {minutes} minutes, {steps} steps."))
        facts = about.format(about=lesson.about, minutes=lesson.minutes, steps=len(lesson.steps))
        self._screen.show(facts + "\n\n" + lesson.intro)

    def _present(self, lesson: Lesson, step: Step, solved: bool) -> None:
        place = f"{lesson.number}.{lesson.steps.index(step) + 1}"
        self._gap()
        note = f" ({tr(N_('solved already'))})" if solved else ""
        self._screen.say(f"{place} {step.title}{note}", HEAD)
        self._screen.show(step.text)
        self._screen.write("\n")
        self._screen.show(f"**{tr(N_('Goal'))}:** {step.goal}")
        if self._screen.plain:
            self._screen.say(tr(N_("Words:")) + " " + self.keys())

    def _solution(self, head: str, commands: tuple[str, ...]) -> None:
        self._screen.show("\n".join([head, "", "```try", *commands, "```"]))

    def _findings(self, action: events.TellFindings) -> None:
        for finding in action.findings:
            self._screen.say(
                f"{self._mark(finding.ok)} {finding.expected}", GOOD if finding.ok else BAD
            )
            if not finding.ok:
                self._screen.say("  " + tr(N_("seen: {seen}")).format(seen=finding.seen))

    def _celebrate(self, action: events.Celebrate) -> None:
        self._gap()
        self._screen.say(f"{self._mark(True)} {tr(N_('Solved'))}", f"{BOLD};{GOOD}")
        self._screen.show(fill(action.step.after, action.figures))
        if action.known:
            self._screen.say(tr(N_("(The solution is the same.)")), DIM)
        elif not action.step.solution[0].startswith(":"):
            self._solution(tr(N_("For comparison, one way:")), action.step.solution)
        self._screen.show(tr(N_("`:next` goes on.")))

    def _done(self, action: events.LessonDone) -> None:
        self._gap()
        if action.unsolved:
            names = ", ".join(step.title for step in action.unsolved)
            self._screen.show(tr(N_("The end of the lesson; still open: {steps}.")).format(steps=names))
        else:
            title = action.lesson.title
            self._screen.say(tr(N_("You have solved “{title}”.")).format(title=title), f"{BOLD};{GOOD}")
        if action.following is not None:
            following = f"{action.following.number}: {action.following.title}"
            self._screen.show(tr(N_("`:next` begins lesson {title}.")).format(title=following))
        else:
            self._screen.show(tr(_REMARKS["all done"]))

    def _contents(self, action: events.TellContents) -> None:
        for lesson in action.lessons:
            done = sum(action.progress.solved(lesson.id, step.id) for step in lesson.steps)
            mark = self._mark(done == len(lesson.steps))
            here = lesson.id == action.lesson
            self._screen.say(
                f"{mark} {lesson.number:>2} {lesson.title} ({done}/{len(lesson.steps)})", BOLD if here else ""
            )
            for step in lesson.steps if here else ():
                sign = self._mark(action.progress.solved(lesson.id, step.id))
                arrow = " ←" if step.id == action.step and not self._screen.plain else ""
                self._screen.say(f"     {sign} {step.id}: {step.title}{arrow}")

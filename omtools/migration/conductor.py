"""Who decides over a guest as a whole, as those see it who do its calls."""

from __future__ import annotations

from typing import Protocol


class Conductor(Protocol):
    """Who decides over the guest as a whole."""

    def need_home(self, reason: str) -> None:
        """The guest must go home with its call pending."""

    def exiting(self, status: int) -> None:
        """The guest calls exit_group."""

    def let_signals_in(self) -> None:
        """The guest waits under another mask, and a signal is pending that gets through it."""

    def warn(self, text: str) -> None:
        """Something has failed of which the guest gets but an error."""

    def hold(self) -> bool:
        """Stop the guest; False if it is gone."""
        ...

    def go_on(self) -> None:
        """The guest was stopped in a call that is over."""

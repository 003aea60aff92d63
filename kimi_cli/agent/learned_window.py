"""The context window as far as the server's refusals tell."""

from __future__ import annotations

MAX_REFUSALS = 5
GUESSED_SHARE = 0.8
"""Of what was refused: the window where the refusal names none."""
BELIEVED = 2
"""Guesses after which one stays: a single refusal may be a whim of something in between."""


class LearnedWindow:
    """``window`` is what holds now, in tokens, 0: no limit; ``known`` leaves out what is only
    guessed; ``refusals`` counts those since a request was taken."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.refusals = 0
        self._before_guess: int | None = None
        self._guesses = 0

    @property
    def known(self) -> int:
        return self.window if self._before_guess is None else self._before_guess

    def refused(self) -> bool:
        """A request was too long; whether another is worth trying."""
        self.refusals += 1
        if self.refusals <= MAX_REFUSALS:
            return True
        self._forget()
        self.refusals = 0
        return False

    def named(self, window: int) -> None:
        """The refusal named the window."""
        self._forget()
        self.window = min(self.window or window, window)

    def guess(self, tokens: int, *, lasting: bool) -> None:
        """The refusal of so many tokens named none. ``lasting`` False: it never tells of the
        model's own window."""
        if self._before_guess is None:
            self._before_guess = self.window
            self._guesses += 1
        if not lasting:
            self._guesses = 0
        self.window = int(min(self.window or tokens, tokens) * GUESSED_SHARE)

    def accepted(self) -> None:
        """A request was taken."""
        if self._guesses < BELIEVED:
            self._forget()
        self._before_guess = None
        self.refusals = 0

    def _forget(self) -> None:
        self.window, self._before_guess = self.known, None

"""Answering the policy's questions from the keyboard, without doing it by accident."""

from __future__ import annotations

import time
from collections.abc import Callable

from kimi_cli.frontends.terminal.desk import Desk
from kimi_cli.frontends.terminal.menu import UNREAD_SECONDS
from kimi_cli.frontends.terminal.question_view import choices
from kimi_cli.protocol.operations import Answer


class Answers:
    """``send`` takes an answer to the session."""

    def __init__(self, desk: Desk, send: Callable[[Answer], None]) -> None:
        self._desk = desk
        self._send = send
        self._asked_at = 0.0

    def asked(self) -> None:
        """A question has just come into sight."""
        self._asked_at = time.monotonic()

    @property
    def unread(self) -> bool:
        """Whether what is asked came into sight only now."""
        return time.monotonic() - self._asked_at < UNREAD_SECONDS

    def give(self, digit: str, *, meant: bool) -> None:
        """Answer the oldest open question, if the digit means anything for it; ``meant``: it can't
        be a part of what is being typed."""
        if not self._desk.questions or (self.unread and not meant):
            return
        question = self._desk.questions[0]
        choice = next((one for one in choices(question) if one.digit == digit), None)
        if choice is None:
            return
        if choice.kind == "why":
            self._desk.saying_why = question.question_id
        else:
            # The next question comes into the place of this one.
            self.asked()
            self._send(Answer(question_id=question.question_id, answer=choice.kind))

    def say_why(self, comment: str) -> None:
        """A no with a comment for the model."""
        question, self._desk.saying_why = self._desk.saying_why, ""
        self._send(Answer(question_id=question, answer="no", comment=comment))

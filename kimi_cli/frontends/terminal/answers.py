"""Answering the policy's questions from the keyboard, without doing it by accident."""

from __future__ import annotations

import time
from collections.abc import Callable

from prompt_toolkit.buffer import Buffer

from kimi_cli.frontends.terminal.desk import Desk
from kimi_cli.frontends.terminal.question_view import choices
from kimi_cli.protocol.operations import Answer

UNREAD_SECONDS = 0.4
"""A digit typed so soon after a question came was not meant for it."""


class Answers:
    """``send`` takes an answer to the session. What was being typed when a comment is asked for
    comes back after it."""

    def __init__(self, desk: Desk, buffer: Buffer, send: Callable[[Answer], None]) -> None:
        self._desk = desk
        self._buffer = buffer
        self._send = send
        self._asked_at = 0.0
        self._why_for = ""
        self._draft = ""

    def asked(self) -> None:
        """A question has just come onto the screen."""
        self._asked_at = time.monotonic()

    @property
    def takes_digits(self) -> bool:
        """Whether a digit is an answer: not while something else is being typed."""
        asked = bool(self._desk.questions) and not self._desk.saying_why
        return asked and not self._buffer.text and self._desk.menu is None

    def give(self, digit: str, *, meant: bool) -> None:
        """Answer the oldest open question, if the digit means anything for it; ``meant``: it can't
        be a part of what is being typed."""
        questions = self._desk.questions
        too_soon = not meant and time.monotonic() - self._asked_at < UNREAD_SECONDS
        if not questions or too_soon:
            return
        question = questions[0]
        choice = next((one for one in choices(question) if one.digit == digit), None)
        if choice is None:
            return
        if choice.kind == "why":
            self._desk.saying_why = True
            self._why_for, self._draft = question.question_id, self._buffer.text
            self._buffer.reset()
        else:
            self._asked_at = time.monotonic()
            self._send(Answer(question_id=question.question_id, answer=choice.kind))

    def say_why(self, comment: str) -> None:
        """A no with a comment for the model."""
        self._send(Answer(question_id=self._why_for, answer="no", comment=comment))
        self.stop_saying_why()

    def stop_saying_why(self) -> None:
        """Back to the question, and to what was being typed."""
        self._desk.saying_why = False
        self._buffer.reset()
        self._buffer.insert_text(self._draft)
        self._draft = ""

"""Questions that the policy raises: asked, answered, and both on record."""

from __future__ import annotations

import asyncio
from typing import Literal

from kimi_cli.agent.host import Leave, Wish
from kimi_cli.agent.record import Record
from kimi_cli.agent.stop import StopTurn
from kimi_cli.protocol.events import (
    QuestionAnswered,
    QuestionAsked,
)
from kimi_cli.protocol.messages import ToolCallPart
from kimi_cli.protocol.operations import Answer
from kimi_cli.protocol.stops import StopReason

OnAsk = Literal["deny", "fail", "wait"]


class Questions:
    """``on_ask`` says what happens to a question: it is denied, it ends the turn, or a front end
    answers it."""

    def __init__(self, record: Record, on_ask: OnAsk) -> None:
        self._record = record
        self._on_ask = on_ask
        self._open: dict[str, asyncio.Future[Answer]] = {}

    def answer(self, operation: Answer) -> None:
        """Take an answer; one to no open question is ignored."""
        waiting = self._open.get(operation.question_id)
        if waiting and not waiting.done():
            waiting.set_result(operation)

    async def ask(self, call: ToolCallPart, wish: Wish) -> Leave:
        """Put the question on record and get its answer. Raises StopTurn."""
        question = f"q{self._record.at.seq + 1}"
        # Open before anybody hears of it: the answer may come at once.
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[question] = waiting
        try:
            return await self._ask(question, waiting, call, wish)
        finally:
            del self._open[question]

    async def _ask(
        self, question: str, waiting: asyncio.Future[Answer], call: ToolCallPart, wish: Wish
    ) -> Leave:
        self._record.add(
            QuestionAsked(
                question_id=question,
                call_id=call.id,
                tool=call.name,
                text=wish.text,
                reason=wish.reason,
                choices=["once", *(["session", "project"] if wish.rule else []), "no"],
                rule=wish.rule,
                grant=wish.grant.words(),
                marks=list(wish.marks),
                preview=wish.preview,
            )
        )
        refused = QuestionAnswered(question_id=question, answer="no", by="policy")
        if self._on_ask == "fail":
            self._record.add(refused)
            raise StopTurn(StopReason.QUESTION, f"{wish.text}: {wish.reason}")
        if self._on_ask == "deny":
            self._record.add(refused)
            return Leave(
                False,
                f"Denied: {wish.reason}, and nobody is there to ask. Do not try the same by other "
                "means; do what can be done without it and say what could not.",
            )
        try:
            given = await waiting
        except asyncio.CancelledError:
            self._record.add(refused)
            raise
        self._record.add(
            QuestionAnswered(question_id=question, answer=given.answer, comment=given.comment)
        )
        if given.answer == "once":
            return Leave(True)
        if given.answer == "session" and wish.rule:
            return Leave(True, scope="session")
        if given.answer == "project" and wish.rule:
            return Leave(True, scope="project")
        return Leave(False, f"The user said no. {given.comment}".strip())

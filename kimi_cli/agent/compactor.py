"""Makes room in the context: asks the model for a hand-off note, keeps the facts, cuts the rest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.agent.budget import Budget, cost_of
from kimi_cli.agent.compaction import Cut, Pinned, Pins, cut, missing_in
from kimi_cli.agent.digest import digest
from kimi_cli.agent.learned_window import LearnedWindow
from kimi_cli.agent.note import Note, NoteWriter
from kimi_cli.agent.record import Record
from kimi_cli.agent.window import NEARLY_FULL, Filling, Shares, answer_room, shares, trigger
from kimi_cli.model.catalogue import Price
from kimi_cli.protocol.events import Compaction, CompactionReason, Notice, Shrink
from kimi_cli.protocol.live import CompactionStarted
from kimi_cli.protocol.messages import Usage
from kimi_cli.protocol.provider import ErrorClass, ModelError, ModelRequest, Provider
from kimi_cli.protocol.tools import ToolSchema
from kimi_cli.protocol.workspace import Workspace

log = logging.getLogger(__name__)

Book = Callable[[Usage], None]
"""Books what a request for a note used."""

LAST_RESORT = 4
"""The refusal from which not even the step that runs must stay."""
TOO_MANY_BYTES = 413
NEAR = 0.6
SQUEEZE = 0.6
HOPELESS = frozenset(
    {ErrorClass.AUTH, ErrorClass.PERMISSION, ErrorClass.QUOTA, ErrorClass.MODEL_MISSING}
)
RESULT_LIMITS = (8_000, 2_000, 500)
"""Bytes that a tool's result is cut to, one after the other until the context fits."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The user's: whether to compact unasked, at which share of the window, and how many tokens of
    the newest steps stay."""

    auto: bool = True
    share: float = 0.85
    recent: int = 20_000


class NoteRefused(Exception):
    """The endpoint answers no request of ours; ``error`` says why."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(error.message)
        self.error = error


class Compactor:
    """Looks after the context of one session, with the limits that its server turns out to have."""

    def __init__(
        self,
        record: Record,
        provider: Provider,
        workspace: Workspace,
        budget: Budget,
        price: Price | None,
        tools: Sequence[ToolSchema],
        rules: Rules,
    ) -> None:
        self._filling = Filling()
        self._record = record
        self._workspace = workspace
        self._budget = budget
        self._rules = rules
        self._tools = tools
        self._asked: str | None = None
        self.go_on_with(provider, price)

    def go_on_with(self, provider: Provider, price: Price | None) -> None:
        """Look after the requests to another model from here on."""
        self._provider = provider
        self._price = price
        self._limits = LearnedWindow(provider.window)
        self._notes = NoteWriter(self._record, provider, self._tools)
        self._floor = 0

    @property
    def window(self) -> int:
        """The context window in tokens as far as it is known or guessed by now, 0: no limit."""
        return self._limits.window

    @property
    def known_window(self) -> int:
        """The window without what is only guessed."""
        return self._limits.known

    def ask(self, focus: str) -> None:
        """Compact before the next request."""
        self._asked = focus

    def cap(self) -> int | None:
        """The most tokens that the next answer may have; None where the provider's own cap fits."""
        cap = self._provider.output_cap
        if not self.window or cap is None:
            return None
        room = answer_room(self.window, self._record.meter.total)
        return room if room < cap else None

    async def make_room(self, book: Book) -> None:
        """To be called before each request: compacts when the window is nearly full, or when it
        was asked for; where the user switched that off, warns instead. Raises StoreError."""
        compacted = await self.if_asked(book)
        if not self._rules.auto and self.window:
            total = await self._total(self.window * NEARLY_FULL)
            if news := self._filling.news(self.window, total):
                self._record.add(Notice(level="warning", text=news))
        if not self._rules.auto or self._limits.refusals:
            return
        if not compacted and self.window and await self._full():
            await self.compact("window", book)
            compacted = True
        if compacted:
            self._fit()

    async def if_asked(self, book: Book) -> bool:
        """Compact if somebody asked for it since the last time; whether that was so."""
        if self._asked is None:
            return False
        focus, self._asked = self._asked, None
        await self.compact("manual", book, focus)
        return True

    async def after_refusal(self, error: ModelError, book: Book) -> bool:
        """The server refused the request as too long: make the next one smaller. False when there
        is nothing left to try. Raises StoreError."""
        if not self._rules.auto or not self._limits.refused():
            return False
        self._learn(error)
        if self._limits.refusals == 1:
            if self._record.meter.total <= self._limit():
                # Only the room asked for the answer was too large: see ``cap``.
                return True
            where = self._cut(self._shares())
            if self._shrink(where.upto):
                return True
        await self.compact("server", book, ask=False)
        self._fit()
        return True

    def accepted(self) -> None:
        """The server took the last request."""
        self._limits.accepted()

    async def compact(
        self,
        reason: CompactionReason,
        book: Book,
        focus: str = "",
        *,
        ask: bool = True,
    ) -> Compaction | None:
        """Compact now; None when there is nothing that could go. ``ask`` the model for a note,
        else make it of the record. Each refusal before makes it keep less. Raises StoreError, and
        NoteRefused when the endpoint will not have us at all."""
        record = self._record
        record.close_calls()
        before = record.meter.total
        share = self._shares()
        where = self._cut(share)
        again = self._limits.refusals > 1 and record.projection.compaction is not None
        if not record.projection.spoken(where.upto) and not again:
            return None
        begun = time.monotonic()
        record.show(CompactionStarted(reason=reason, tokens=before, window=self._limits.known))
        note = Note(failure="the server refused the request as too long")
        if ask:
            note = await self._note(focus, share.note, book)
            if note.error and note.error.kind in HOPELESS:
                # Nothing would be gained: the next request is refused as well.
                raise NoteRefused(note.error)
        spare = Note(failure="it left no room for what is kept")
        for attempt in (note, spare) if note.text else (note,):
            event, pinned = self._event(attempt, where, share)
            trial = record.projection.with_event(event)
            # What the code keeps must be there, whatever became of it on the way to the wire.
            missing = missing_in(trial.messages, pinned.musts)
            if not missing:
                break
            log.error("a compaction lost %d facts: %s", len(missing), missing[0][:200])
        else:
            record.add(Notice(level="warning", text="the context could not be compacted safely"))
            return None
        event.reason, event.focus = reason, focus
        event.tokens_before, event.window = before, self._limits.known
        event.tokens_after = record.total_of(trial)
        if reason == "server" and event.tokens_after >= before:
            return None
        event.usage = note.usage if note.usage.total_tokens else None
        event.cost = cost_of(self._price, note.usage) if self._price and event.usage else None
        event.seconds = round(time.monotonic() - begun, 3)
        record.add(event)
        self._floor = record.meter.total
        return event

    async def _full(self) -> bool:
        limit = self._limit()
        total = await self._total(limit)
        if total <= limit:
            return False
        # What is left after a compaction may be large in itself: compact again only when there is
        # something new, or no room at all.
        return total - self._floor > self.window // 20 or total > self.window * 0.95

    async def _total(self, limit: float) -> int:
        """The tokens of the next request, as sure as a comparison with ``limit`` needs."""
        meter = self._record.meter
        if meter.new > meter.total // 3 and limit * NEAR < meter.total < self.window:
            # Much of it is only estimated, and it matters: the server knows.
            request = ModelRequest(self._record.messages, self._tools)
            if exact := await self._provider.count(request):
                meter.correct(exact)
        return meter.total

    def _limit(self) -> int:
        return trigger(self.window, self._rules.share)

    def _shares(self) -> Shares:
        record = self._record
        window = self.window or record.meter.total * 2
        squeeze = SQUEEZE ** max(self._limits.refusals - 1, 0)
        return shares(window, record.fixed(), self._rules.recent, squeeze)

    def _cut(self, share: Shares) -> Cut:
        record = self._record
        messages = record.projection.messages
        return cut(
            record.projection.sources,
            lambda index: record.size(messages[index]),
            share.recent,
            record.at.seq,
            running=self._limits.refusals < LAST_RESORT,
        )

    async def _note(self, focus: str, share: int, book: Book) -> Note:
        ahead = self._record.ahead()
        cost = cost_of(self._price, ahead) if self._price else 0.0
        if self._budget.exceeded(ahead.input_tokens, cost):
            return Note(failure="the budget has no room for the request")
        return await self._notes.write(focus, share, self.window, book)

    def _event(self, note: Note, where: Cut, share: Shares) -> tuple[Compaction, Pinned]:
        record = self._record
        former = record.projection.compaction
        text = note.text or digest(
            record.projection.spoken(where.upto), former.note if former else "", share.note * 3
        )
        files = self._workspace.files
        pins = Pins(record.size, lambda path: files.show(Path(path)), self._spill)
        pinned = pins.write(record.facts, where, share, text, mechanical=not note.text)
        event = Compaction(
            upto=where.upto,
            note=pinned.note,
            pinned=pinned.parts,
            mechanical=not note.text,
            failure=note.failure,
            kept=pinned.kept,
        )
        return event, pinned

    def _spill(self, name: str, text: str) -> str:
        try:
            return str(self._workspace.spill(name, text.encode("utf-8", "surrogatepass")))
        except OSError as error:
            return f"no file: it could not be kept ({error.strerror or error})"

    def _learn(self, error: ModelError) -> None:
        """Take in what a refusal says of the window, and of the size of what was refused."""
        meter = self._record.meter
        if error.window:
            answer = self.cap() or self._provider.output_cap or 0
            self._limits.named(error.window)
            # Request and answer together are what did not fit.
            meter.at_least(error.window - answer)
        else:
            # A proxy's limit on bytes says nothing of tokens.
            self._limits.guess(meter.total, lasting=error.status != TOO_MANY_BYTES)

    def _fit(self) -> None:
        """After a compaction: cut tool results of the steps that were kept where they are still
        too much."""
        if self.window and self._record.meter.total > self._limit():
            self._shrink(self._record.at.seq)

    def _shrink(self, upto: int) -> bool:
        """Cut the results up to ``upto`` as far as needed; whether the context fits then."""
        record = self._record
        before = record.meter.total
        for limit in RESULT_LIMITS:
            event = Shrink(upto=upto, limit=limit, tokens_before=before, window=self._limits.known)
            event.tokens_after = record.total_of(record.projection.with_event(event))
            if event.tokens_after <= self._limit():
                break
        if event.tokens_after < before - before // 50:
            record.add(event)
            self._floor = record.meter.total
        return event.tokens_after <= self._limit()

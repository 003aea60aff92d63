"""What the loop, the toolbox and the tools find around a turn: the parts of one session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kimi_cli.agent.budget import Budget
from kimi_cli.agent.checkpoints import Checkpoints
from kimi_cli.agent.compactor import Compactor, Rules
from kimi_cli.agent.host import Leave, Wish
from kimi_cli.agent.mode_news import ModeNews
from kimi_cli.agent.news import News
from kimi_cli.agent.opening import OpeningLog
from kimi_cli.agent.questions import OnAsk, Questions
from kimi_cli.agent.record import Record
from kimi_cli.agent.stop import StopTurn
from kimi_cli.agent.toolbox import STOPPED_BY_SANDBOX, Toolbox
from kimi_cli.model.catalogue import Price
from kimi_cli.model.errors import REMEDIES
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import ModelChanged, ToolResult, UserMessage
from kimi_cli.protocol.messages import TextPart, ToolCallPart, Usage
from kimi_cli.protocol.modes import Mode
from kimi_cli.protocol.provider import Completed, ModelError, ModelRequest, Provider
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.tools import ToolSchema
from kimi_cli.protocol.workspace import FileTouch, Workspace
from kimi_cli.store.errors import StoreError
from kimi_cli.store.log import Log

if TYPE_CHECKING:
    from kimi_cli.agent.restoring import Snapshots
    from kimi_cli.agent.serving import Served
    from kimi_cli.agent.setup import Place
    from kimi_cli.safety.rules import RuleSet
    from kimi_cli.settings import Loaded


class ClosableWorkspace(Workspace, Protocol):
    async def close(self) -> list[str]:
        """End every command; returns a line for each background task that was still running."""
        ...


class OwnPolicy(Protocol):
    """What of the session's own policy can change."""

    mode: Mode

    def use_rules(self, rules: RuleSet) -> None: ...


class FindModel(Protocol):
    def __call__(
        self, model: str | None, thinking: str | None, now: Served, place: Place | None
    ) -> Awaitable[Served]:
        """Another model than the one of ``now``, or one elsewhere; what is None stays. Raises
        SettingsError, SetupError."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a session is put together from. ``policy`` is the one that the toolbox asks in the end.
    ``snapshots`` gives those of the workspace, and may block; None: files can't be taken back.
    ``saw`` takes up what the model saw of the files, in place of what was known of it."""

    log: Log
    served: Served
    find_model: FindModel
    toolbox: Toolbox
    tools: Sequence[ToolSchema]
    workspace: ClosableWorkspace
    budget: Budget
    policy: OwnPolicy
    on_ask: OnAsk
    context: Rules
    snapshots: Callable[[], Snapshots] | None = None
    saw: Callable[[Iterable[FileTouch]], None] = lambda touches: None


class TurnHost:
    """Implements ``Host``: the part of a session that a turn works with."""

    def __init__(self, parts: Parts) -> None:
        served, workspace = parts.served, parts.workspace
        self.toolbox = parts.toolbox
        self.workspace = workspace
        self.budget = parts.budget
        self.steering: list[str] = []
        self.denials: list[dict[str, str]] = []
        """What was refused in this run, for the result: tool, summary and reason."""
        self._served = served
        self._policy = parts.policy
        self._log = OpeningLog(parts.log)
        self._tools = parts.tools
        self._record = Record(self._log, served.provider, parts.tools)
        self._compactor = Compactor(
            self._record,
            served.provider,
            workspace,
            parts.budget,
            served.price,
            parts.tools,
            parts.context,
        )
        self._checkpoints = Checkpoints(parts.snapshots, self.record) if parts.snapshots else None
        self._questions = Questions(self._record, parts.on_ask)
        self._news = News(workspace.processes)
        self._mode_news = ModeNews(lambda: parts.policy.mode)
        self._offers: list[str] = []
        for listener in (self._note, self._news, self._mode_news):
            self._record.subscribe(listener)

    @property
    def provider(self) -> Provider:
        return self._served.provider

    @property
    def price(self) -> Price | None:
        return self._served.price

    @property
    def model(self) -> str:
        return self._served.provider.model

    @property
    def thinking(self) -> str:
        """As the settings have it: "on" or "" (the model's default), "off", or an effort."""
        return self._served.thinking

    @property
    def place(self) -> Place:
        """Where the model is."""
        return self._served.place

    @property
    def loaded(self) -> Loaded | None:
        """The settings that lead to the model; None for one that was put in by hand."""
        return self._served.loaded

    @property
    def media(self) -> frozenset[str]:
        """The kinds of media that the model takes."""
        return self._served.media

    @property
    def currency(self) -> str | None:
        """That of costs from here; None: no price is known."""
        return self.price.currency if self.price else None

    def record(self, event: Event) -> None:
        self._record.add(event)

    def show(self, event: Event) -> None:
        self._record.show(event)

    async def settle(self) -> None:
        if self._checkpoints:
            await self._checkpoints.before_change()
        await self._log.sync()

    def request(self) -> ModelRequest:
        record = self._record
        return ModelRequest(
            record.messages, self._tools, self._compactor.cap(), new_tokens=record.meter.uncached
        )

    async def make_room(self, book: Callable[[Usage], None]) -> None:
        await self._compactor.make_room(book)

    async def after_refusal(self, error: ModelError, book: Callable[[Usage], None]) -> bool:
        return await self._compactor.after_refusal(error, book)

    def usage_ahead(self) -> Usage:
        return self._record.ahead()

    def usage_of(self, reply: Completed) -> Usage:
        self._compactor.accepted()
        used = self._record.used(reply)
        if used is reply.usage:
            self._record.meter.measure(used)
        return used

    def begin_step(self) -> None:
        self._record.at.step += 1

    def take_notes(self) -> list[UserMessage]:
        mode = self._mode_news.take()
        offers, self._offers = self._offers, []
        return [*map(_told, offers), *([mode] if mode else [])]

    def take_news(self) -> list[str]:
        return self._news.take()

    def stop_for(self, error: ModelError) -> StopTurn:
        remedy = REMEDIES[error.kind]
        if trouble := self.place.trouble():
            # What a port answers that somebody else has by now tells nothing.
            return StopTurn(StopReason.TEMPORARY, trouble, error)
        return StopTurn(remedy.stop, f"{error.message.rstrip('.')}. {remedy.advice}", error)

    async def ask(self, call: ToolCallPart, wish: Wish) -> Leave:
        return await self._questions.ask(call, wish)

    # What a session does to the parts, between turns.

    def _go_on_with(self, served: Served) -> None:
        """Go on with another model, and say so. Raises StoreError, and then nothing has changed."""
        former = self._served
        # First, so that whoever hears of it finds it so.
        self._put_in(served)
        try:
            self.record(
                ModelChanged(
                    model=served.provider.model,
                    thinking=served.thinking,
                    window=served.provider.window,
                    dialect=served.dialect,
                )
            )
        except StoreError:
            self._put_in(former)
            raise

    def _put_in(self, served: Served) -> None:
        self._served = served
        self.toolbox.media_kinds = served.media
        self._record.go_on_with(served.provider)
        self._compactor.go_on_with(served.provider, served.price)

    def _record_offers(self) -> None:
        """Raises StoreError, and then what could not be stored waits on."""
        while self._offers:
            self.record(_told(self._offers[0]))
            del self._offers[0]

    def _note(self, event: Event) -> None:
        if not isinstance(event, ToolResult):
            return
        why = event.data.get(STOPPED_BY_SANDBOX)
        if event.status == "denied":
            why = "".join(p.text for p in event.parts if isinstance(p, TextPart))
        if why:
            self.denials.append({"tool": event.name, "summary": event.summary, "reason": why})


def _told(text: str) -> UserMessage:
    return UserMessage(origin="program", parts=[TextPart(text=text)])

"""What the loop and the toolbox ask of their session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from kimi_cli.model.catalogue import Price
from kimi_cli.protocol.events import UserMessage
from kimi_cli.protocol.messages import ToolCallPart, Usage
from kimi_cli.protocol.provider import Completed, ModelError, ModelRequest, Provider
from kimi_cli.protocol.sandbox import NOTHING, Grant

if TYPE_CHECKING:
    from kimi_cli.agent.budget import Budget
    from kimi_cli.agent.stop import StopTurn
    from kimi_cli.agent.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class Wish:
    """What a question is about: ``text`` is what will happen, ``reason`` why it is asked. ``rule``
    is what would let it happen from now on, ``grant`` what a yes allows beyond the sandbox,
    ``marks`` the parts of the command that need the decision, ``preview`` exactly what will happen:
    a command or a diff."""

    text: str
    reason: str
    rule: str = ""
    grant: Grant = NOTHING
    marks: Sequence[tuple[int, int]] = ()
    preview: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """An answer: ``scope`` says for how long it holds, ``words`` tell the model of a no."""

    allowed: bool
    words: str = ""
    scope: Literal["once", "session", "project"] = "once"


class Journal(Protocol):
    """Where the toolbox reports to: the session, seen from below."""

    def record(self, event: Any) -> None:
        """Store a durable event and publish it. Raises StoreError."""
        ...

    def show(self, event: Any) -> None:
        """Publish a live event."""
        ...

    async def settle(self) -> None:
        """Return once what was recorded is safely on disk."""
        ...

    async def ask(self, call: ToolCallPart, wish: Wish) -> Leave:
        """Whether the user lets the call happen. Raises StopTurn."""
        ...


class Host(Journal, Protocol):
    """What the loop needs of its session."""

    @property
    def provider(self) -> Provider: ...

    @property
    def toolbox(self) -> Toolbox: ...

    @property
    def budget(self) -> Budget: ...

    @property
    def price(self) -> Price | None: ...

    def request(self) -> ModelRequest:
        """The next request, made of everything recorded so far."""
        ...

    async def make_room(self, book: Callable[[Usage], None]) -> None:
        """Compact the context if that is due; ``book`` gets what it used."""
        ...

    async def after_refusal(self, error: ModelError, book: Callable[[Usage], None]) -> bool:
        """Make the next request smaller than the one that was refused as too long; False when
        there is nothing left to try."""
        ...

    def usage_ahead(self) -> Usage:
        """What the input of the next request will use, as far as it is known."""
        ...

    def usage_of(self, reply: Completed) -> Usage:
        """What the answer used, as measured by the server, else as estimated."""
        ...

    def begin_step(self) -> None: ...

    @property
    def steering(self) -> list[str]:
        """The messages for the running turn that were not delivered yet, oldest first; whoever
        delivers one takes it off."""
        ...

    def take_notes(self) -> list[UserMessage]:
        """What the model must hear before the next request, to be recorded."""
        ...

    def take_news(self) -> list[str]:
        """What happened beside the turn that the model should hear of."""
        ...

    def stop_for(self, error: ModelError) -> StopTurn:
        """How a request that failed for good ends the turn."""
        ...

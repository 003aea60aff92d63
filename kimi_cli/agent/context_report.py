"""What fills the context window of a stored session: read-only and offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from kimi_cli.agent.branch import branch
from kimi_cli.agent.conversation import Source
from kimi_cli.agent.model_config import model_config
from kimi_cli.agent.projection import Projection
from kimi_cli.agent.spent import measured
from kimi_cli.model.catalogue import ModelInfo, lookup
from kimi_cli.model.codec import ChatEncoder, encode_tools
from kimi_cli.model.dialects import AUTO, DIALECTS, Dialect, recognise
from kimi_cli.model.pieces import Piece, pieces
from kimi_cli.model.tokenizer import LateCounter
from kimi_cli.model.tokens import MESSAGE_TOKENS, Counter, estimate, piece_tokens
from kimi_cli.protocol.events import (
    Compaction,
    DurableEvent,
    ModelChanged,
    SessionResumed,
    SessionStarted,
    Shrink,
)
from kimi_cli.protocol.messages import Usage
from kimi_cli.protocol.tools import ToolSchema
from kimi_cli.settings import Settings, is_trusted, load_settings
from kimi_cli.store.errors import SessionNotFound
from kimi_cli.store.events_file import read_session
from kimi_cli.store.index import find, latest

Kind = Literal[
    "system",
    "tools",
    "instructions",
    "pinned",
    "user",
    "program",
    "thinking",
    "answers",
    "calls",
    "results",
    "media",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
LARGEST = 5

_OF_PIECE: Mapping[str, Kind] = {
    "text": "answers",
    "thinking": "thinking",
    "call": "calls",
    "image": "media",
    "video": "media",
}
_OF_SOURCE: Mapping[str, Kind] = {
    "system": "system",
    "instructions": "instructions",
    "pinned": "pinned",
    "user": "user",
    "steer": "user",
    "program": "program",
    "tool": "results",
}


@dataclass(frozen=True, slots=True)
class Result:
    """A tool's result: the tool and what it worked on."""

    name: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Report:
    """What the next request of a session would have in it, in tokens.

    ``shares`` add up to ``tokens``. ``measured`` is the server's own count at the last request of
    this context, None where there was none yet; the shares are then as they were counted or
    guessed, else scaled to agree with it. ``since`` was added after that request's answer.
    ``exact`` says that the model's tokenizer counted. ``window`` 0: not known.
    """

    session: str
    model: str
    dialect: str
    window: int
    tokens: int
    measured: Usage | None
    since: int
    exact: bool
    shares: Mapping[Kind, int]
    largest: Sequence[Result]
    compactions: Sequence[Compaction]
    shrinks: Sequence[Shrink]

    def as_json(self) -> dict[str, Any]:
        """The report as it is documented in docs/context.md."""
        usage = self.measured
        return {
            "session": self.session,
            "model": self.model,
            "dialect": self.dialect,
            "window": self.window,
            "tokens": self.tokens,
            "measured": usage
            and {
                "input_tokens": usage.input_tokens,
                "cached_tokens": usage.cached_tokens,
                "output_tokens": usage.output_tokens,
            },
            "since": self.since,
            "counted_by": "tokenizer" if self.exact else "estimate",
            "shares": dict(self.shares),
            "largest_results": [{"name": r.name, "tokens": r.tokens} for r in self.largest],
            "compactions": [event.model_dump(mode="json") for event in self.compactions],
            "shrinks": [event.model_dump(mode="json") for event in self.shrinks],
        }


def stored_report(env: Mapping[str, str], home: Path, root: Path, wanted: str | None) -> Report:
    """The report of the session with the id (or the start of an id) ``wanted``, or of the last one
    of the project at ``root``. Takes no lock: the session may be in use. Raises SessionError,
    StoreError, SettingsError."""
    if wanted is None and (wanted := latest(home, root)) is None:
        raise SessionNotFound("there is no session of this project")
    folder = find(home, wanted, root)
    events = read_session(folder).events
    settings = load_settings(
        env=env, project_root=root, flags={}, trusted=is_trusted(home, root)
    ).settings
    begun = next((event for event in events if isinstance(event, SessionStarted)), None)
    if begun is None:
        raise SessionNotFound(f"session {folder.name} has no beginning")
    model, thinking = begun.model, begun.thinking
    for event in events:
        if isinstance(event, ModelChanged):
            model, thinking = event.model, event.thinking
    config = model_config(settings, model, thinking, "")
    info = config.given.over(lookup(model))
    counter = LateCounter(model, info.repository, config.tokenizer).load()
    return report(folder.name, events, begun, info, thinking, _dialect(events, settings), counter)


def report(
    session: str,
    events: Sequence[DurableEvent],
    begun: SessionStarted,
    info: ModelInfo,
    thinking: str,
    dialect: Dialect,
    counter: Counter | None = None,
) -> Report:
    """The report of a session's events."""
    events = branch(events)
    projection = Projection(lambda: ChatEncoder(dialect, info, thinking))
    for event in events[projection.load(events) :]:
        projection.feed(event)
    tools = encode_tools([ToolSchema(**tool) for tool in begun.tools]).decode()
    fixed = float(estimate(tools, counter)) if begun.tools else 0.0
    weights = [
        (source, _weigh(message, source, counter))
        for message, source in zip(projection.messages, projection.sources, strict=True)
    ]
    last = _last_measured(events)
    usage = measured(last) if last else None
    seen = last.seq if last else 0
    known = fixed + sum(sum(weight.values()) for source, weight in weights if source.seq <= seen)
    factor = usage.total_tokens / known if usage and known else 1.0
    exact: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
    exact["tools"] = fixed * factor
    for _, weight in weights:
        for kind, tokens in weight.items():
            exact[kind] += tokens * factor
    shares = _whole(exact)
    total = sum(shares.values())
    results = [
        Result(source.name, round(weight.get("results", 0) * factor))
        for source, weight in weights
        if source.kind == "tool"
    ]
    return Report(
        session=session,
        model=info.id,
        dialect=dialect.name,
        window=_window(events) or info.context,
        tokens=total,
        measured=usage,
        since=max(total - usage.total_tokens, 0) if usage else 0,
        exact=counter is not None,
        shares=shares,
        largest=sorted(results, key=lambda result: -result.tokens)[:LARGEST],
        compactions=[event for event in events if isinstance(event, Compaction)],
        shrinks=[event for event in events if isinstance(event, Shrink)],
    )


def _weigh(message: bytes, source: Source, counter: Counter | None) -> dict[Kind, float]:
    """The tokens of an encoded message by kind: what is really sent of it."""
    weight: dict[Kind, float] = {}
    for parts in pieces(message) or [[Piece("text", message.decode(errors="replace"))]]:
        around = float(MESSAGE_TOKENS)
        for part in parts:
            kind = _kind(part, source)
            weight[kind] = weight.get(kind, 0.0) + around + piece_tokens(part, counter)
            around = 0.0
    return weight


def _kind(part: Piece, source: Source) -> Kind:
    if part.kind in ("image", "video"):
        return "media"
    return _OF_SOURCE.get(source.kind) or _OF_PIECE[part.kind]


def _last_measured(events: Sequence[DurableEvent]) -> DurableEvent | None:
    """The last answer with a usage, unless another context has begun since."""
    for event in reversed(events):
        if isinstance(event, Compaction | Shrink):
            return None
        if measured(event):
            return event
    return None


def _whole(exact: Mapping[Kind, float]) -> dict[Kind, int]:
    """Whole numbers that add up to the rounded sum."""
    whole = {kind: int(tokens) for kind, tokens in exact.items()}
    missing = round(sum(exact.values())) - sum(whole.values())
    by_rest = sorted(exact, key=lambda kind: whole[kind] - exact[kind])
    for kind in by_rest[:missing]:
        whole[kind] += 1
    return whole


def _window(events: Sequence[DurableEvent]) -> int:
    """The window that held last, 0 where the session does not say."""
    said = (SessionStarted, SessionResumed, ModelChanged, Compaction, Shrink)
    windows = (event.window for event in reversed(events) if isinstance(event, said))
    return next((window for window in windows if window), 0)


def _dialect(events: Sequence[DurableEvent], settings: Settings) -> Dialect:
    """That of the endpoint which the session was with last; older sessions don't say."""
    said = (SessionStarted, SessionResumed, ModelChanged)
    names = [event.dialect for event in events if isinstance(event, said) and event.dialect]
    endpoint = settings.endpoint
    for name in (*names[-1:], endpoint.dialect):
        if name != AUTO and name in DIALECTS:
            return DIALECTS[name]
    return recognise(endpoint.base_url)

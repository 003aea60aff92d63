"""The answers a script is made of: what the model says and how the wire misbehaves meanwhile."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Arguments = Mapping[str, Any] | str
AUTO = "<auto>"
"""As a call's id: the server numbers it; as finish_reason: tool_calls or stop, what fits."""


@dataclass(frozen=True)
class Call:
    """One tool call; `arguments` is the JSON text as sent, id None leaves the id out."""

    name: str
    arguments: str
    id: str | None = AUTO


CallSpec = Call | tuple[str, Arguments] | tuple[str, Arguments, str | None]


@dataclass(frozen=True)
class Usage:
    """Token numbers; None lets the server count (bytes / 4)."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer to one request.

    Points in a stream (`*_after`) count SSE data events already sent: the first is the role
    chunk, then thinking, text, tool calls, finish, usage, [DONE]. 0 is after the HTTP headers,
    "headers" is before them, and a number beyond the end is the end.
    """

    thinking: str | None = None
    text: str | None = None
    calls: tuple[Call, ...] = ()
    empty_calls: bool = False
    """Send an empty list of tool calls."""
    finish_reason: str | None = AUTO
    """None: there is no finish chunk."""
    usage: Usage = Usage()
    usage_at: Literal["auto", "final", "choice", "both", "absent"] = "auto"
    """auto: hosted in choices[0], the others in a last chunk if stream_options asks for it."""
    reasoning_field: Literal["auto", "reasoning_content", "reasoning"] = "auto"
    done: bool = True

    fragments: int = 1
    thinking_fragments: int | None = None
    text_fragments: int | None = None
    argument_fragments: int | None = None
    """0: the arguments come in the same delta as the name."""
    name_fragments: int = 1
    split_seed: int | None = None
    """Cut into fragments of random instead of equal length."""
    interleave: bool = False
    """The deltas of parallel calls take turns."""
    grouped: bool = False
    """With interleave: the deltas of one turn share a chunk."""
    repeat_ids: bool = False
    """Each delta of a call carries its id."""

    http_chunk: int | None = None
    """Cut the bytes of each event into HTTP chunks of this size, mid-character too."""
    crlf: bool = False
    pings: bool = False
    """An SSE comment before each event."""
    headers: Mapping[str, str] = field(default_factory=dict)

    delay_headers: float = 0
    delay_first: float = 0
    delay_between: float = 0
    stall_after: int | Literal["headers"] | None = None
    """Go silent for ever from here."""
    stall_pings: float = 0
    """While stalled, send an SSE comment each so many seconds."""
    drop_after: int | Literal["headers"] | None = None
    drop: Literal["rst", "fin", "end"] = "rst"
    """TCP reset, TCP close, or a clean end of the HTTP body; none sends finish or [DONE]."""
    error_after: int | None = None
    error: Mapping[str, Any] = field(
        default_factory=lambda: {"type": "server_error", "message": "the engine died"}
    )
    malformed_after: int | None = None
    """Put a data line that is no JSON here, then go on."""

    status: int = 200
    content_type: str = "application/json"
    body: bytes | None = None
    """Not None: exactly this is the answer, streamed or not."""

    def but(self, **changes: Any) -> "Reply":
        """This reply with some fields changed."""
        return replace(self, **changes)


def text(content: str | None, *, thinking: str | None = None, **options: Any) -> Reply:
    """A text answer; the options are the fields of Reply."""
    return Reply(text=content, thinking=thinking, **options)


def tool_calls(
    calls: Sequence[CallSpec],
    *,
    thinking: str | None = None,
    text: str | None = None,
    **options: Any,
) -> Reply:
    """An answer with calls: (name, arguments) or (name, arguments, id), arguments dict or text."""
    return Reply(calls=tuple(map(call, calls)), thinking=thinking, text=text, **options)


def empty_tool_calls(**options: Any) -> Reply:
    """An answer that ends with `tool_calls` and an empty list of them."""
    return Reply(empty_calls=True, finish_reason="tool_calls", **options)


def json_answer(document: Any, status: int = 200, **options: Any) -> Reply:
    """A JSON document as the whole answer."""
    body = json.dumps(document, ensure_ascii=False).encode()
    return Reply(status=status, body=body, **options)


def http_error(
    status: int,
    type: str = "server_error",
    message: str = "scripted error",
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> Reply:
    """An HTTP error with Moonshot's error body."""
    document = {"error": {"type": type, "message": message}}
    return json_answer(document, status, headers=headers or {}, **options)


def raw(status: int, content_type: str, body: bytes, **options: Any) -> Reply:
    """Any bytes as the whole answer: a proxy's HTML, hand-made SSE."""
    return Reply(status=status, content_type=content_type, body=body, **options)


def call(spec: CallSpec) -> Call:
    """The Call that a spec means."""
    if isinstance(spec, Call):
        return spec
    arguments = spec[1]
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return Call(spec[0], arguments, spec[2] if len(spec) == 3 else AUTO)


def leaked(
    calls: Sequence[CallSpec],
    form: Literal["section", "singular", "bare", "k3", "k3-json"] = "section",
    first: int = 0,
) -> str:
    """The calls as the raw markers that a model leaks into its text.

    K2 forms: section (`tool_calls_section`), singular (`tool_call_section`), bare (no section),
    numbered from `first`; k3 writes typed arguments, k3-json one JSON block.
    """
    made = [call(spec) for spec in calls]
    if form in ("k3", "k3-json"):
        inner = "".join(_k3_call(one, number + 1, form) for number, one in enumerate(made))
        return f"<|open|>tools<|sep|>{inner}<|close|>tools<|sep|>"
    inner = "".join(_k2_call(one, first + number) for number, one in enumerate(made))
    if form == "bare":
        return inner
    section = "tool_calls_section" if form == "section" else "tool_call_section"
    return f"<|{section}_begin|>{inner}<|{section}_end|>"


def _k2_call(one: Call, number: int) -> str:
    name = f"functions.{one.name}:{number}" if one.id in (AUTO, None) else one.id
    return f"<|tool_call_begin|>{name}<|tool_call_argument_begin|>{one.arguments}<|tool_call_end|>"


def _k3_call(one: Call, number: int, form: str) -> str:
    if form == "k3-json":
        inner = f'<|open|>json type="object"<|sep|>{one.arguments}<|close|>json<|sep|>'
    else:
        inner = "".join(_k3_argument(k, v) for k, v in json.loads(one.arguments).items())
    head = f'<|open|>call tool="{one.name}" index="{number}"<|sep|>'
    return f"{head}{inner}<|close|>call<|sep|>"


def _k3_argument(key: str, value: Any) -> str:
    kinds = {str: "string", bool: "boolean", dict: "object", list: "array", type(None): "null"}
    kind = kinds.get(type(value), "number")
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f'<|open|>argument key="{key}" type="{kind}"<|sep|>{written}<|close|>argument<|sep|>'

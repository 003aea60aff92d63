"""Turns a Reply into what a server would write: SSE events, or one JSON completion. Pure."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from tests.support.replies import AUTO, Call, Reply

Flavour = Literal["hosted", "vllm", "openai"]
_CREATED = 1_760_000_000
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Moment:
    """What an answer depends on besides the Reply."""

    flavour: Flavour
    model: str
    number: int
    stream: bool
    include_usage: bool
    prompt_tokens: int
    cached_tokens: int
    next_call: int


def events(reply: Reply, moment: Moment) -> list[bytes]:
    """The SSE events of the answer, one element each, with their line ends."""
    documents = list(_chunks(reply, moment))
    lines = [dumps(document) for document in documents] + ["[DONE]"] * reply.done
    return [event(line, reply) for line in lines]


def event(line: str, reply: Reply) -> bytes:
    """One data line as an event in the reply's style."""
    end = "\r\n" if reply.crlf else "\n"
    comment = f": keep-alive{end}{end}" if reply.pings else ""
    return f"{comment}data: {line}{end}{end}".encode()


def completion(reply: Reply, moment: Moment) -> bytes:
    """The answer as one JSON document, for a request with "stream": false."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.thinking is not None:
        message[_reasoning_field(reply, moment)] = reply.thinking
    if reply.calls or reply.empty_calls:
        message["tool_calls"] = [
            _identified({"type": "function"}, _call_id(call, index, moment))
            | {"function": {"name": call.name, "arguments": call.arguments}}
            for index, call in enumerate(reply.calls)
        ]
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(reply)}
    document = _base(moment, "chat.completion") | {"choices": [choice]}
    if reply.usage_at != "absent":
        document["usage"] = _usage(reply, moment)
    return dumps(document).encode()


def split(whole: str, pieces: int, seed: int | None = None) -> list[str]:
    """The text in so many non-empty pieces (fewer if it is short), of random sizes with a seed."""
    pieces = max(1, min(pieces, len(whole)))
    if seed is None:
        cuts = [len(whole) * n // pieces for n in range(pieces)]
    else:
        cuts = [0, *sorted(random.Random(seed).sample(range(1, len(whole) or 1), pieces - 1))]
    return [whole[a:b] for a, b in zip(cuts, [*cuts[1:], len(whole)], strict=True)]


def _chunks(reply: Reply, moment: Moment) -> Iterator[dict[str, Any]]:
    base = _base(moment, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    if reply.thinking is not None:
        reasoning = _reasoning_field(reply, moment)
        for piece in _pieces(reply.thinking, reply.thinking_fragments, reply):
            yield chunk({reasoning: piece})
    if reply.text is not None:
        for piece in _pieces(reply.text, reply.text_fragments, reply):
            yield chunk({"content": piece})
    if reply.empty_calls:
        yield chunk({"tool_calls": []})
    for deltas in _call_chunks(reply, moment):
        yield chunk({"tool_calls": deltas})

    finish = _finish_reason(reply)
    places = _usage_places(reply, moment)
    if finish is not None or "choice" in places:
        last = chunk({}, finish)
        if "choice" in places:
            last["choices"][0]["usage"] = _usage(reply, moment)
        yield last
    if "final" in places:
        yield base | {"choices": [], "usage": _usage(reply, moment)}


def _pieces(whole: str, fragments: int | None, reply: Reply) -> list[str]:
    return split(whole, reply.fragments if fragments is None else fragments, reply.split_seed)


def _call_chunks(reply: Reply, moment: Moment) -> Iterator[list[dict[str, Any]]]:
    """The list of tool-call deltas of each chunk."""
    by_call = [_call_deltas(reply, moment, index) for index in range(len(reply.calls))]
    if not reply.interleave:
        yield from ([delta] for deltas in by_call for delta in deltas)
        return
    for turn in zip_longest(*by_call):
        present = [delta for delta in turn if delta is not None]
        yield from [present] if reply.grouped else ([delta] for delta in present)


def _call_deltas(reply: Reply, moment: Moment, index: int) -> list[dict[str, Any]]:
    call = reply.calls[index]
    identity = _call_id(call, index, moment)
    first, *names = split(call.name, reply.name_fragments)
    head = _identified({"index": index}, identity) | {"type": "function"}
    parts = [{"name": name} for name in names]
    if reply.argument_fragments == 0:
        head["function"] = {"name": first, "arguments": call.arguments}
    else:
        head["function"] = {"name": first, "arguments": ""}
        arguments = _pieces(call.arguments, reply.argument_fragments, reply)
        parts += [{"arguments": piece} for piece in arguments]
    common = _identified({"index": index}, identity if reply.repeat_ids else None)
    return [head, *(common | {"function": part} for part in parts)]


def _call_id(call: Call, index: int, moment: Moment) -> str | None:
    if call.id != AUTO:
        return call.id
    number = moment.next_call + index
    return f"call_{number}" if moment.flavour == "openai" else f"functions.{call.name}:{number}"


def _identified(delta: dict[str, Any], identity: str | None) -> dict[str, Any]:
    return delta if identity is None else delta | {"id": identity}


def _finish_reason(reply: Reply) -> str | None:
    if reply.finish_reason != AUTO:
        return reply.finish_reason
    return "tool_calls" if reply.calls else "stop"


def _reasoning_field(reply: Reply, moment: Moment) -> str:
    if reply.reasoning_field != "auto":
        return reply.reasoning_field
    return "reasoning" if moment.flavour == "vllm" else "reasoning_content"


def _usage_places(reply: Reply, moment: Moment) -> tuple[str, ...]:
    if reply.usage_at == "both":
        return ("choice", "final")
    if reply.usage_at != "auto":
        return (reply.usage_at,)
    if moment.flavour == "hosted":
        return ("choice",)
    return ("final",) if moment.include_usage else ()


def _usage(reply: Reply, moment: Moment) -> dict[str, Any]:
    said = [reply.thinking or "", reply.text or "", *(call.arguments for call in reply.calls)]
    given = reply.usage
    prompt = moment.prompt_tokens if given.prompt is None else given.prompt
    completion = sum(map(len, said)) // 4 + 1 if given.completion is None else given.completion
    cached = min(prompt, moment.cached_tokens) if given.cached is None else given.cached
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return usage | {"cached_tokens": cached} if moment.flavour == "hosted" else usage


def _base(moment: Moment, kind: str) -> dict[str, Any]:
    identity = f"chatcmpl-{moment.number}"
    return {"id": identity, "object": kind, "created": _CREATED, "model": moment.model}


def dumps(document: Any) -> str:
    """Compact JSON with characters as they are."""
    return _ENCODER.encode(document)

"""Scripts that go by what a request holds: any number of conversations can share one server."""

import json
from collections.abc import Callable
from typing import Any

from tests.support.recorded import Recorded, next_call_index
from tests.support.replies import Reply, text, tool_calls
from tests.support.worker import NOTE, asks_for_note

AnyScript = Callable[[int, Recorded], Reply]
_WORD = "considering "


def hi(fragments: int = 0) -> AnyScript:
    """Always "Hi.", after so many reasoning deltas."""
    reply = text("Hi.", **_thinking(fragments))
    return lambda index, request: reply


def prose(fragments: int, rate: float = 200.0) -> AnyScript:
    """A text of so many deltas, ``rate`` of them a second, in paragraphs with some markup."""
    words = "calm sea, bold hill, a leaf of lime and *a slim* branch; a cab, "
    paragraph = words * 8 + "`a.b()` is called.\n\n"
    whole = (paragraph * (fragments * 6 // len(paragraph) + 1))[: fragments * 6]
    reply = text(whole, text_fragments=fragments, delay_between=1 / rate)
    return lambda index, request: reply


def shell_steps(
    steps: int,
    fragments: int = 0,
    tool: str = "shell",
    arguments: str = '{"command": "echo step-STEP"}',
) -> AnyScript:
    """Call K of a conversation is `tool` with STEP in `arguments` replaced by K; after `steps`
    calls the answer is a text. Which call comes next is read off the request's tool results. Asked
    for a hand-off note it gives one."""
    json.loads(arguments)

    def reply(index: int, request: Recorded) -> Reply:
        if asks_for_note(request):
            return text(NOTE)
        step = next_call_index(request.raw)
        if step >= steps:
            return text(f"Done after {steps} steps.", **_thinking(fragments))
        filled = arguments.replace("STEP", str(step))
        call = (tool, filled, f"functions.{tool}:{step}")
        return tool_calls([call], **_thinking(fragments))

    return reply


def _thinking(fragments: int) -> dict[str, Any]:
    if not fragments:
        return {}
    return {"thinking": _WORD * fragments, "thinking_fragments": fragments}

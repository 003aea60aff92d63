"""A model whose answers are known beforehand, for a real vLLM: it makes the calls that it is asked
for, runs a command where it has a shell, and says hello else.

Each token alone decides the next one: a token's vector has a single number at a place of its own,
the layers add nothing to it, and the last matrix has a large number where that place and the next
token meet. The chat template chooses how an answer begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from kimi_cli.model.verify.cases import (
    CASES,
    CITIES,
    LOOK_UP,
    PARALLEL,
    RESTRAINT,
    STEP_RESULTS,
    STEPS,
    WEATHER,
    WORD,
)
from tests.support.tiny_model import (
    END_OF_MESSAGE,
    SPECIAL,
    Shape,
    bf16,
    count,
    padded,
    vocabulary_of,
    write_folder,
)

SHELL_OUTPUT = "from-the-tiny-model"
COMMAND = f"echo {SHELL_OUTPUT}"
"""What it runs where it is offered a shell and has no result yet."""
ANSWER = "Hello from the tiny model."
"""What it answers where nothing else is asked for."""
ENDLESS = "without an end"
"""Words in the last message that have it go on until it is cut off."""
_ON = ("On", " and", " on", " and")
_CHAT, _END = SPECIAL[: END_OF_MESSAGE + 1], SPECIAL[END_OF_MESSAGE]
_LOGIT = 8.0
"""Times the square root of the width, by the normalisation: certain at every temperature."""
_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
Call one as <tool_call>{"name": ..., "arguments": {...}}</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content or "" }}
{%- for call in message.tool_calls or [] %}
<tool_call>{{ {"name": call.function.name, "arguments": call.function.arguments} | tojson }}\
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}
{%- set last = messages[-1] %}
{%- set names = tools | default([], true) | map(attribute="function.name") | list %}
{%- set chosen = namespace(start="") %}
{%- for start, words, tool in CHOICES %}
{%- if not chosen.start and (not tool or tool in names) and words in (last.content or "") and
    (words or not tool or last.role != "tool") %}
{%- set chosen.start = start %}
{%- endif %}
{%- endfor %}<|im_start|>assistant
{{ chosen.start }}
{%- endif %}"""


class _Reply(NamedTuple):
    """An answer, given where the last message has `words` and the tool is offered."""

    words: str
    tool: str
    text: str


def write_scripted_model(folder: Path) -> Path:
    """Make the model in a new folder; returns it."""
    replies = _replies()
    starts = [f"<|begin_{place}|>" for place in range(len(replies))]
    follows = _follows(
        [start, *_cut(reply.text, place)]
        for place, (start, reply) in enumerate(zip(starts, replies, strict=True))
    )
    special = (*_CHAT, *starts)
    texts = tuple(token for token in follows if token not in special)
    words = vocabulary_of(special, texts)
    width = padded(len(words))
    # Of all that is divided among nodes there is an even number.
    shape = Shape(hidden=width, layers=1, heads=width // 32, kv_heads=2, inner=64)
    number = {word: place for place, word in enumerate(words)}
    # What no answer has ends it.
    after = [number[follows.get(word, _END)] for word in words]

    def weights(name: str, dimensions: tuple[int, ...]) -> bytes:
        if "norm" in name:
            return bf16(1.0) * count(dimensions)
        if name == "model.embed_tokens.weight":
            return _matrix(dimensions, ((place, place) for place in range(len(words))), 1.0)
        if name == "lm_head.weight":
            return _matrix(dimensions, ((then, place) for place, then in enumerate(after)), _LOGIT)
        return bytes(2 * count(dimensions))

    choices = [[start, *reply[:2]] for start, reply in zip(starts, replies, strict=True)]
    template = _TEMPLATE.replace("CHOICES", json.dumps(choices))
    return write_folder(folder, shape, weights, template, special, texts)


def _replies() -> list[_Reply]:
    """All that it can answer; the first one that suits is given."""
    (first, go_on), (second, word) = STEP_RESULTS
    look_up, weather = LOOK_UP.name, WEATHER.name
    return [
        _Reply(ENDLESS, "", ""),
        _Reply(RESTRAINT, "", "4"),
        _Reply(PARALLEL, weather, _calls(weather, *({"city": city} for city in CITIES))),
        _Reply(STEPS, look_up, _calls(look_up, {"number": first})),
        _Reply(go_on, look_up, _calls(look_up, {"number": second})),
        _Reply(word, look_up, f"It is {WORD}."),
        *(
            # The beginning tells the cases apart.
            _Reply(case.prompt[:60], case.tools[0].name, _calls(case.tools[0].name, case.want))
            for case in CASES
        ),
        _Reply("", look_up, _calls(look_up, {"number": 7})),
        _Reply("", "shell", _calls("shell", {"command": COMMAND})),
        _Reply("", "", ANSWER),
    ]


def _calls(name: str, *all_arguments: Mapping[str, Any]) -> str:
    """Calls as Hermes and Qwen write them."""
    calls = ({"name": name, "arguments": arguments} for arguments in all_arguments)
    texts = (json.dumps(call, ensure_ascii=False) for call in calls)
    return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)


def _cut(text: str, place: int) -> list[str]:
    """An answer as tokens, cut elsewhere in each, so that no two share one: within tags, words,
    and names too."""
    if not text:
        return list(_ON)
    if not text.startswith("<"):
        return [*text.replace(" ", "\0 ").split("\0"), _END]
    head, tail = 4 + place, len(text) - 2 - place
    middle = (head + tail) // 2
    return [text[:head], text[head:middle], text[middle:tail], text[tail:], _END]


def _follows(answers: Iterable[list[str]]) -> dict[str, str]:
    """Which token comes after each; AssertionError where that depends on more than the token."""
    found: dict[str, str] = {}
    for answer in answers:
        for token, then in pairwise(answer):
            assert found.setdefault(token, then) == then, f"{token!r} can't decide what follows"
    return found


def _matrix(dimensions: tuple[int, ...], places: Iterable[tuple[int, int]], value: float) -> bytes:
    """Zeros but for one value at some places, as (row, column)."""
    values = bytearray(2 * count(dimensions))
    for row, column in places:
        at = 2 * (row * dimensions[1] + column)
        values[at : at + 2] = bf16(value)
    return bytes(values)

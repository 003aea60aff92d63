"""A model whose answers are known beforehand, for a real vLLM: it calls tools, and then says hello.

Each token alone decides the next one: a token's vector has a single number at a place of its own,
the layers add nothing to it, and the last matrix has a large number where that place and the next
token meet. The chat template chooses how an answer begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

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
CALLS: Mapping[str, Mapping[str, Any]] = {
    "look_up": {"number": 7},
    "get_weather": {"city": "Paris"},
    "shell": {"command": f"echo {SHELL_OUTPUT}"},
}
"""What it calls where a tool of that name is offered, and the last message is no tool's result."""
PLAIN = ("Hello", " from", " the", " tiny", " model.")
ANSWER = "".join(PLAIN)
"""What it answers else."""
ENDLESS = "without an end"
"""Words in the last message that have it go on until it is cut off."""
_ON = ("On", " and", " on", " and")
_CHAT, _END = SPECIAL[: END_OF_MESSAGE + 1], SPECIAL[END_OF_MESSAGE]
_LOGIT = 8.0
"""Times the square root of the width, by the normalisation: certain at every temperature."""
_START = "<|{}_begins|>"
TEMPLATE = """\
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
{%- set answer = namespace(kind="plain") %}
{%- if last.content and "ENDLESS" in last.content %}
{%- set answer.kind = "endless" %}
{%- elif last.role != "tool" %}
{%- for tool in tools or [] if tool.function.name in CALLS %}
{%- set answer.kind = tool.function.name %}
{%- endfor %}
{%- endif %}<|im_start|>assistant
<|{{ answer.kind }}_begins|>
{%- endif %}"""


def write_scripted_model(folder: Path) -> Path:
    """Make the model in a new folder; returns it."""
    answers = {"plain": (*PLAIN, _END), "endless": _ON}
    answers |= {name: (*_pieces(name), _END) for name in CALLS}
    starts = {_START.format(kind): pieces for kind, pieces in answers.items()}
    follows = _follows([start, *pieces] for start, pieces in starts.items())
    special = (*_CHAT, *starts)
    texts = tuple(dict.fromkeys(piece for piece in follows if piece not in special))
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

    template = TEMPLATE.replace("ENDLESS", ENDLESS).replace("CALLS", json.dumps(list(CALLS)))
    return write_folder(folder, shape, weights, template, special, texts)


def _pieces(name: str) -> Iterator[str]:
    """A call as Hermes and Qwen write it, in tokens that end within words and names."""
    arguments = json.dumps(CALLS[name])
    middle = len(arguments) // 2
    yield f'<tool_call>\n{{"name": "{name}", "argu'
    yield f'ments": {arguments[:middle]}'
    yield arguments[middle:]
    yield "}\n"
    yield "</tool_call>"


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

"""Assembly of answers from chunks of every shape."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.model.assemble import Assembler, read_usage
from kimi_cli.protocol.messages import TextPart, ThinkingPart, ToolCallPart, Usage
from kimi_cli.protocol.provider import Completed, TextDelta, ThinkingDelta, ToolCallDelta

KNOWN = ("shell", "read", "read_file")


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def calls(*deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [chunk(tool_calls=[delta]) for delta in deltas] + [chunk("tool_calls")]


def piece(
    name: str | None = None, arguments: Any = None, id: str | None = None, index: Any = 0
) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    delta = {"index": index, "id": id, "function": function}
    return {key: value for key, value in delta.items() if value is not None}


def run(chunks: list[dict[str, Any]], first_index: int = 0) -> tuple[list[Any], Completed]:
    assembler = Assembler(KNOWN, first_index)
    deltas = [delta for one in chunks for delta in assembler.chunk(one)]
    deltas += assembler.end()
    return deltas, assembler.completed()


def call(id: str, name: str, arguments: str) -> ToolCallPart:
    return ToolCallPart(id=id, name=name, arguments=arguments)


A, B = '{"command":"ls"}', '{"path":"x"}'


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([piece("shell", A, "a")], [call("a", "shell", A)]),
        (
            [piece("shell", "", "a"), piece(None, A[:5]), piece(None, A[5:])],
            [call("a", "shell", A)],
        ),
        # Parallel, one after the other and in turns.
        (
            [piece("shell", A, "a", 0), piece("read", B, "b", 1)],
            [call("a", "shell", A), call("b", "read", B)],
        ),
        (
            [
                piece("shell", None, "a", 0),
                piece("read", None, "b", 1),
                piece(None, A[:4], None, 0),
                piece(None, B[:4], None, 1),
                piece(None, A[4:], None, 0),
                piece(None, B[4:], None, 1),
            ],
            [call("a", "shell", A), call("b", "read", B)],
        ),
        # The id and the name in every delta.
        (
            [piece("shell", A[:4], "a"), piece("shell", A[4:], "a")],
            [call("a", "shell", A)],
        ),
        ([piece("shell", "", "a"), piece("shell", A, "a")], [call("a", "shell", A)]),
        # The name in pieces, growing, and with a known longer name.
        ([piece("sh", None, "a"), piece("ell"), piece(None, A)], [call("a", "shell", A)]),
        ([piece("sh", None, "a"), piece("shell"), piece(None, A)], [call("a", "shell", A)]),
        ([piece("read", None, "a"), piece("_file"), piece(None, B)], [call("a", "read_file", B)]),
        # No index.
        (
            [
                piece("shell", A[:4], "a", None),
                piece(None, A[4:], None, None),
                piece("read", B, "b", None),
            ],
            [call("a", "shell", A), call("b", "read", B)],
        ),
        (
            [piece("shell", A, None, None), piece("read", B, None, None)],
            [call("functions.shell:7", "shell", A), call("functions.read:8", "read", B)],
        ),
        (
            [
                piece("shell", A[:4], "a", None),
                piece("read", B[:4], "b", None),
                piece(None, A[4:], "a", None),
                piece(None, B[4:], "b", None),
            ],
            [call("a", "shell", A), call("b", "read", B)],
        ),
        # Every call has index 0.
        (
            [piece("shell", A, "a", 0), piece("read", B[:3], "b", 0), piece(None, B[3:], None, 0)],
            [call("a", "shell", A), call("b", "read", B)],
        ),
        # Odd indexes.
        (
            [piece("shell", A, "a", "1"), piece("read", B, "b", 5)],
            [call("a", "shell", A), call("b", "read", B)],
        ),
        # No ids, duplicate ids.
        (
            [piece("shell", A, None, 0), piece("shell", A, None, 1)],
            [call("functions.shell:7", "shell", A), call("functions.shell:8", "shell", A)],
        ),
        (
            [piece("shell", A, "a", 0), piece("read", B, "a", 1), piece("read", B, "a", 2)],
            [call("a", "shell", A), call("a:1", "read", B), call("a:2", "read", B)],
        ),
        (
            [piece("shell", A, "functions.shell:3", 0), piece("shell", B, "functions.shell:3", 1)],
            [call("functions.shell:3", "shell", A), call("functions.shell:4", "shell", B)],
        ),
        # Arguments as an object, no arguments, the name as the model wrote it.
        ([piece("shell", {"command": "é"}, "a")], [call("a", "shell", '{"command": "é"}')]),
        ([piece("shell", None, "a")], [call("a", "shell", "")]),
        ([piece("functions.shell:3", A, "a")], [call("a", "functions.shell:3", A)]),
        # Rubbish is passed over.
        (
            [{"index": 0, "function": None, "id": 3}, piece("shell", A, "a")],
            [call("a", "shell", A)],
        ),
    ],
)
def test_tool_calls(deltas: list[dict[str, Any]], expected: list[ToolCallPart]) -> None:
    told, answer = run(calls(*deltas), first_index=7)
    assert list(answer.parts) == expected
    # The pieces that were told while it streamed add up to the same.
    for place, part in enumerate(expected):
        pieces = [one for one in told if isinstance(one, ToolCallDelta) and one.index == place]
        assert "".join(one.name for one in pieces) == part.name
        assert "".join(one.arguments for one in pieces) == part.arguments


def test_thinking_text_and_order() -> None:
    told, answer = run(
        [
            {"id": "r1", "model": "m", **chunk(role="assistant", content="")},
            chunk(reasoning_content="th"),
            chunk(reasoning="ink"),
            chunk(content="te"),
            chunk(content=[{"type": "text", "text": "xt"}]),
            chunk(reasoning_content="again", reasoning="again"),
            chunk("stop"),
        ]
    )
    assert answer.parts == (
        ThinkingPart(text="think"),
        TextPart(text="text"),
        ThinkingPart(text="again"),
    )
    assert told == [
        ThinkingDelta("th"),
        ThinkingDelta("ink"),
        TextDelta("te"),
        TextDelta("xt"),
        ThinkingDelta("again"),
    ]
    assert (answer.finish_reason, answer.model, answer.response_id) == ("stop", "m", "r1")


def test_a_whole_completion_is_one_chunk() -> None:
    message = {"role": "assistant", "content": "hi", "tool_calls": [piece("shell", A, "a", None)]}
    document = {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": {}}
    assert run([document])[1].parts == (TextPart(text="hi"), call("a", "shell", A))


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": ["x"]},
        {"choices": [{}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": None, "tool_calls": None}}]},
        {"choices": [{"delta": {"content": 5, "tool_calls": ["x", {}], "reasoning": 3}}]},
    ],
)
def test_odd_chunks_do_no_harm(odd: dict[str, Any]) -> None:
    answer = run([odd, chunk(content="x"), chunk("stop")])[1]
    assert TextPart(text="x") in answer.parts


@pytest.mark.parametrize(
    ("data", "usage"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4}, Usage(input_tokens=9, output_tokens=4)),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": 5},
            Usage(input_tokens=9, output_tokens=4, cached_tokens=5),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 6},
            },
            Usage(input_tokens=9, output_tokens=4, cached_tokens=6),
        ),
        ({"prompt_tokens": None, "prompt_tokens_details": None}, Usage()),
    ],
)
def test_usage(data: dict[str, Any], usage: Usage) -> None:
    assert read_usage(data) == usage
    assert run([{"choices": [{"usage": data}]}])[1].usage == usage
    assert run([{"choices": [], "usage": data}])[1].usage == usage


def test_leaked_calls_are_recovered_once() -> None:
    leaked = f"<|tool_call_begin|>functions.shell:4<|tool_call_argument_begin|>{A}<|tool_call_end|>"
    told, answer = run([chunk(content="x" + leaked), chunk("stop")])
    assert answer.parts == (TextPart(text="x"), call("functions.shell:4", "shell", A))
    assert answer.salvaged == 1
    assert told[-1] == ToolCallDelta(0, "shell", A)
    # A server that both parses and leaks it means one call.
    answer = run([chunk(reasoning=leaked), *calls(piece("shell", A, "a"))])[1]
    assert answer.parts == (call("a", "shell", A),)
    assert answer.salvaged == 0


def test_a_leaked_call_that_was_cut_off_is_counted() -> None:
    answer = run([chunk(content="<|tool_call_begin|>functions.shell:4<|tool_call_argument")])[1]
    assert (answer.parts, answer.lost) == ((), 1)


@given(st.integers(0, 2**32), st.integers(1, 4), st.booleans())
def test_any_split_of_the_calls_gives_the_same(seed: int, count: int, repeat: bool) -> None:
    chance = random.Random(seed)
    whole = [(f"id{n}", chance.choice(KNOWN), json.dumps({"n": "x" * n})) for n in range(count)]
    queues = []
    for index, (identity, name, arguments) in enumerate(whole):
        cuts = sorted(chance.sample(range(len(arguments) + 1), chance.randint(0, 4)))
        pieces = [arguments[a:b] for a, b in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
        queue = [piece(name, "", identity, index)]
        queue += [piece(None, one, identity if repeat else None, index) for one in pieces]
        queues.append(queue)
    deltas = [queue.pop(0) for queue in queues]
    while any(queues):
        deltas.append(chance.choice([queue for queue in queues if queue]).pop(0))
    assert list(run(calls(*deltas))[1].parts) == [call(*one) for one in whole]

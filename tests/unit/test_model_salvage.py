"""Recovery of tool calls from leaked markers."""

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kimi_cli.model.salvage import Leaked, Salvager

BEGIN = "<|tool_calls_section_begin|>"
END = "<|tool_calls_section_end|>"
CALL = "<|tool_call_begin|>"
ARGS = "<|tool_call_argument_begin|>"
STOP = "<|tool_call_end|>"
K3 = "<|open|>tools<|sep|>"
K3_END = "<|close|>tools<|sep|>"


def call(name: str = "functions.shell:0", arguments: str = '{"command": "ls"}') -> str:
    return f"{CALL}{name}{ARGS}{arguments}{STOP}"


def run(text: str, cuts: list[int] | None = None) -> tuple[str, list[Leaked], int]:
    salvager = Salvager()
    places = sorted({min(cut, len(text)) for cut in cuts or []} | {0, len(text)})
    shown = "".join(salvager.feed(text[a:b]) for a, b in itertools.pairwise(places))
    return shown + salvager.finish(), salvager.calls, salvager.lost


SHELL = Leaked("functions.shell:0", '{"command": "ls"}')


@pytest.mark.parametrize(
    ("text", "shown", "calls", "lost"),
    [
        ("plain text, a < b, <|x|> and <|tool", "plain text, a < b, <|x|> and <|tool", [], 0),
        (f"Let me look.{BEGIN}{call()}{END}", "Let me look.", [SHELL], 0),
        (
            f"a{BEGIN}\n{call()}\n{call('functions.read:1', '{}')}\n{END}b",
            "ab",
            [SHELL, Leaked("functions.read:1", "{}")],
            0,
        ),
        (
            f"a<|tool_call_section_begin|>{call()}<|tool_call_section_end|>b",
            "ab",
            [SHELL],
            0,
        ),
        (f"bare: {call()} and on", "bare: and on", [SHELL], 0),
        (f"{BEGIN}{CALL}functions.shell:0" + '{"command": "ls"}' + STOP + END, "", [SHELL], 0),
        (f"{BEGIN}{CALL} functions.shell:0 {ARGS}" + '{"command": "ls"}' + END, "", [SHELL], 0),
        (
            f"a{BEGIN}{call()}tail without the section's end",
            "atail without the section's end",
            [SHELL],
            0,
        ),
        (f"a{END}b{STOP}c", "abc", [], 0),
        # Cut off: whole JSON is a call, half of it is not, half a name neither.
        (f"{BEGIN}{CALL}functions.shell:0{ARGS}" + '{"command": "ls"}', "", [SHELL], 0),
        (f"{BEGIN}{CALL}functions.shell:0{ARGS}" + '{"comm', "", [], 1),
        (f"{BEGIN}{CALL}functions.sh", "", [], 1),
        (f"{BEGIN}{call()}<|tool_ca", "", [SHELL], 0),
        # Closed but malformed arguments are a call: the model hears what is wrong with it.
        (f"{CALL}x{ARGS}" + '{"a": }' + STOP, "", [Leaked("x", '{"a": }')], 0),
        (
            f"{CALL}x{ARGS}" + '{"a": "never closed}' + f"{STOP} and text",
            "and text",
            [Leaked("x", '{"a": "never closed}')],
            0,
        ),
        # Markers inside a JSON string are content.
        (
            call("write", json.dumps({"text": f"about {STOP} and {CALL}"})),
            "",
            [Leaked("write", json.dumps({"text": f"about {STOP} and {CALL}"}))],
            0,
        ),
        # Talk about markers.
        (f"The token `{CALL}` starts a call.", f"The token `{CALL}` starts a call.", [], 0),
        (f"```\n{BEGIN}{call()}{END}\n```\nx", f"```\n{BEGIN}{call()}{END}\n```\nx", [], 0),
        (f"```\ncode\n```\n{BEGIN}{call()}{END}", "```\ncode\n```\n", [SHELL], 0),
        (f"It writes {CALL} before a call.", "It writes  before a call.", [], 0),
        (f"It writes {BEGIN} there.", "It writes there.", [], 0),
        (f"{CALL}{'x' * 300}{ARGS}" + "{}" + STOP, "x" * 300 + "{}", [], 0),
        # K3.
        (
            f'On it.{K3}<|open|>call tool="a&amp;b" index="1"<|sep|>'
            '<|open|>argument key="city" type="string"<|sep|> New York <|close|>argument<|sep|>'
            '<|open|>argument key="n" type="number"<|sep|>2<|close|>argument<|sep|>'
            f"<|close|>call<|sep|>{K3_END}<|close|>message<|sep|>",
            "On it.",
            [Leaked("a&b", '{"city": " New York ", "n": 2}')],
            0,
        ),
        (
            f'{K3}<|open|>call tool="x" index="1"<|sep|><|open|>json type="object"<|sep|>'
            '{"a": 1}<|close|>json<|sep|><|close|>call<|sep|>' + K3_END,
            "",
            [Leaked("x", '{"a": 1}')],
            0,
        ),
        (
            f'{K3}<|open|>call tool="x" index="1"<|sep|><|open|>json type="object"<|sep|>'
            '{"a": 1}<|close|>json<|sep|>',
            "",
            [Leaked("x", '{"a": 1}')],
            0,
        ),
        (f'{K3}<|open|>call tool="x" index="1"<|sep|><|open|>argument key="a"', "", [], 1),
        (f'{K3}<|open|>call tool="x" index="1"<|sep|>{K3_END}b', "b", [Leaked("x", "{}")], 0),
        ("<|close|>think<|sep|><|open|>response<|sep|>Hi", "Hi", [], 0),
        (f"{K3}no call", "no call", [], 0),
        ("<|open|>call of the wild", "of the wild", [], 0),
    ],
)
def test_what_is_shown_and_what_is_found(
    text: str, shown: str, calls: list[Leaked], lost: int
) -> None:
    assert run(text) == (shown, calls, lost)
    assert run(text, list(range(len(text)))) == (shown, calls, lost)


_PIECES = st.sampled_from(
    [
        BEGIN,
        END,
        "<|tool_call_section_begin|>",
        CALL,
        ARGS,
        STOP,
        K3,
        K3_END,
        '<|open|>call tool="x" index="1"<|sep|>',
        "<|close|>call<|sep|>",
        "<|close|>think<|sep|>",
        '<|open|>argument key="k" type="number"<|sep|>',
        "<|close|>argument<|sep|>",
        "<|open|>call ",
        "functions.a:0",
        '{"a": "b"}',
        '{"a": "',
        '"}',
        "{",
        "\\",
        '"',
        "`",
        "```\n",
        "\n",
        " ",
        "<",
        "<|",
        "|>",
        "text",
        "漢",
        "x" * 260,
        "<|tool_c",
    ]
)


@given(st.lists(_PIECES, max_size=14).map("".join), st.lists(st.integers(0, 400), max_size=12))
@example(f"{CALL}{'y' * 255}{ARGS}", [275, 276, 280])
def test_the_cuts_never_matter(text: str, cuts: list[int]) -> None:
    assert run(text, cuts) == run(text)
    assert run(text, list(range(len(text)))) == run(text)


@given(st.text(alphabet=st.sampled_from('ab<|>_tol{}"`\n 漢'), max_size=60))
def test_text_without_markers_passes_unchanged_and_promptly(text: str) -> None:
    salvager = Salvager()
    shown = ""
    for place, char in enumerate(text, 1):
        shown += salvager.feed(char)
        held = text[len(shown) : place]
        assert text.startswith(shown)
        assert held == "" or any(marker.startswith(held) for marker in (BEGIN, CALL, K3, K3_END))
    assert shown + salvager.finish() == text

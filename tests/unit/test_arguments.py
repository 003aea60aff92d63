"""Tool call arguments: what runs, what is told to the model, what is sent back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.agent.arguments import MAX_ARGUMENT_BYTES, BadArguments, parse_arguments, sendable


def test_no_arguments_are_an_empty_object() -> None:
    assert parse_arguments(" ") == {}
    assert sendable("") == "{}"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ('{"path": "a', "not valid JSON"),
        ("[1]", "an array"),
        ("true", "a boolean"),
        ("null", "null"),
        ("3", "a number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": "' + "x" * MAX_ARGUMENT_BYTES + '"}', "too large"),
    ],
)
def test_unusable_arguments_are_explained_and_never_sent(raw: str, says: str) -> None:
    with pytest.raises(BadArguments, match=says):
        parse_arguments(raw)
    assert sendable(raw) is None


def test_raw_control_characters_are_accepted_and_sent_escaped() -> None:
    raw = '{"command": "a\nb"}'
    assert parse_arguments(raw) == {"command": "a\nb"}
    assert json.loads(sendable(raw) or "") == {"command": "a\nb"}


@given(st.text(max_size=40))
def test_what_is_sent_is_always_an_object(raw: str) -> None:
    sent = sendable(raw)
    assert sent is None or isinstance(json.loads(sent), dict)


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_sound_arguments_are_sent_as_they_are(value: dict[str, object]) -> None:
    raw = json.dumps(value)
    assert sendable(raw) == raw

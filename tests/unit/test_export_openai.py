"""The messages of an exported session are what a strict endpoint takes, and the whole history."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings

from kimi_cli.agent.conversation import NEVER_RAN, UNKNOWN_RESULT
from kimi_cli.frontends.export import export
from kimi_cli.protocol.events import (
    Compaction,
    DurableEvent,
    Instructions,
    Rewind,
    ToolStarted,
)
from kimi_cli.protocol.messages import MediaPart, TextPart, ThinkingPart
from tests.support.sse import Flavour
from tests.support.validate import Rules, problems
from tests.unit.export_sessions import (
    PIXEL,
    TOOL,
    answer,
    call,
    everywhere,
    histories,
    hostile,
    numbered,
    result,
    started,
    user,
)

# Models that take images: an export keeps them all.
CASES = [("hosted", "kimi-k2.5"), ("openai", "some-model")]
RULES = Rules(models=None, api_key=None, native_ids=False)


def exported(events: Sequence[DurableEvent]) -> dict[str, Any]:
    text = export(numbered(events), "openai", title="", session="s")
    return cast(dict[str, Any], json.loads(text.encode()))


@pytest.mark.parametrize(("flavour", "model"), CASES)
@settings(max_examples=100, deadline=None)
@given(history=histories)
def test_every_history_is_a_valid_request(
    flavour: str, model: str, history: list[DurableEvent]
) -> None:
    document = exported([started(model), *history])
    # A rewind to before the first event or a change of model may come with the history.
    document["model"] = model
    assert problems(document, cast(Flavour, flavour), rules=RULES) == []


@settings(max_examples=60, deadline=None)
@given(text=hostile)
def test_any_text_makes_valid_json_and_messages(text: str) -> None:
    document = json.loads(export(everywhere(text, text), "openai", title=text, session=text))
    del document["tools"]  # Their names and schemas are the session's own, sent as they were.
    document["model"] = "some-model"
    assert problems(document, "openai", rules=RULES) == []


def test_the_document() -> None:
    thought = answer(ThinkingPart(text="Hm."), TextPart(text="Let me look."), call(0))
    document = exported(
        [
            started(),
            Instructions(files=[], text="Use tabs."),
            user("look", MediaPart(kind="image", url=PIXEL)),
            thought,
            result(0, TextPart(text="a file"), MediaPart(kind="image", url=PIXEL)),
            answer(TextPart(text="Done.")),
        ]
    )
    picture = {"type": "image_url", "image_url": {"url": PIXEL}}
    arguments = {"name": "shell", "arguments": '{"command": "ls"}'}
    assert document == {
        "model": "kimi-k2.5",
        "messages": [
            {"role": "system", "content": "Be good."},
            {"role": "user", "content": "Use tabs."},
            {"role": "user", "content": [{"type": "text", "text": "look"}, picture]},
            {
                "role": "assistant",
                "reasoning_content": "Hm.",
                "content": "Let me look.",
                "tool_calls": [
                    {"id": "functions.shell:0", "type": "function", "function": arguments}
                ],
            },
            {"role": "tool", "tool_call_id": "functions.shell:0", "content": "a file"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Media from the result of shell:"},
                    picture,
                ],
            },
            {"role": "assistant", "content": "Done."},
        ],
        "tools": [{"type": "function", "function": TOOL}],
    }


def test_calls_without_a_result_get_one() -> None:
    document = exported(
        [
            started(),
            user("go"),
            answer(call(0), call(1)),
            ToolStarted(call_id="functions.shell:0", name="shell"),
        ]
    )
    assert [m["content"] for m in document["messages"][-2:]] == [UNKNOWN_RESULT, NEVER_RAN]


def test_a_compaction_hides_nothing() -> None:
    before: list[DurableEvent] = [
        started(),
        user("first words"),
        answer(TextPart(text="first answer")),
    ]
    compaction = Compaction(upto=3, note="a note", pinned=[TextPart(text="pinned")])
    document = exported([*before, compaction, user("second words")])
    contents = [message["content"] for message in document["messages"]]
    assert contents == ["Be good.", "first words", "first answer", "second words"]


def test_what_a_rewind_took_back_is_left_out() -> None:
    wrong: list[DurableEvent] = [user("wrong"), answer(TextPart(text="wrong too"))]
    document = exported([started(), user("right"), *wrong, Rewind(to=2), user("better")])
    contents = [message["content"] for message in document["messages"]]
    assert contents == ["Be good.", "right", "better"]


def test_reasoning_stands_where_the_endpoint_wants_it() -> None:
    events: list[DurableEvent] = [
        user("go"),
        answer(call(0)),
        result(0),
        answer(TextPart(text="Done.")),
    ]
    thinks = exported([started("kimi-k2.5"), *events])["messages"]
    assert [message.get("reasoning_content") for message in thinks] == [None, None, "", None, None]
    plain = exported([started("some-model"), *events])["messages"]
    assert not any("reasoning_content" in message for message in plain)


def test_a_medium_that_is_gone_is_told() -> None:
    lost = MediaPart(kind="image", url="blobs/gone", name="shot.png")
    messages = exported([started(), user("look", lost)])["messages"]
    told = "look\n\n[image shot.png is not in the session any more]"
    assert messages[-1] == {"role": "user", "content": told}


def test_no_tools_no_field() -> None:
    begun = started().model_copy(update={"tools": []})
    assert "tools" not in exported([begun, user("hi")])


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="md, openai, html"):
        export([], "pdf", title="", session="s")

"""Where a conversation is cut, and what the message that stands for the rest holds."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.agent.clip import shorten
from kimi_cli.agent.compaction import Cut, Pins, cut
from kimi_cli.agent.conversation import Kind, Source
from kimi_cli.agent.digest import digest
from kimi_cli.agent.facts import Facts, Said
from kimi_cli.agent.window import answer_room, shares, trigger
from kimi_cli.model.tokens import estimate
from kimi_cli.protocol.events import AssistantMessage, ToolResult, UserMessage
from kimi_cli.protocol.messages import TextPart
from kimi_cli.protocol.workspace import FileTouch

words = st.text(st.sampled_from("ab 日\n*#"), max_size=300)


@st.composite
def conversations(draw: st.DrawFn) -> list[Source]:
    """The sources of a conversation whose steps are whole."""
    kinds: list[Kind] = ["system"]
    kinds += draw(st.sampled_from([[], ["instructions"], ["pinned"], ["instructions", "pinned"]]))
    for _ in range(draw(st.integers(0, 8))):
        kinds.append(draw(st.sampled_from(["user", "steer", "program"])))
        for _ in range(draw(st.integers(0, 4))):
            kinds += ["assistant", *["tool"] * draw(st.integers(0, 3))]  # type: ignore[list-item]
    return [Source(kind, number * 2 + 1) for number, kind in enumerate(kinds)]


@settings(max_examples=300)
@given(
    conversations(), st.lists(st.integers(1, 500), min_size=200, max_size=200), st.integers(0, 3000)
)
def test_a_cut_is_never_between_a_call_and_its_result(
    sources: list[Source], many: list[int], budget: int
) -> None:
    sizes = many[: len(sources)]
    looked: list[int] = []

    def size(index: int) -> int:
        looked.append(index)
        return sizes[index]

    where = cut(sources, size, budget, last=999)
    # What is far back costs nothing: a long context is not weighed for a cut.
    fitting = sum(total <= budget for total in accumulate(reversed(sizes)))
    assert len(looked) <= 1 + fitting
    assert cut(sources, sizes.__getitem__, 0, 999, running=False).index == len(sources)
    tail = sources[where.index :]
    if not tail:
        assert where.upto == 999
        # A step that runs is never cut off.
        assert not any(s.kind == "tool" for s in sources[-1:])
        return
    assert tail[0].kind in ("user", "steer", "assistant")
    assert where.upto == tail[0].seq - 1
    assert all(source.seq <= where.upto for source in sources[: where.index])
    assert where.kept == sum(source.kind == "assistant" for source in tail)
    if sum(sizes[where.index :]) > budget:
        # Only the step that runs may be larger than what it may take.
        assert [s.kind for s in tail].count("assistant") == 1
        assert tail[0].kind == "assistant"


def pins(kept: dict[str, str]) -> Pins:
    def spill(name: str, text: str) -> str:
        path = f"/outputs/{name}-{len(kept)}.txt"
        kept[path] = text
        return path

    return Pins(estimate, lambda path: path, spill)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(words | st.sampled_from(["x " * 5000, "long 日本 " * 3000]), max_size=12),
    st.lists(words.filter(str.strip), max_size=5),
    st.integers(2_000, 200_000),
)
def test_what_is_pinned_is_there_and_bounded(
    messages: list[str], notes: list[str], window: int
) -> None:
    facts = Facts(said=[Said(number, text) for number, text in enumerate(messages, 1)])
    for number, name in enumerate(notes):
        facts.changed[f"/w/{number}/{name[:40]}"] = "created"
    kept: dict[str, str] = {}
    share = shares(window, 500, 20_000)
    where = Cut(3, 100, 2, 5)
    note = "I was here. " * 5_000
    pinned = pins(kept).write(facts, where, share, note, mechanical=False)
    text = "".join(part.text for part in pinned.parts if isinstance(part, TextPart))
    assert all(must in text for must in pinned.musts)
    assert pinned.kept.user_messages == len(messages)
    assert estimate(text) < share.said + share.note + share.files + 4_000
    for message in messages:
        inside = message in text
        assert inside or any(message in spilled for spilled in kept.values())
    for path in (messages and pinned.kept.spilled) or []:
        assert path in text
    if messages and estimate(messages[-1]) <= share.message:
        assert messages[-1] in text
    if messages and estimate(messages[0]) <= share.message:
        assert messages[0] in text


def test_messages_that_came_after_the_cut_are_not_repeated() -> None:
    facts = Facts(said=[Said(1, "old words"), Said(50, "new words")])
    pinned = pins({}).write(
        facts, Cut(3, 49, 1, 1), shares(64_000, 0, 20_000), "a note", mechanical=True
    )
    assert isinstance(pinned.parts[0], TextPart)
    assert "old words" in pinned.parts[0].text
    assert "new words" not in pinned.parts[0].text
    assert "made by the program" in pinned.parts[0].text


def _result(path: str, action: str, name: str = "write", **data: object) -> ToolResult:
    files = [FileTouch.model_validate({"path": path, "action": action})] if path else []
    return ToolResult(call_id="c", name=name, status="ok", parts=[], files=files, data=data)


def test_facts_of_files_and_todos() -> None:
    facts = Facts()
    facts.note(_result("/a", "created"))
    facts.note(_result("/b", "read"))
    facts.note(_result("/a", "modified"))
    facts.note(_result("/a", "read"))
    facts.note(_result("/b", "modified"))
    facts.note(_result("/c", "read"))
    assert facts.changed == {"/a": "created", "/b": "modified"}
    assert list(facts.read) == ["/c"]
    facts.note(_result("", "", "todo", todos=[{"text": "one", "status": "done"}]))
    facts.note(_result("", "", "todo", todos=[{"text": "two", "status": "pending"}]))
    assert [todo.text for todo in facts.todos] == ["two"]
    facts.note(UserMessage(parts=[TextPart(text="hi")], seq=3))
    facts.note(UserMessage(parts=[TextPart(text="mind")], seq=4, origin="steer"))
    facts.note(UserMessage(parts=[TextPart(text="reminder")], seq=5, origin="program"))
    assert [(said.text, said.steer) for said in facts.said] == [("hi", False), ("mind", True)]


@given(st.integers(4_000, 1_100_000), st.floats(0.05, 0.9))
def test_the_trigger_leaves_room(window: int, share: float) -> None:
    at = trigger(window, share)
    assert at <= window * share
    assert window - at >= min(18_432, window // 3)
    assert answer_room(window, at) >= min(11_000, window // 6)


def test_nothing_is_left_of_a_text_that_may_have_nothing() -> None:
    assert shorten("a long text", 0) == "\n[... 11 bytes dropped to save context ...]\n"
    assert shorten("a long text", 3).startswith("a\n[... 8 bytes")
    assert shorten("a long text", 3).endswith("\nxt")


def test_a_note_made_of_the_record_is_bounded_and_keeps_the_newest() -> None:
    events = [
        *(AssistantMessage(parts=[TextPart(text=f"I look at {n}")]) for n in range(50)),
        *(
            ToolResult(call_id="c", name="shell", status="ok", parts=[], summary=f"make {n} " * 50)
            for n in range(500)
        ),
    ]
    note = digest(events, "an older note", 6_000)
    assert len(note) < 7_000
    assert "an older note" in note
    assert "I look at 49" in note
    assert "make 499" in note
    assert "make 100 " not in note

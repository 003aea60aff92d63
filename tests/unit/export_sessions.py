"""Sessions for the tests of the exports: of everything that can happen, with any text in it."""

import base64
from collections.abc import Sequence

from hypothesis import strategies as st

from kimi_cli.protocol.events import (
    Aside,
    AssistantMessage,
    BudgetWarning,
    Checkpoint,
    Compaction,
    DurableEvent,
    InstructionFile,
    Instructions,
    Kept,
    ModeChanged,
    ModelChanged,
    Notice,
    QuestionAnswered,
    QuestionAsked,
    Repair,
    Rewind,
    SessionResumed,
    SessionStarted,
    Shrink,
    Title,
    ToolResult,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import (
    ContentPart,
    MediaPart,
    OpaquePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    Usage,
)
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.workspace import FileTouch

TOOL = {
    "name": "shell",
    "description": "Run a command.",
    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
}
# The smallest PNG: one transparent pixel.
PIXEL = (
    "data:image/png;base64,"
    + base64.b64encode(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
            "0000000d49444154789c6360000000020001e221bc330000000049454e44ae426082"
        )
    ).decode()
)
USAGE = Usage(input_tokens=1000, output_tokens=100, cached_tokens=900)


def numbered(events: Sequence[DurableEvent]) -> list[DurableEvent]:
    """The events as a log would hold them."""
    for seq, event in enumerate(events, 1):
        event.seq, event.parent, event.time = seq, seq - 1, 1_795_323_636.0 + seq
    return list(events)


def started(model: str = "kimi-k2.5", thinking: str = "") -> SessionStarted:
    return SessionStarted(
        program="kimi 1.0",
        cwd="/w",
        model=model,
        thinking=thinking,
        system_prompt="Be good.",
        tools=[TOOL],
    )


def user(text: str, *media: MediaPart) -> UserMessage:
    return UserMessage(parts=[TextPart(text=text), *media])


def call(number: int, arguments: str = '{"command": "ls"}', name: str = "shell") -> ToolCallPart:
    return ToolCallPart(id=f"functions.{name}:{number}", name=name, arguments=arguments)


def answer(
    *parts: TextPart | ThinkingPart | ToolCallPart | OpaquePart, partial: bool = False
) -> AssistantMessage:
    return AssistantMessage(parts=list(parts), usage=USAGE, cost=0.01, partial=partial)


def result(number: int, *parts: ContentPart, name: str = "shell") -> ToolResult:
    identity = f"functions.{name}:{number}"
    return ToolResult(call_id=identity, name=name, status="ok", parts=list(parts))


def everywhere(text: str, spoken: str) -> list[DurableEvent]:
    """A session of all kinds of events with ``text`` wherever plain text can stand, and
    ``spoken`` where the model's Markdown does."""
    json_text = ToolCallPart(id=text, name=text, arguments=text)
    touch = FileTouch(path=f"/{text}", action="modified", diff=f"@@ -1 +1 @@\n-{text}\n+{text}\n")
    return numbered(
        [
            SessionStarted(
                program=text,
                cwd=text,
                model=text,
                thinking=text,
                system_prompt=text,
                tools=[{"name": text, "description": text, "parameters": {"type": text}}],
                forked_from=text,
            ),
            Instructions(files=[InstructionFile(path=text, digest="0")], text=text),
            Notice(level="error", text=text),
            TurnStarted(),
            user(text, MediaPart(kind="image", url=PIXEL, name=text)),
            user(text, MediaPart(kind="video", url=text, name=text)),
            UserMessage(origin="steer", parts=[TextPart(text=text)]),
            UserMessage(origin="program", parts=[TextPart(text=text)]),
            answer(
                ThinkingPart(text=spoken),
                TextPart(text=spoken),
                json_text,
                call(1, '{"a": {"b": [{"c": 1}]}}'),
                OpaquePart(provider=text, data=text),
            ),
            ToolStarted(call_id=text, name=text, summary=text),
            QuestionAsked(
                question_id="q1", call_id=text, tool=text, text=text, reason=text, choices=[text]
            ),
            QuestionAnswered(question_id="q1", answer=text, comment=text),
            ToolResult(
                call_id=text,
                name=text,
                status="error",
                parts=[TextPart(text=text)],
                summary=text,
                display=text,
                files=[touch],
                output_path=text,
            ),
            ToolResult(call_id=text, name=text, status="denied", parts=[TextPart(text=text)]),
            Compaction(
                upto=3,
                note=spoken,
                failure=text,
                focus=text,
                reason="manual",
                kept=Kept(user_messages=2, dropped_steps=3, spilled=[text]),
                tokens_before=10,
                tokens_after=5,
            ),
            Shrink(upto=3, limit=10, tokens_before=10, tokens_after=5),
            ModelChanged(model=text, thinking=text),
            ModeChanged(mode=text),
            Aside(question=text, answer=spoken, usage=USAGE, partial=True),
            Checkpoint(snapshot=text),
            Repair(kind=text, call_id=text, detail=text),
            BudgetWarning(axis="cost", used=0.8, limit=1),
            Notice(text=text),
            answer(TextPart(text=spoken), call(2, text), partial=True),
            TurnEnded(
                reason=StopReason.COST_LIMIT, detail=text, answer=text, cost=1.0, currency=text
            ),
            Rewind(to=5),
            Title(text=text),
            SessionResumed(program=text, cwd=text),
            TurnStarted(),
            user(text),
            answer(TextPart(text=spoken)),
            TurnEnded(reason=StopReason.DONE, usage=USAGE, steps=1),
            TurnStarted(),
        ]
    )


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><b onclick="alert(1)" style="x">',
    "' onmouseover='alert(1)",
    "</style></title></textarea></pre></details></summary><!-- ",
    "<![CDATA[ ]]> <?php ?> <!DOCTYPE html>",
    "&lt;b&gt; &amp; &#x3c;",
    "\x1b[31mred\x1b[0m \x1b]0;owned\x07\x1b]8;;http://127.0.0.1\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m \x1bPq#0\x1b\\ \x1b[",
    "\u202eevil\u202c \u2066x\u2069 \u2028 \x85",
    "a\x00b\x08\x07\r\nc\rd",
    "\ud800 \udfff",
    "```",
    "``` ```` ~~~ `",
    "~~~~\n```html\n<details>\n<summary>",
    "    indented\n\n- list\n  ```\n  open",
    "> quote\n> ```\n> open",
    "# heading\n\nsetext\n===\n\n---",
    "| a | b |\n|---|---|\n| </td> | `|` |",
    '[x](javascript:alert(1)) ![y](http://127.0.0.1/y.png) <https://e.org/">',
    "[x]: http://127.0.0.1 'title'\n\n[x]",
    "[a](https://e.org 'on\"click=') [m](mailto:a@b.c) [d](data:text/html,<b>)",
    "\\` \\< \\\\` <b> `<c>` ``<d>",
    "日本語 ‮ 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "{}",
    '{"<b>": "</dd>", "x": {"y": [{"z": "</pre>"}]}}',
    "",
]
hostile = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from([*HOSTILE, "\n", "\n\n", " "]), max_size=4).map("".join),
    st.text(max_size=40),
    st.text(alphabet="`~<>!-[]()#|\\ \n\"'&=a*_", max_size=60),
)

identities = st.sampled_from(["functions.shell:0", "functions.shell:1", "call_x", "a b", ""])
texts = st.sampled_from(["", "hello", "  ", "日本", "\ud800"])
media = st.builds(
    MediaPart, kind=st.just("image"), url=st.sampled_from([PIXEL, "ms://f1", "blobs/gone", ""])
)
contents = st.lists(st.builds(TextPart, text=texts) | media, max_size=2)
calls = st.builds(
    ToolCallPart,
    id=identities,
    name=st.sampled_from(["shell", "functions.shell:3", "no such/tool"]),
    arguments=st.sampled_from(["{}", '{"command": "l', "[1]", "", '{"a": "x\ny"}', '{"a": NaN}']),
)
answers = st.builds(
    AssistantMessage,
    parts=st.lists(
        calls | st.builds(TextPart, text=texts) | st.builds(ThinkingPart, text=texts), max_size=4
    ),
    partial=st.booleans(),
)
histories: st.SearchStrategy[list[DurableEvent]] = st.lists(
    st.one_of(
        answers,
        st.builds(
            ToolResult,
            call_id=identities,
            name=st.just("shell"),
            status=st.sampled_from(["ok", "error", "denied", "interrupted"]),
            parts=contents,
        ),
        st.builds(UserMessage, parts=contents),
        st.builds(ToolStarted, call_id=identities, name=st.just("shell")),
        st.builds(Notice, text=texts),
        st.builds(Instructions, files=st.just([]), text=st.just("Keep to the style.")),
        st.builds(Compaction, upto=st.integers(0, 9), note=texts),
        st.builds(Shrink, upto=st.integers(0, 9), limit=st.just(3)),
        st.builds(Rewind, to=st.integers(0, 9)),
        st.builds(ModelChanged, model=st.just("kimi-k2.5"), thinking=st.just("")),
        st.builds(TurnStarted),
        st.builds(TurnEnded, reason=st.sampled_from(StopReason)),
    ),
    max_size=12,
)

"""A session as a Markdown document that reads well as it is and on GitHub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kimi_cli.frontends.export import words
from kimi_cli.frontends.export.outline import (
    Answer,
    Block,
    Call,
    Compacted,
    Cut,
    Ended,
    Outline,
    Remark,
    Said,
    Thought,
    Told,
    Turn,
)
from kimi_cli.frontends.export.reader import outline
from kimi_cli.frontends.export.safe_markdown import Contained, code, fenced, literal
from kimi_cli.frontends.export.text import count, harmless
from kimi_cli.protocol.events import DurableEvent
from kimi_cli.protocol.messages import ContentPart, TextPart

ORIGINS = {"user": "", "steer": "while it worked", "program": "from the program"}


def markdown(events: Sequence[DurableEvent], *, title: str, session: str) -> str:
    """GitHub-flavoured Markdown."""
    out = outline(events, title=title, session=session)
    writer = _Writer()
    paragraphs = [f"# {literal(out.title)}", "  \n".join(map(literal, words.meta(out)))]
    paragraphs += writer.opening(out)
    for turn in out.turns:
        paragraphs += writer.turn(turn)
    return "\n\n".join(filter(None, paragraphs)) + "\n"


class _Writer:
    """Yields paragraphs, to be joined by empty lines."""

    def __init__(self) -> None:
        self._contained = Contained()

    def opening(self, out: Outline) -> Iterator[str]:
        if out.start and out.start.system_prompt:
            yield from _folded("system prompt", fenced(out.start.system_prompt))
        if out.tools:
            names = ", ".join(code(str(tool.get("name", ""))) for tool in out.tools)
            yield f"Tools: {names}"
        for block in out.before:
            yield from self._block(block)

    def turn(self, turn: Turn) -> Iterator[str]:
        yield f"## {words.joined([f'Turn {turn.number}', words.day_and_minute(turn.begun)])}"
        if turn.gone:
            yield f"*{words.GONE}*"
        gone = turn.gone
        for block in turn.blocks:
            if block.gone and not gone:
                yield f"*{words.GONE}:*"
            gone = block.gone
            yield from self._block(block)
        if turn.end is None:
            yield f"**!** *{words.NO_END}*"

    def _block(self, block: Block) -> Iterator[str]:
        match block:
            case Said():
                yield from self._said(block)
            case Told():
                names = ", ".join(file.path for file in block.event.files)
                yield from _folded(f"instructions · {_html(names)}", fenced(block.event.text))
            case Thought():
                time = words.duration(block.seconds)
                yield from _folded(
                    f"✻ thought for {time}" if time else "✻ thought",
                    self._contained.prose(block.text),
                )
            case Answer():
                yield self._contained.prose(block.text)
            case Cut():
                yield f"**!** *{words.INTERRUPTED}*"
            case Call():
                yield from self._call(block)
            case Compacted():
                yield from self._compaction(block)
            case Remark():
                level, text = words.remark(block.event)
                yield f"{'' if level == 'info' else '**!** '}*{literal(text)}*" if text else ""
            case Ended():
                if stop := words.stop(block.event):
                    detail = f": {literal(block.event.detail)}" if block.event.detail else ""
                    yield f"**!** **{stop}**{detail}"
                yield f"*{literal(words.turn_end(block))}*"

    def _said(self, block: Said) -> Iterator[str]:
        if label := ORIGINS[block.origin]:
            yield f"*{label}*"
        for part in block.parts:
            yield self._contained.quote(part.text) if isinstance(part, TextPart) else _media(part)

    def _call(self, call: Call) -> Iterator[str]:
        yield words.joined(
            [
                f"● **{literal(words.call_name(call))}** {code(words.call_about(call))}".rstrip(),
                literal(words.call_outcome(call)),
            ]
        )
        for question in call.questions:
            yield f"**!** {literal(words.question(question))}"
        inside = []
        for name, value in words.arguments(call):
            name = code(name) or "malformed arguments"
            short = len(value) < 80 and "\n" not in value
            inside += [f"{name}: {code(value)}"] if short else [f"{name}:", fenced(value)]
        label = "arguments" if inside else ""
        if call.result:
            text = "".join(part.text for part in call.result.parts if isinstance(part, TextPart))
            if text:
                label = words.joined([label, count(len(text.splitlines()), "line") + " of result"])
                inside += [*["result:"] * bool(inside), fenced(text)]
            inside += [_media(part) for part in call.result.parts if not isinstance(part, TextPart)]
        if inside:
            yield from _folded(label or "result", "\n\n".join(inside))
        for touch in call.result.files if call.result else ():
            if touch.diff:
                yield fenced(touch.diff, "diff")

    def _compaction(self, block: Compacted) -> Iterator[str]:
        line, kept = words.compaction(block)
        event = block.event
        yield "---"
        yield "  \n".join(f"*{literal(text)}*" for text in (line, kept) if text)
        if event.failure:
            yield f"**!** {literal(event.failure)}"
        if event.note:
            author = "made of the record" if event.mechanical else "written by the model"
            yield from _folded(f"hand-off note, {author}", self._contained.prose(event.note))
        yield "---"


def _folded(label: str, body: str) -> Iterator[str]:
    """``label`` is HTML."""
    yield f"<details>\n<summary>{label}</summary>"
    yield body
    yield "</details>"


def _media(part: ContentPart) -> str:
    if isinstance(part, TextPart):
        return ""
    url = "" if part.url.startswith("data:") else part.url
    return f"*[{words.joined([part.kind, literal(part.name or ''), literal(url[:200])])}]*"


def _html(text: str) -> str:
    from html import escape

    return escape(harmless(text).replace("\n", " "))

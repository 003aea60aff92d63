"""The blocks of a session as HTML, each in an element of the class ``b``: what a search finds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kimi_cli.frontends.export import words
from kimi_cli.frontends.export.diff_html import diff
from kimi_cli.frontends.export.markup import Markup, lines, put, tag
from kimi_cli.frontends.export.outline import (
    Answer,
    Block,
    Call,
    Compacted,
    Cut,
    Ended,
    Remark,
    Said,
    Thought,
    Told,
)
from kimi_cli.frontends.export.prose_html import Prose
from kimi_cli.frontends.export.text import count, harmless, one_line
from kimi_cli.protocol.messages import ContentPart, MediaPart, TextPart

ORIGINS = {"user": "", "steer": "while it worked", "program": "from the program"}
SHORT_ERROR = 12
TAIL = 8
LONG_DIFF = 80
# Pictures and films that are part of the file; SVG, which can hold scripts, is not among them.
_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp|avif|bmp);base64,[A-Za-z0-9+/=]+")
_VIDEO = re.compile(r"data:video/(?:mp4|webm|ogg|quicktime);base64,[A-Za-z0-9+/=]+")


class Blocks:
    """Renders blocks one by one."""

    def __init__(self, compactions: Sequence[Compacted] = ()) -> None:
        """``compactions`` are all that will be rendered: each leads to its neighbours."""
        self._prose = Prose()
        self._numbers = {id(block): number for number, block in enumerate(compactions, 1)}

    def render(self, block: Block) -> Markup:
        match block:
            case Said():
                return self._said(block)
            case Told():
                names = ", ".join(file.path for file in block.event.files)
                label = words.joined(["instructions", one_line(names)])
                return _block(block, "info", "", folded(label, block.event.text))
            case Thought():
                return self._thought(block)
            case Answer():
                return _block(block, "answer", "", self._prose(block.text))
            case Cut():
                return _block(block, "stop", "!", tag("p", {}, words.INTERRUPTED))
            case Call():
                return _call(block)
            case Compacted():
                return self._compaction(block)
            case Remark():
                level, text = words.remark(block.event)
                glyph = "" if level == "info" else "!"
                return _block(block, level, glyph, tag("p", {}, text)) if text else Markup()
            case Ended():
                return _end(block)
            case _:
                return Markup()

    def _said(self, block: Said) -> Markup:
        label = ORIGINS[block.origin]
        head = tag("p", {"class": "label"}, label) if label else Markup()
        kind = "user" if block.origin != "program" else "user program"
        return _block(block, kind, "›", head, _parts(block.parts, "words"))

    def _thought(self, block: Thought) -> Markup:
        time = words.duration(block.seconds)
        label = f"thought for {time}" if time else "thought"
        size = count(len(block.text.split()), "word")
        summary = tag("summary", {}, _glyph("✻"), label, tag("span", {"class": "size"}, size))
        body = tag("div", {"class": "in"}, self._prose(block.text))
        return _block(block, "thought", "", tag("details", {}, summary, body))

    def _compaction(self, block: Compacted) -> Markup:
        line, kept = words.compaction(block)
        event = block.event
        author = "made of the record" if event.mechanical else "written by the model"
        note = Markup()
        if event.note:
            summary = tag("summary", {}, f"hand-off note, {author}")
            note = tag("details", {}, summary, tag("div", {"class": "in"}, self._prose(event.note)))
        facts = [tag("p", {}, text) for text in (line, kept, harmless(event.failure)) if text]
        number = self._numbers.get(id(block), 0)
        name = {"id": f"c{number}"} if number else {}
        return _block(block, "compaction", "", *facts, note, self._neighbours(number), **name)

    def _neighbours(self, number: int) -> Markup:
        """Links to the compaction before and the one after; their words are no text to search."""
        places = (("previous", "↑", number - 1), ("next", "↓", number + 1))
        links = [
            tag("a", {"href": f"#c{other}", "aria-label": f"{where} compaction"}, arrow)
            for where, arrow, other in places
            if number and 1 <= other <= len(self._numbers)
        ]
        return tag("p", {"class": "jumps"}, put(*links)) if links else Markup()


def folded(label: str, text: str) -> Markup:
    """A folded text; the number of its lines is told."""
    body = harmless(text)
    size = tag("span", {"class": "size"}, count(len(body.splitlines()), "line"))
    return tag("details", {}, tag("summary", {}, label, size), tag("pre", {"class": "in"}, body))


def _block(block: Block, kind: str, glyph: str, *children: str, **more: str) -> Markup:
    kind = f"b {kind}{' gone' if block.gone else ''}"
    return tag("div", {"class": kind, **more}, _glyph(glyph) if glyph else Markup(), *children)


def _glyph(glyph: str) -> Markup:
    return tag("span", {"class": "g", "aria-hidden": "true"}, glyph)


def _parts(parts: Sequence[ContentPart], kind: str) -> Markup:
    rendered = []
    for part in parts:
        if isinstance(part, MediaPart):
            rendered.append(_media(part))
        elif part.text:
            rendered.append(tag("div", {"class": kind, "dir": "auto"}, harmless(part.text)))
    return lines(rendered)


def _media(part: MediaPart) -> Markup:
    name = one_line(part.name or "", 200) or part.kind
    if part.kind == "image" and _IMAGE.fullmatch(part.url):
        loading = {"loading": "lazy", "decoding": "async"}
        return tag("img", {"src": part.url, "alt": name, **loading})
    if part.kind == "video" and _VIDEO.fullmatch(part.url):
        return tag("video", {"src": part.url, "controls": True, "preload": "none"}, name)
    where = "" if part.url.startswith("data:") else one_line(part.url, 200)
    label = words.joined([f"{part.kind} that is not in this file", name, where])
    return tag("p", {"class": "label"}, label)


def _call(call: Call) -> Markup:
    result = call.result
    status = result.status if result else "interrupted"
    parts = result.parts if result else []
    text = harmless("".join(part.text for part in parts if isinstance(part, TextPart)))
    output, tail = _split(text) if status in ("error", "denied") else (text, "")
    about, outcome = words.call_about(call), words.call_outcome(call)
    size = "" if "line" in outcome else count(len(output.splitlines()), "line")
    head = put(
        _glyph("●"),
        tag("b", {}, words.call_name(call)),
        tag("code", {}, about) if about else "",
        tag("span", {"class": "outcome"}, outcome) if outcome else "",
        tag("span", {"class": "size"}, size) if size and output else "",
    )
    inside = lines([_arguments(call), tag("pre", {"class": "output"}, output) if output else ""])
    rest = [tag("p", {"class": "asked"}, words.question(asked)) for asked in call.questions]
    if tail:
        rest.append(tag("pre", {"class": "output tail"}, tail))
    rest += [_media(part) for part in parts if isinstance(part, MediaPart)]
    rest += [_change(touch.diff) for touch in (result.files if result else ()) if touch.diff]
    line = (
        tag("details", {}, tag("summary", {}, head), tag("div", {"class": "in"}, inside))
        if inside
        else tag("div", {"class": "summary"}, head)
    )
    return _block(call, f"call {status}", "", line, lines(rest))


def _split(text: str) -> tuple[str, str]:
    """What of a failed call's output is folded, and what is in view: where the error stands."""
    rows = text.strip("\n").splitlines()
    if len(rows) <= SHORT_ERROR:
        return "", "\n".join(rows)
    return "\n".join(rows[:-TAIL]), "\n".join(rows[-TAIL:])


def _arguments(call: Call) -> Markup:
    pairs = words.arguments(call)
    items = []
    for name, value in pairs:
        long = len(value) > 80 or "\n" in value
        items.append(tag("dt", {}, name or "malformed"))
        items.append(tag("dd", {"class": "long"} if long else {}, value))
    return tag("dl", {}, *items) if items else Markup()


def _change(text: str) -> Markup:
    rows = len(text.splitlines())
    if rows <= LONG_DIFF:
        return diff(text)
    summary = tag("summary", {}, "diff", tag("span", {"class": "size"}, count(rows, "line")))
    return tag("details", {"class": "more"}, summary, diff(text))


def _end(block: Ended) -> Markup:
    stop = words.stop(block.event)
    detail = harmless(block.event.detail).strip() if stop else ""
    why = tag("p", {"class": "why"}, tag("b", {}, stop), f": {detail}" if detail else "")
    figures = tag("p", {"class": "figures"}, words.turn_end(block))
    if not stop:
        return _block(block, "end", "", figures)
    return _block(block, "end stop", "!", why, figures)

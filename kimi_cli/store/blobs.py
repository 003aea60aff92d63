"""Media of events, kept beside the log: one file for each content, named by its SHA-256.

A line of the log would otherwise carry megabytes of base64. In the line stands a reference,
``kimi-blob:SHA256;HEAD``: the URL is HEAD and the file's bytes in base64, or, with no HEAD, the
file's text. Only the store sees references.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.messages import MediaPart, TextPart

BLOBS = "blobs"
LONG = 4096
"""Characters of a ``data:`` URL from which it is kept in a file of its own."""
SCHEME = "kimi-blob:"
MARK = SCHEME.encode()

_HEAD = re.compile(r"data:[\w.+/=;-]{0,120};base64,", re.ASCII)
_REFERENCE = re.compile(rf"{SCHEME}([0-9a-f]{{64}});((?:{_HEAD.pattern})?)", re.ASCII)
# Where the events that hold media hold them, by type.
_FIELDS = {"user_message": "parts", "tool_result": "parts", "compaction": "pinned"}

AnyEvent = TypeVar("AnyEvent", bound=Event)
Parts = Sequence[TextPart | MediaPart]


def outlined(event: Event, put: Callable[[bytes], str]) -> Event:
    """The event as it is written: itself, or a copy with references for its long media. ``put``
    keeps some bytes and returns their SHA-256 in hex."""
    return _with_parts(event, _is_long, lambda part: _reference(part, put))


def inlined(event: AnyEvent, folder: Path, known: dict[str, str]) -> AnyEvent:
    """The event as it was before it was written. What is not in ``folder`` any more, or not as
    it was, is a text that says so. ``known`` remembers the URLs of references, so that events
    share them."""
    return _with_parts(event, _is_reference, lambda part: _resolved(part, folder, known))


def _with_parts(
    event: AnyEvent,
    concerned: Callable[[MediaPart], bool],
    change: Callable[[MediaPart], TextPart | MediaPart],
) -> AnyEvent:
    field = _FIELDS.get(getattr(event, "type", ""))
    if field is None:
        return event
    parts: Parts = getattr(event, field)
    for part in parts:
        if type(part) is MediaPart and concerned(part):
            break
    else:
        return event
    changed = [
        change(part) if isinstance(part, MediaPart) and concerned(part) else part for part in parts
    ]
    return event.model_copy(update={field: changed})


def _is_long(part: MediaPart) -> bool:
    # What looks like a reference and is none goes to a file too: reading it gives it back.
    url = part.url
    return url.startswith(SCHEME) or (len(url) > LONG and url.startswith("data:"))


def _is_reference(part: MediaPart) -> bool:
    return _REFERENCE.fullmatch(part.url) is not None


def _reference(part: MediaPart, put: Callable[[bytes], str]) -> MediaPart:
    head = _HEAD.match(part.url)
    content = _decoded(part.url[head.end() :]) if head else None
    if head and content is not None:
        url = f"{SCHEME}{put(content)};{head[0]}"
    else:
        url = f"{SCHEME}{put(part.url.encode('utf-8', 'surrogatepass'))};"
    return part.model_copy(update={"url": url})


def _decoded(text: str) -> bytes | None:
    """The bytes of base64 that encoding would give back to the letter."""
    try:
        content = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return None
    return content if b64encode(content).decode() == text else None


def _resolved(part: MediaPart, folder: Path, known: dict[str, str]) -> TextPart | MediaPart:
    url = known.get(part.url) or _url(part.url, folder)
    if url is None:
        name = f" {part.name}" if part.name else ""
        return TextPart(text=f"[{part.kind}{name}: its data is missing from the session]")
    known[part.url] = url
    return part.model_copy(update={"url": url})


def _url(reference: str, folder: Path) -> str | None:
    found = _REFERENCE.fullmatch(reference)
    assert found
    try:
        content = (folder / found[1]).read_bytes()
    except OSError:
        return None
    # A power failure can leave a file that is empty or full of zeros.
    if sha256(content).hexdigest() != found[1]:
        return None
    if found[2]:
        return found[2] + b64encode(content).decode()
    return content.decode("utf-8", "surrogatepass")


def keep(folder: Path, content: bytes) -> tuple[str, bool]:
    """Write the content, whole or not at all, unless it is there; returns its name and whether
    it is new. Raises OSError."""
    name = sha256(content).hexdigest()
    path = folder / name
    with suppress(OSError):
        # Read, because a power failure can leave a file of the right size without its content.
        if path.read_bytes() == content:
            return name, False
    folder.mkdir(mode=0o700, exist_ok=True)
    write_whole(path, content)
    return name, True


def write_whole(path: Path, content: bytes, flush: bool = False) -> None:
    """Make the file, or replace it; at every moment it is there with all of its content or as it
    was before. ``flush`` waits for the disk. Raises OSError."""
    temporary = path.with_name(f".{path.name[:80]}-{os.urandom(6).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if flush:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise

"""The file format of a session: one event a line, JSON, the newline last.

A line without its newline was cut off by a crash and does not count. Lone surrogates (file names
that are not UTF-8) are kept as JSON escapes; in the keys of free-form data they become U+FFFD.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from kimi_cli.protocol.event import (
    SCHEMA_VERSION,
    Event,
)
from kimi_cli.protocol.events import (
    DurableEvent,
    durable_adapter,
)
from kimi_cli.store.errors import StoreError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

EVENTS = "events.jsonl"
BLOCK = 65_536


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line that is no event we know: its number from 1, and why."""

    line: int
    reason: str


@dataclass(slots=True)
class LoadedLog:
    """What a session's file holds. ``torn_bytes`` is the length of an unfinished last line,
    ``version`` the newest schema version found."""

    events: list[DurableEvent] = field(default_factory=list)
    torn_bytes: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    version: int = SCHEMA_VERSION


def encode_event(event: Event) -> bytes:
    """One line of JSON without the newline; every field is there, so that a later change of a
    default changes nothing in old sessions."""
    try:
        return event.model_dump_json().encode()
    except PydanticSerializationError:
        # Lone surrogates: the standard library writes them as escapes.
        return json.dumps(event.model_dump(), separators=(",", ":")).encode()


def read_events(path: Path) -> LoadedLog:
    """Read a session (its folder or its file). Raises StoreError when the file can't be read;
    whatever stands in it is no error."""
    file_path = path / EVENTS if path.is_dir() else path
    log = LoadedLog()
    adapter = durable_adapter()
    try:
        with file_path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    log.torn_bytes = len(line)
                    break
                _read_line(adapter, number, line, log)
    except OSError as error:
        raise StoreError.of(f"{file_path} cannot be read", error) from error
    return log


def _read_line(
    adapter: TypeAdapter[DurableEvent], number: int, line: bytes, log: LoadedLog
) -> None:
    try:
        event = adapter.validate_json(line)
    except ValidationError:
        plain = _plain(line)
        if plain is None:
            log.skipped.append(Skipped(number, "is not a JSON object"))
            return
        log.version = max(log.version, _version(plain))
        try:
            event = adapter.validate_python(plain)
        except ValidationError as error:
            log.skipped.append(Skipped(number, _reason(plain, error)))
            return
    log.version = max(log.version, event.v)
    log.events.append(event)


def _plain(line: bytes) -> dict[str, Any] | None:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None


def _version(plain: dict[str, Any]) -> int:
    version = plain.get("v")
    return version if isinstance(version, int) else SCHEMA_VERSION


def _reason(plain: dict[str, Any], error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == "union_tag_invalid":
        return f"is an event of an unknown type: {str(plain.get('type'))[:60]!r}"
    where = ".".join(map(str, first["loc"][1:])) or "type"
    return f"is not a valid event: {where}: {first['msg']}"


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a session's file: ``complete`` is its length without an unfinished line,
    ``version`` the schema version of its last event."""

    complete: int
    version: int


def read_tail(file: BinaryIO, size: int) -> Tail:
    """Look at the end of an open file of ``size`` bytes without reading all of it."""
    complete = _line_start(file, size)
    end = complete
    while end > 0:
        start = _line_start(file, end - 1)
        file.seek(start)
        plain = _plain(file.read(end - start))
        if plain is not None:
            return Tail(complete, _version(plain))
        end = start
    return Tail(complete, SCHEMA_VERSION)


def _line_start(file: BinaryIO, end: int) -> int:
    """Where the line that reaches up to ``end`` starts: after the last newline before it."""
    while end > 0:
        start = max(end - BLOCK, 0)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0

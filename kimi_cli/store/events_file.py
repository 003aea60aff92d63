"""The file format of a session: one event a line, JSON, the newline last.

A line without its newline was cut off by a crash and does not count. Lone surrogates (file names
that are not UTF-8) are kept as JSON escapes; in the keys of free-form data they become U+FFFD.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json

from kimi_cli.protocol.event import SCHEMA_VERSION, Event
from kimi_cli.store.blobs import BLOBS, MARK, inlined
from kimi_cli.store.errors import SessionTooNew, StoreError

if TYPE_CHECKING:
    from kimi_cli.protocol.events import DurableEvent

EVENTS = "events.jsonl"
BLOCK = 65_536

# Quotes inside of strings are escaped: the first match is no string's content.
_TYPE = re.compile(rb'"type":"([a-z_]+)"').search


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


def read_session(path: Path) -> LoadedLog:
    """Read a session that will be used. Raises SessionTooNew when a newer version of the program
    wrote some of it, StoreError when it can't be read."""
    log = read_events(path)
    if log.version > SCHEMA_VERSION:
        raise too_new((path if path.is_dir() else path.parent).name, log.version)
    return log


def too_new(session: str, version: int) -> SessionTooNew:
    return SessionTooNew(
        f"session {session} was written by a newer version of kimi "
        f"(format {version}, this one knows {SCHEMA_VERSION}): update kimi"
    )


def read_events(path: Path) -> LoadedLog:
    """Read a session (its folder or its file), of whatever version. Raises StoreError when the
    file can't be read; whatever stands in it is no error."""
    file_path = path / EVENTS if path.is_dir() else path
    log = LoadedLog()
    parsers = _Parsers()
    urls: dict[str, str] = {}
    try:
        with file_path.open("rb") as file, _collector_paused():
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    log.torn_bytes = len(line)
                    break
                event: DurableEvent | None
                found = _TYPE(line)
                try:
                    event = parsers[found[1].decode() if found else ""].from_line(line)
                except (ValidationError, KeyError):
                    event = _read_otherwise(parsers, number, line, log)
                    if event is None:
                        continue
                if MARK in line:
                    event = inlined(event, file_path.parent / BLOBS, urls)
                if event.v > log.version:
                    log.version = event.v
                log.events.append(event)
    except OSError as error:
        raise StoreError.of(f"{file_path} cannot be read", error) from error
    return log


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Nothing of what is read is garbage, and looking for some takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Parser(NamedTuple):
    from_line: Callable[[bytes], DurableEvent]
    from_plain: Callable[[dict[str, Any]], DurableEvent]


class _Parsers(dict[str, _Parser]):
    """The parser of each type of event: its class's own, which the program needs anyway. One for
    all of them would have to be built, at the cost of reading a thousand events."""

    def __init__(self) -> None:
        # Late: a list of sessions reads no events, and their classes are its dearest import.
        from kimi_cli.protocol.events import DURABLE

        self._kinds = {kind.model_fields["type"].default: kind for kind in DURABLE}

    def __missing__(self, name: str) -> _Parser:
        kind = self._kinds[name]
        kind.model_rebuild()
        # Without the class's methods around it: they take a tenth of the time.
        bare = kind.__pydantic_validator__
        self[name] = _Parser(bare.validate_json, bare.validate_python)
        return self[name]


def _read_otherwise(
    parsers: _Parsers, number: int, line: bytes, log: LoadedLog
) -> DurableEvent | None:
    """What a line means that is not written as ours are; None when it is no event at all."""
    plain = parse_object(line)
    if plain is None:
        log.skipped.append(Skipped(number, "is not a JSON object"))
        return None
    log.version = max(log.version, _version(plain))
    try:
        return parsers[str(plain.get("type"))].from_plain(plain)
    except KeyError:
        log.skipped.append(Skipped(number, _unknown(plain.get("type"))))
        return None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        reason = f"is not a valid event: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        log.skipped.append(Skipped(number, reason))
        return None


def _unknown(kind: object) -> str:
    return (
        f"is an event of an unknown type: {kind[:60]!r}" if isinstance(kind, str) else "has no type"
    )


def parse_object(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None when there is none."""
    for parse in (from_json, json.loads):
        # The fast parser knows no lone surrogates.
        try:
            plain = parse(line)
        except (ValueError, RecursionError):
            continue
        return plain if isinstance(plain, dict) else None
    return None


def whole(plain: dict[str, Any], name: str) -> int:
    """A whole number of an event that nobody has validated; 0 when it is none, or no count that
    could be."""
    value = plain.get(name)
    return value if isinstance(value, int) and abs(value) < 2**53 else 0


def _version(plain: dict[str, Any]) -> int:
    version = plain.get("v")
    return version if isinstance(version, int) else SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a session's file: ``complete`` is its length without an unfinished line, the
    rest is of its last event."""

    complete: int
    version: int = SCHEMA_VERSION
    turn: int = 0
    step: int = 0
    seq: int = 0


def read_tail(file: BinaryIO, size: int) -> Tail:
    """Look at the end of an open file of ``size`` bytes without reading all of it."""
    complete = _line_start(file, size)
    end = complete
    while end > 0:
        start = _line_start(file, end - 1)
        file.seek(start)
        plain = parse_object(file.read(end - start))
        if plain is not None:
            at = (whole(plain, "turn"), whole(plain, "step"), whole(plain, "seq"))
            return Tail(complete, _version(plain), *at)
        end = start
    return Tail(complete)


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

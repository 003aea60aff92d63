"""Copying a session, or its first turns, into a new one."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kimi_cli.protocol.event import SCHEMA_VERSION
from kimi_cli.store.blobs import BLOBS, SCHEME, write_whole
from kimi_cli.store.errors import SessionError, SessionNotFound, StoreError
from kimi_cli.store.events_file import EVENTS, parse_object, too_new, whole
from kimi_cli.store.index import OUTPUTS, find, new_folder

# Each of these says too much rather than too little: only what exists is linked.
_BLOB = re.compile(rf'(?:{SCHEME}|"{BLOBS}/)([0-9a-f]{{64}})'.encode())
_PREIMAGE = re.compile(rb'"preimages/([0-9A-Za-z_.-]+)"')
_OUTPUT = re.compile(rb"/outputs/([0-9A-Za-z_.-]+)")


def fork(home: Path, id_or_prefix: str, root: Path | None, *, upto_turn: int | None = None) -> str:
    """Copy a session into a new one of the same project; returns the new id.

    The source may be open elsewhere: its complete events are copied. ``upto_turn`` keeps the
    turns 1 to this one. Blobs and outputs that the copied events name come along, as hard links
    where the file system has them. What the model was told stays as it was, paths into the
    source's outputs too; the records of outputs (``output_path``, what a compaction spilled)
    lead to the fork's own files, which outlive the source. Without its file of events, which is
    made last, a fork does not exist.

    Raises SessionNotFound, AmbiguousSession, SessionTooNew, SessionError for a turn that is not
    there, StoreError.
    """
    source = find(home, id_or_prefix, root)
    try:
        lines = (source / EVENTS).read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise StoreError.of(f"{source / EVENTS} cannot be read", error) from error
    events = [Line(line, event) for line in lines if (event := parse_object(line)) is not None]
    _check(source.name, events, upto_turn)
    if upto_turn is not None:
        events = list(_first_turns(events, upto_turn))
    try:
        target = new_folder(source.parent)
    except OSError as error:
        raise StoreError.of(f"no session can be written in {source.parent}", error) from error
    try:
        _fill(target, source, events)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, OSError):
            raise StoreError.of(f"{target} cannot be written", error) from error
        raise
    return target.name


class Line(NamedTuple):
    """A line as it stands in the log, and what it says."""

    raw: bytes
    event: dict[str, Any]


def _check(name: str, lines: Sequence[Line], upto_turn: int | None) -> None:
    version = max((whole(line.event, "v") for line in lines), default=0)
    if version > SCHEMA_VERSION:
        raise too_new(name, version)
    if not any(line.event.get("type") == "session_started" for line in lines):
        raise SessionError(f"session {name} has no beginning and can't be continued")
    turns = max(whole(line.event, "turn") for line in lines)
    if upto_turn is not None and not 1 <= upto_turn <= turns:
        raise SessionError(f"session {name} has no turn {upto_turn}: its last one is {turns}")


def _first_turns(lines: Sequence[Line], last: int) -> Iterator[Line]:
    for line in lines:
        turn = whole(line.event, "turn")
        if turn > last:
            return
        yield line
        # What follows the end, a compaction perhaps, prepares a turn that is not wanted.
        if turn == last and line.event.get("type") == "turn_ended":
            return


def _fill(target: Path, source: Path, lines: Sequence[Line]) -> None:
    linked = _Linked(source, target)
    old, new = (b'"session":"%s"' % folder.name.encode() for folder in (source, target))
    copied = []
    for raw, event in lines:
        linked.all_named_in(raw)
        changed = linked.lead_to_own(event)
        if event.get("type") == "session_started":
            event["forked_from"] = source.name
            changed = True
        if changed or not raw.startswith(old, raw.find(b",") + 1):
            event["session"] = target.name
            copied.append(_encode(event))
        else:
            copied.append(raw.replace(old, new, 1))
    if not (source / EVENTS).exists():
        raise SessionNotFound(f"session {source.name} was deleted")
    write_whole(target / EVENTS, b"\n".join([*copied, b""]), flush=True)


def _encode(event: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        return text.encode()
    except UnicodeEncodeError:
        # Lone surrogates, which are kept as escapes.
        return json.dumps(event, separators=(",", ":")).encode()


class _Linked:
    """The files beside the events, as far as they have been linked from the source."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source = source
        self._target = target
        self._done: dict[str, bool] = {}

    def lead_to_own(self, event: dict[str, Any]) -> bool:
        """Make the event's records of outputs name the target's own files; whether there were
        any."""
        changed = False
        path = event.get("output_path")
        if isinstance(path, str):
            event["output_path"], changed = self._own(path), True
        kept = event.get("kept")
        if isinstance(kept, dict) and isinstance(kept.get("spilled"), list):
            kept["spilled"] = [self._own(p) if isinstance(p, str) else p for p in kept["spilled"]]
            changed = True
        return changed

    def all_named_in(self, line: bytes) -> None:
        if b"blob" in line:
            for name in _BLOB.findall(line):
                self._link(BLOBS, name.decode())
        if b"preimages/" in line:
            for name in _PREIMAGE.findall(line):
                self._link("preimages", name.decode())
        if b"/outputs/" in line:
            for name in _OUTPUT.findall(line):
                # The text may go on after the path.
                if not self._link(OUTPUTS, name.decode()):
                    self._link(OUTPUTS, name.decode().rstrip("."))

    def _own(self, path: str) -> str:
        *_, session, folder, name = ("", "", *Path(path).parts, "")[:-1]
        if (session, folder) == (self._source.name, OUTPUTS) and self._link(OUTPUTS, name):
            return str(self._target / OUTPUTS / name)
        return path

    def _link(self, folder: str, name: str) -> bool:
        """Whether the source has the file, and now the target too. Raises OSError."""
        key = f"{folder}/{name}"
        if key not in self._done:
            self._done[key] = name not in ("", ".", "..") and _link(
                self._source / key, self._target / key
            )
        return self._done[key]


def _link(old: Path, new: Path) -> bool:
    if not old.is_file():
        return False
    new.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        os.link(old, new)
    except OSError:
        # No hard links here. The time goes along, because outputs expire by their age.
        shutil.copy2(old, new)
    return True

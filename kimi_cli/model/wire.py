"""One HTTP answer read under watch: bytes to chunks, with limits on every silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kimi_cli.model import errors
from kimi_cli.model.sse import Decoder, Event
from kimi_cli.protocol.provider import ErrorClass, ModelError

_DRAIN_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. Hosted models may queue and prefill for a minute before the first token, so the
    first limit grows with the prompt tokens that the server can't have cached.

    ``first_byte`` is the wait from the request to the first piece of the answer,
    ``between_chunks`` the wait between pieces. Keep-alive comments extend both, up to
    ``kept_alive`` without a piece. ``after_finish`` is how long a finished answer waits for its
    usage.
    """

    connect: float = 15
    first_byte: float = 120
    first_byte_per_1k_tokens: float = 2
    between_chunks: float = 120
    kept_alive: float = 600
    after_finish: float = 5

    def first(self, new_tokens: int) -> float:
        """The wait for the first piece after a prompt with so many uncached tokens."""
        return self.first_byte + self.first_byte_per_1k_tokens * new_tokens / 1000


class RequestFailed(Exception):
    """A request that did not work out; the error says why."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(error.message)
        self.error = error


class Watch:
    """How long the next wait may last.

    A wait ends when there was no sign of life for long enough, or no piece of the answer for
    longer still.
    """

    def __init__(self, timeouts: Timeouts, new_tokens: int) -> None:
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._silence = timeouts.first(new_tokens)
        self._patience = max(self._silence, timeouts.kept_alive)
        self._progressed = self._heard = self._loop.time()
        self._pieces = 0
        self._finished = False

    def alive(self) -> None:
        """The connection works."""
        self._heard = self._loop.time()

    def note(self, pieces: int, finished: bool) -> None:
        """So many pieces of the answer have come in all; ``finished``: only its usage may still
        come."""
        if finished and not self._finished:
            self._progressed = self._heard
            self._silence = self._patience = self._timeouts.after_finish
        elif pieces > self._pieces and not finished:
            self._progressed = self._heard
            self._silence = self._timeouts.between_chunks
            self._patience = max(self._silence, self._timeouts.kept_alive)
        self._pieces, self._finished = pieces, finished

    def limit(self) -> float:
        """When the next wait must end, in the loop's time."""
        return min(self._heard + self._silence, self._progressed + self._patience)

    def stalled(self) -> RequestFailed:
        """The failure of a wait that was too long."""
        silent = self._loop.time() - self._progressed
        where = "in the middle of its answer" if self._pieces else "before its answer began"
        words = f"the server sent nothing for {silent:.0f} s {where}"
        return RequestFailed(ModelError(ErrorClass.STALL, words))


class Reader:
    """The chunks of a 200 answer as dicts.

    A body that is one JSON document (some proxies do not stream) is one chunk. ``complete`` says
    that the server itself declared the answer's end.
    """

    def __init__(self, body: AsyncGenerator[bytes], watch: Watch) -> None:
        self.complete = False
        self._body = body
        self._watch = watch
        self._decoder = Decoder()
        self._opening: bytes | None = b""
        self._ended = False

    async def next(self) -> list[dict[str, Any]] | None:
        """The chunks that the next bytes bring, maybe none; None at the end. Raises
        RequestFailed for a stall, an error event, and what is neither events nor JSON; what the
        body raises passes through."""
        if self._ended:
            return None
        piece = await self._bytes()
        if self._opening is not None and piece is not None:
            piece = await self._opened(self._opening + piece)
        self._ended = piece is None
        events = self._decoder.finish() if piece is None else self._decoder.feed(piece)
        return await self._chunks(events)

    async def _chunks(self, events: list[Event]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for event in events:
            if event.data == "[DONE]":
                self.complete = self._ended = True
                await self._drain()
                break
            if event.data:
                found += _parsed(event.data, event.name)
        return found

    async def _opened(self, start: bytes) -> bytes:
        """The body's first bytes, or all of it as one event when it begins like a document."""
        sign = start.lstrip()[:1]
        self._opening = None if sign else start
        if not sign:
            return b""
        if sign not in (b"{", b"[", b"<"):
            return start
        while (piece := await self._bytes()) is not None:
            start += piece
        self.complete = True
        return _one_event(start)

    async def _bytes(self) -> bytes | None:
        try:
            # Only around the wait: a timeout must not strike the consumer between the pieces.
            async with asyncio.timeout_at(self._watch.limit()):
                piece = await anext(self._body, None)
        except TimeoutError:
            raise self._watch.stalled() from None
        self._watch.alive()
        return piece

    async def _drain(self) -> None:
        """Read the end of the body, if it is there already: the connection can be used again."""
        with suppress(Exception):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while await anext(self._body, None) is not None:
                    pass


def _one_event(document: bytes) -> bytes:
    text = document.decode(errors="replace")
    try:
        # Dumped again because an event's data can't span lines.
        return b"data: " + json.dumps(json.loads(text)).encode() + b"\n\n"
    except ValueError:
        raise RequestFailed(_not_a_stream(text)) from None


def _not_a_stream(text: str) -> ModelError:
    words = errors.plain(text)
    what = "a web page" if text.lstrip()[:1] == "<" else "something that is no chat completion"
    return ModelError(ErrorClass.PROTOCOL, f"the endpoint answered with {what}: {words}")


def _parsed(data: str, name: str) -> list[dict[str, Any]]:
    """The documents of an event. An event with several lines is one document or, from servers
    that forget the empty lines, one a line."""
    try:
        documents = [json.loads(data)]
    except ValueError:
        documents = [_document(line) for line in data.split("\n") if line != "[DONE]"]
    for document in documents:
        if not isinstance(document, dict):
            raise _malformed(data)
        if document.get("error") or name == "error" or document.get("object") == "error":
            raise RequestFailed(errors.from_stream(document.get("error") or document))
    return documents


def _document(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise _malformed(line) from None


def _malformed(text: str) -> RequestFailed:
    words = f"the stream holds something that is no chat completion: {errors.plain(text)}"
    return RequestFailed(ModelError(ErrorClass.PROTOCOL, words))

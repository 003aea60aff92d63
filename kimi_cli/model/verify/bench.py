"""Asks the endpoint under test, as kimi itself asks, and keeps what came."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from kimi_cli.model.build import build_endpoint
from kimi_cli.model.codec import dumps
from kimi_cli.model.dialects import sampling_params
from kimi_cli.model.provider import Endpoint
from kimi_cli.model.verify.cases import Tool
from kimi_cli.model.verify.raw import Answer, finish, take
from kimi_cli.model.verify.subject import Subject
from kimi_cli.model.wire import Reader, RequestFailed, Timeouts, Watch
from kimi_cli.protocol.provider import ErrorClass, ModelError

if TYPE_CHECKING:
    import httpx2

THINKING_CAP, PLAIN_CAP = 8192, 512
"""The most tokens of an answer without a long call."""
_AT_ONCE = 4
_GONE_AFTER = 3
_ATTEMPTS = 4
_LONGEST_WAIT = 15.0
_BUSY = (ErrorClass.RATE, ErrorClass.OVERLOAD)
_NOT_SENT = "not sent: the endpoint had stopped answering"


class Bench:
    """Sends requests to a subject and remembers the answers, a few at a time. `seconds` is how
    long one answer may take, `busy` hears how many requests were sent. `reasons` says whether
    reasoning was seen, or must be expected."""

    def __init__(
        self,
        subject: Subject,
        seconds: float,
        *,
        busy: Callable[[int], None] = lambda requests: None,
    ) -> None:
        self.subject = subject
        self.seconds = seconds
        self.endpoint: Endpoint = build_endpoint(subject.config)
        self.answers: list[Answer] = []
        self.reasons = subject.info.thinking in ("always", "switchable")
        self.requests = 0
        self._busy = busy
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._lost = 0

    async def close(self) -> None:
        await self.endpoint.connection.close()

    @property
    def gone(self) -> bool:
        """Whether the endpoint has stopped answering."""
        return self._lost >= _GONE_AFTER

    @contextmanager
    def room_for(self, count: int) -> Iterator[None]:
        """Meanwhile so many requests may be under way together."""
        former, self._slots = self._slots, asyncio.Semaphore(count)
        try:
            yield
        finally:
            self._slots = former

    def cap(self, output: int = 0, thinking: str = "on") -> int:
        """The most tokens of an answer whose visible part takes about `output`."""
        base = THINKING_CAP if self.reasons and thinking != "off" else PLAIN_CAP
        return max(1, min(base + output * 3 // 2, self.subject.info.context // 2))

    async def ask(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Tool] = (),
        stream: bool = True,
        cap: int | None = None,
        thinking: str = "on",
        forced: str = "",
        patient: bool = True,
    ) -> Answer:
        """The answer to a prompt or a conversation. Never raises for what the endpoint does. A
        busy endpoint is asked again after a while, unless not `patient`."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        answer = Answer(stream)
        answer.tools, answer.forced = tuple(tool.name for tool in tools), bool(forced)
        answer.before = sum(message.get("role") == "tool" for message in messages)
        async with self._slots:
            if self.gone:
                answer.sent = False
                answer.error = ModelError(ErrorClass.NETWORK, _NOT_SENT)
                return answer
            body = self._body(
                messages, tools, stream, cap or self.cap(0, thinking), thinking, forced
            )
            for attempt in range(_ATTEMPTS if patient else 1):
                await self._send(body, answer)
                error = answer.error
                if error is None or error.kind not in _BUSY or attempt == _ATTEMPTS - 1:
                    break
                if patient:
                    wait = 2.0**attempt if error.retry_after is None else error.retry_after
                    await asyncio.sleep(min(wait, _LONGEST_WAIT))
                    answer.error = None
        self._lost = self._lost + 1 if answer.lost else 0
        finish(answer)
        self.answers.append(answer)
        return answer

    def _body(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Tool],
        stream: bool,
        cap: int,
        thinking: str,
        forced: str,
    ) -> bytes:
        subject = self.subject
        dialect, info, config = subject.dialect, subject.info, subject.config
        document: dict[str, Any] = {
            "model": subject.name,
            "stream": stream,
            **sampling_params(dialect, info, thinking, config.temperature, config.top_p),
            **(subject.switch(thinking) or {}),
            dialect.cap_field: cap,
            "messages": list(messages),
        }
        if stream and dialect.include_usage:
            document["stream_options"] = {"include_usage": True}
        if tools:
            # vLLM holds a forced call to its schema only when it is told so.
            strict = bool(forced) and not dialect.hosted
            document["tools"] = [tool.document(strict) for tool in tools]
            if forced:
                document["tool_choice"] = {"type": "function", "function": {"name": forced}}
        return dumps(document)

    async def _send(self, body: bytes, answer: Answer) -> None:
        start = time.monotonic()
        self.requests += 1
        self._busy(self.requests)
        try:
            # A warmed client: preparing it is no time of the endpoint's.
            await self.endpoint.connection.client()
            async with asyncio.timeout(self.seconds):
                await (self._stream if answer.streamed else self._whole)(body, answer)
        except TimeoutError:
            words = f"no whole answer within {self.seconds:.0f} s"
            answer.error = ModelError(ErrorClass.STALL, words)
        except Exception as error:
            answer.error = self.endpoint.failure(error)
        answer.seconds = time.monotonic() - start

    async def _stream(self, body: bytes, answer: Answer) -> None:
        # Its own limits would only be told in other words.
        limit = self.seconds * 2
        timeouts = Timeouts(limit, limit, 0, limit, limit, limit)
        async with AsyncExitStack() as stack:
            response = await self._post(body, stream=True)
            stack.push_async_callback(_close, response)
            reader = Reader(response.aiter_bytes(), Watch(timeouts, 0))
            while (batch := await reader.next()) is not None:
                for chunk in batch:
                    take(answer, chunk)
            answer.done = reader.complete
        if not answer.chunks or not (answer.done or answer.finish):
            words = "the connection was closed before the answer was complete"
            raise RequestFailed(ModelError(ErrorClass.NETWORK, words))

    async def _whole(self, body: bytes, answer: Answer) -> None:
        response = await self._post(body, stream=False)
        try:
            document = json.loads(response.content)
        except ValueError:
            document = None
        if not isinstance(document, dict) or not isinstance(document.get("choices"), list):
            words = "the endpoint answered with something that is no chat completion"
            raise RequestFailed(ModelError(ErrorClass.PROTOCOL, words))
        take(answer, document)

    async def _post(self, body: bytes, *, stream: bool) -> httpx2.Response:
        client = await self.endpoint.connection.client()
        import httpx2

        accept = "text/event-stream" if stream else "application/json"
        # Two calls: the client's overloads tell the types by a literal.
        if stream:
            return await client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                content=body,
                stream=True,
                stream_cls=None,
                options={"headers": {"Accept": accept}},
            )
        return await client.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            content=body,
            options={"headers": {"Accept": accept}},
        )


async def _close(response: httpx2.Response) -> None:
    with suppress(Exception):
        await response.aclose()

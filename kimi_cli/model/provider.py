"""Chat completions over HTTP: what goes out, byte by byte, and what comes back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kimi_cli.model import errors
from kimi_cli.model.assemble import Assembler
from kimi_cli.model.catalogue import ModelInfo
from kimi_cli.model.codec import ChatEncoder, dumps, encode_tools
from kimi_cli.model.counting import count_tokens
from kimi_cli.model.dialects import Dialect
from kimi_cli.model.sdk import Connection
from kimi_cli.model.tokenizer import LateCounter
from kimi_cli.model.wire import Reader, RequestFailed, Timeouts, Watch
from kimi_cli.protocol.provider import (
    Completed,
    ErrorClass,
    Failed,
    ModelError,
    ModelEvent,
    ModelRequest,
)
from kimi_cli.protocol.tools import ToolSchema

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

_LIST_SECONDS = 10.0
_SHOWN_MODELS = 20


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go and as whom. The key is kept out of every text this module makes."""

    base_url: str
    connection: Connection
    api_key: str = ""

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url})"

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc.rpartition("@")[2]

    def clean(self, error: ModelError) -> ModelError:
        """The error without the key, which servers like to quote."""
        if len(self.api_key) < 4 or self.api_key not in error.message:
            return error
        return replace(error, message=error.message.replace(self.api_key, "[API key]"))

    async def get_models(self) -> list[dict[str, Any]]:
        """The entries of GET /models. Raises RequestFailed."""
        try:
            async with asyncio.timeout(_LIST_SECONDS):
                client = await self.connection.client()
                import httpx2

                response = await client.get("/models", cast_to=httpx2.Response)
            document = json.loads(response.content)
        except TimeoutError:
            words = f"{self.host} did not list its models in time"
            raise RequestFailed(ModelError(ErrorClass.STALL, words)) from None
        except ValueError:
            words = f"{self.host} did not answer with a list of models"
            raise RequestFailed(ModelError(ErrorClass.PROTOCOL, words)) from None
        except Exception as error:
            raise RequestFailed(self.failure(error)) from None
        entries = document.get("data") if isinstance(document, dict) else None
        return [entry for entry in entries or [] if isinstance(entry, dict)]

    def failure(self, error: Exception) -> ModelError:
        """What a request raised, as an error for people."""
        if isinstance(error, RequestFailed):
            return self.clean(error.error)
        response = getattr(error, "response", None)
        if response is None:
            return self.clean(errors.from_exception(error, self.host))
        return self.clean(
            errors.from_response(
                response.status_code,
                response.headers,
                response.text,
                host=self.host,
                now=time.time(),
            )
        )


class ChatProvider:
    """One model at one endpoint. ``params`` are the fixed fields of every request; ``counter``
    counts tokens once it is loaded, which begins beside the first answer."""

    def __init__(
        self,
        endpoint: Endpoint,
        dialect: Dialect,
        info: ModelInfo,
        thinking: str,
        params: Mapping[str, Any],
        timeouts: Timeouts,
        max_output_tokens: int | None = None,
        counter: LateCounter | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.dialect = dialect
        self.info = info
        self._thinking = thinking
        self._params = dict(params)
        self._timeouts = timeouts
        self._max_output = max_output_tokens
        self._counter = counter or LateCounter(info.id)
        self._prefix: tuple[Sequence[ToolSchema], bytes] | None = None

    @property
    def model(self) -> str:
        return self.info.id

    @property
    def window(self) -> int:
        return self.info.context

    @property
    def output_cap(self) -> int | None:
        if self._max_output is not None:
            return self._max_output
        return self.info.max_output if self.dialect.caps else None

    @property
    def counter(self) -> Callable[[str], int] | None:
        return self._counter.counter

    async def count(self, request: ModelRequest) -> int | None:
        """The server's own count; see Provider."""
        endpoint = self.endpoint
        params = {"model": self.model, **self._params}
        return await count_tokens(
            endpoint.connection, endpoint.base_url, self.dialect, params, request
        )

    def encoder(self) -> ChatEncoder:
        return ChatEncoder(self.dialect, self.info, self._thinking)

    def warm(self) -> None:
        """Start to prepare the client, beside other work; returns at once."""
        self.endpoint.connection.warm()

    async def close(self) -> None:
        await self.endpoint.connection.close()

    def body(self, request: ModelRequest) -> bytes:
        """The request as it goes out: what is fixed, the messages, and behind them the limit of
        the answer, which may change. Up to the end of its messages a request is how the next one
        begins."""
        messages = b",".join(request.messages)
        return b"".join((self._head(request.tools), messages, b"]", self._cap(request), b"}"))

    def _head(self, tools: Sequence[ToolSchema]) -> bytes:
        if self._prefix and self._prefix[0] == tools:
            return self._prefix[1]
        params: dict[str, Any] = {"model": self.model, "stream": True, **self._params}
        if self.dialect.include_usage:
            params["stream_options"] = {"include_usage": True}
        head = dumps(params)[:-1]
        if tools:
            head += b',"tools":' + encode_tools(tools)
        head += b',"messages":['
        self._prefix = (tools, head)
        return head

    def _cap(self, request: ModelRequest) -> bytes:
        caps = [cap for cap in (self.output_cap, request.max_output_tokens) if cap is not None]
        return b',"%b":%d' % (self.dialect.cap_field.encode(), min(caps)) if caps else b""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield deltas and one Completed or Failed; see Provider."""
        body = self.body(request)
        assembler = Assembler(frozenset(tool.name for tool in request.tools), _calls_in(body))
        reader: Reader | None = None
        failed: ModelError | None = None
        try:
            client = await self.endpoint.connection.client()
            # The clock starts when the request does: preparing the client is our own time.
            watch = Watch(self._timeouts, request.new_tokens)
            async with AsyncExitStack() as stack:
                response = await self._send(client, body, watch)
                # The connection of a stream that was left in the middle must not survive it.
                stack.push_async_callback(_close, response)
                self._counter.start()
                reader = Reader(response.aiter_bytes(), watch)
                while (batch := await reader.next()) is not None:
                    for chunk in batch:
                        for delta in assembler.chunk(chunk):
                            yield delta
                    watch.note(assembler.pieces, bool(assembler.finish_reason))
        except Exception as error:
            failed = self.endpoint.failure(error)
        complete = bool(assembler.finish_reason) or (reader is not None and reader.complete)
        if complete and (failed is None or assembler.finish_reason):
            # Whole, whatever happened to the connection afterwards.
            for delta in assembler.end():
                yield delta
            yield _whole(assembler.completed())
            return
        failed = failed or self._dropped(assembler)
        if failed.kind is ErrorClass.MODEL_MISSING:
            failed = replace(failed, message=failed.message + await self._alternatives())
        yield Failed(failed)

    async def _send(self, client: AsyncOpenAI, body: bytes, watch: Watch) -> httpx2.Response:
        import httpx2

        try:
            async with asyncio.timeout_at(watch.limit()):
                return await client.post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    content=body,
                    stream=True,
                    stream_cls=None,
                    options={"headers": {"Accept": "text/event-stream"}},
                )
        except TimeoutError:
            raise watch.stalled() from None

    def _dropped(self, assembler: Assembler) -> ModelError:
        host = self.endpoint.host
        words = f"{host} closed the connection before the answer was complete"
        if not assembler.pieces:
            words = f"{host} answered with an empty stream"
        return ModelError(ErrorClass.NETWORK, words)

    async def _alternatives(self) -> str:
        """What the server has instead of the model it does not have."""
        try:
            entries = await self.endpoint.get_models()
        except RequestFailed:
            return ""
        names = sorted(str(entry["id"]) for entry in entries if entry.get("id"))
        if not names:
            return ""
        more = f" and {len(names) - _SHOWN_MODELS} more" if len(names) > _SHOWN_MODELS else ""
        return f" (it has: {', '.join(names[:_SHOWN_MODELS])}{more})"


def _calls_in(body: bytes) -> int:
    """How many tool calls the conversation has, told by their results; inside a text the quotes
    would be escaped."""
    return body.count(b'"tool_call_id":"')


def _whole(answer: Completed) -> Completed | Failed:
    if answer.finish_reason != "content_filter":
        return answer
    words = "the endpoint's content filter ended the answer"
    return Failed(ModelError(ErrorClass.CONTENT_FILTER, words), answer)


async def _close(response: httpx2.Response) -> None:
    with suppress(Exception):
        await response.aclose()

"""A server's own count of a request's tokens, before it is sent."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from kimi_cli.model.codec import dumps, encode_tools
from kimi_cli.model.dialects import Dialect
from kimi_cli.model.sdk import Connection
from kimi_cli.protocol.provider import ModelRequest

log = logging.getLogger(__name__)


async def count_tokens(
    connection: Connection,
    base_url: str,
    dialect: Dialect,
    params: Mapping[str, Any],
    request: ModelRequest,
    seconds: float = 5.0,
) -> int | None:
    """Ask the server; None where it has no such endpoint, fails or takes more than ``seconds``.
    ``params`` are the fields of a chat request with these messages. Raises nothing but
    asyncio.CancelledError."""
    if not dialect.counts or not request.messages:
        return None
    try:
        async with asyncio.timeout(seconds):
            client = await connection.client()
            import httpx2

            response = await client.post(
                _address(base_url, dialect),
                cast_to=httpx2.Response,
                content=_body(dialect, params, request),
            )
        return _count(json.loads(response.content))
    except Exception as error:
        log.debug("no count from the server: %s: %s", type(error).__name__, error)
        return None


def _address(base_url: str, dialect: Dialect) -> str:
    # vLLM serves /tokenize beside /v1; Moonshot: platform.kimi.ai, "Estimate Tokens".
    if dialect.counts == "tokenize":
        return base_url.removesuffix("/v1") + "/tokenize"
    return "/tokenizers/estimate-token-count"


def _body(dialect: Dialect, params: Mapping[str, Any], request: ModelRequest) -> bytes:
    kept: Sequence[str] = ("model",)
    if dialect.counts == "tokenize":
        kept = ("model", "chat_template_kwargs")
    head = dumps({key: params[key] for key in kept if key in params})[:-1]
    if request.tools:
        head += b',"tools":' + encode_tools(request.tools)
    return b"".join((head, b',"messages":[', b",".join(request.messages), b"]}"))


def _count(document: Any) -> int | None:
    inner = document.get("data") if isinstance(document, dict) else None
    found = inner.get("total_tokens") if isinstance(inner, dict) else None
    if found is None and isinstance(document, dict):
        found = document.get("count")
    return found if isinstance(found, int) and found > 0 else None

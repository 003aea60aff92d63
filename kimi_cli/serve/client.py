"""Asking a running server on this computer: its health, its models, one token, its figures."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urlsplit

MOST_BYTES = 8 << 20
_SAMPLE = re.compile(r"^(vllm:[a-z_]+)(?:\{[^}]*\})? (\S+)", re.MULTILINE)


class NoAnswer(Exception):
    """The server did not answer; the message is for people."""


def ask(
    base_url: str,
    path: str,
    key: str = "",
    body: Mapping[str, Any] | None = None,
    seconds: float = 5.0,
) -> tuple[int, bytes]:
    """GET a path from the root of the server at `base_url`, or POST `body` to it as JSON: status
    and body. No proxy is asked. Raises NoAnswer."""
    parts = urlsplit(base_url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    content = None if body is None else json.dumps(body)
    if content is not None:
        headers["Content-Type"] = "application/json"
    try:
        with closing(http.client.HTTPConnection(host, port, timeout=seconds)) as connection:
            connection.request("GET" if content is None else "POST", path, content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(MOST_BYTES)
    except TimeoutError:
        raise NoAnswer(f"no answer within {seconds:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(str(error) or type(error).__name__) from None


def healthy(base_url: str, seconds: float = 2.0) -> bool:
    """Whether vLLM says that it is up. A server of several nodes may have lost one and say so
    still: `one_token` knows better."""
    try:
        return ask(base_url, "/health", seconds=seconds)[0] == 200
    except NoAnswer:
        return False


def model_entry(base_url: str, key: str, name: str) -> Mapping[str, Any]:
    """What /v1/models says of the model of this name; empty when nothing. Raises NoAnswer."""
    status, body = ask(base_url, "/v1/models", key)
    if status != 200:
        raise NoAnswer(f"/v1/models answers {status}")
    try:
        rows = json.loads(body)["data"]
        return next((row for row in rows if row.get("id") == name), {})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoAnswer("/v1/models answers nothing that can be read") from None


def one_token(base_url: str, key: str, model: str, seconds: float = 30.0) -> str:
    """Ask for one token of an answer: "" when it came, else what went wrong, for people."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 1,
        "temperature": 0,
    }
    try:
        status, answer = ask(base_url, "/v1/chat/completions", key, body, seconds)
    except NoAnswer as why:
        return str(why)
    return "" if status == 200 else f"HTTP {status}: {_message(answer)}"


def metrics(base_url: str, seconds: float = 5.0) -> dict[str, float]:
    """vLLM's own figures by name, each added up over engines and labels; of shares (1 is all) the
    largest. Raises NoAnswer."""
    status, body = ask(base_url, "/metrics", seconds=seconds)
    if status != 200:
        raise NoAnswer(f"/metrics answers {status}")
    return read_metrics(body.decode("utf-8", "replace"))


def read_metrics(text: str) -> dict[str, float]:
    """The figures in Prometheus' text format, joined as `metrics` tells."""
    found: dict[str, float] = {}
    for name, value in _SAMPLE.findall(text):
        with suppress(ValueError):
            figure, former = float(value), found.get(name, 0.0)
            found[name] = max(former, figure) if name.endswith("_perc") else former + figure
    return found


def _message(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        found = json.loads(text)
        message = found.get("message") or found["error"]["message"]
    except (ValueError, KeyError, TypeError, AttributeError):
        message = text
    return " ".join(str(message).split())[:300]

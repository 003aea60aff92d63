"""Ways to ask the scripted server: the openai client and raw sockets."""

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import openai

from tests.support.server import Script, ScriptedServer

KEY = "sk-test-key"
HI = [{"role": "user", "content": "hi"}]
ECHO = ("shell", {"command": "echo 中文 🦊"})


def client(server: ScriptedServer, key: str = KEY) -> openai.OpenAI:
    """A client without retries."""
    # Without verify=False each client spends 50 ms on certificates that http does not use.
    quick = openai.DefaultHttpxClient(verify=False)
    return openai.OpenAI(
        base_url=server.base_url, api_key=key, max_retries=0, timeout=5, http_client=quick
    )


@contextlib.contextmanager
def serving(script: Script, **options: Any) -> Iterator[tuple[ScriptedServer, openai.OpenAI]]:
    with ScriptedServer(script, **options) as server, client(server) as api:
        yield server, api


def ask(api: openai.OpenAI, **changes: Any) -> list[Any]:
    """All chunks of a streamed answer."""
    request: Any = {"model": "kimi-k2.5", "messages": HI, "stream": True} | changes
    return list(api.chat.completions.create(**request))


def assembled(chunks: list[Any]) -> dict[str, Any]:
    """Text, thinking, calls (id, name, arguments) and finish reason of a streamed answer."""
    said: dict[str, Any] = {"text": "", "thinking": "", "finish": None}
    calls: dict[int, list[Any]] = {}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        said["text"] += choice.delta.content or ""
        extra = choice.delta.model_extra or {}
        said["thinking"] += extra.get("reasoning_content") or extra.get("reasoning") or ""
        said["finish"] = choice.finish_reason or said["finish"]
        for delta in choice.delta.tool_calls or []:
            call = calls.setdefault(delta.index, [None, "", ""])
            call[0] = delta.id or call[0]
            call[1] += delta.function.name or ""
            call[2] += delta.function.arguments or ""
    return said | {"calls": [tuple(call) for _, call in sorted(calls.items())]}


def http(
    server: ScriptedServer, body: dict[str, Any] | bytes, path: str = "/v1/chat/completions"
) -> bytes:
    """The bytes of a POST request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def chat(**changes: Any) -> dict[str, Any]:
    return {"model": "kimi-k2.5", "messages": HI, "stream": True} | changes


def exchange(server: ScriptedServer, request: bytes) -> bytes:
    """What the server writes until it closes, or until the end of a chunked body."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.sendall(request)
        got = b""
        while not got.endswith(b"\r\n0\r\n\r\n") and (data := connection.recv(65536)):
            got += data
        return got


def get(server: ScriptedServer, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Status and JSON of a request to an endpoint; POST with a body."""
    data = json.dumps(body).encode() if body is not None else b""
    verb = "GET" if body is None else "POST"
    lines = f"{verb} {path} HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    answer = exchange(server, f"{lines}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(rest) if rest else None


def conversation(steps: list[list[tuple[str, str]]], **extra: Any) -> list[dict[str, Any]]:
    """A history: each step is a list of (tool name, call id)."""
    messages: list[dict[str, Any]] = list(HI)
    for step in steps:
        calls = [
            {"id": i, "type": "function", "function": {"name": n, "arguments": "{}"}}
            for n, i in step
        ]
        said = {"role": "assistant", "reasoning_content": "", "tool_calls": calls}
        messages.append(said | extra)
        messages += [{"role": "tool", "tool_call_id": i, "content": "ok"} for _, i in step]
    return messages

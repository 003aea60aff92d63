"""The endpoints beside chat: model lists, token counts, balance, health. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.replies import Reply, http_error, json_answer, raw
from tests.support.sse import Flavour

ModelSpec = str | dict[str, Any]
_WINDOW = 262_144
_WINDOWS = {"kimi-k3": 1_048_576, "kimi-k1.5-preview": 131_072, "kimi-k2-instruct": 131_072}
_DEFAULT: dict[Flavour, tuple[str, ...]] = {
    "hosted": (
        "kimi-k2.5",
        "kimi-k2.6",
        "kimi-k2.7-code",
        "kimi-k3",
        "kimi-k2-thinking",
        "kimi-k2-0905-preview",
        "kimi-k1.5-preview",
    ),
    "vllm": (
        "moonshotai/Kimi-K2.5",
        "moonshotai/Kimi-K2-Thinking",
        "moonshotai/Kimi-K2-Instruct-0905",
        "moonshotai/Kimi-K2-Instruct",
        "kimi-k2.5",
        "kimi-k2-thinking",
    ),
    "openai": ("kimi-k2.5", "kimi-k2-thinking", "moonshotai/Kimi-K2.5"),
}


@dataclass(frozen=True)
class House:
    """What the endpoints know of their server."""

    flavour: Flavour
    models: tuple[dict[str, Any], ...]
    context_limit: int | None = None


def model_list(flavour: Flavour, models: Sequence[ModelSpec] | None) -> tuple[dict[str, Any], ...]:
    """The entries of GET /v1/models; a plain id gets the fields that the flavour adds."""
    chosen = _DEFAULT[flavour] if models is None else models
    return tuple(spec if isinstance(spec, dict) else _entry(spec, flavour) for spec in chosen)


def answer(method: str, path: str, body: bytes, house: House) -> Reply:
    """The answer to any request but a chat."""
    route = f"{method} {path}"
    if route == "GET /v1/models":
        return json_answer({"object": "list", "data": list(house.models)})
    if method == "GET" and path.startswith("/v1/models/"):
        return _one_model(path.removeprefix("/v1/models/"), house)
    if house.flavour == "hosted":
        if route == "POST /v1/tokenizers/estimate-token-count":
            data = {"total_tokens": _tokens(body)}
            return json_answer({"code": 0, "data": data, "scode": "0x0", "status": True})
        if route == "GET /v1/users/me/balance":
            balance = {"available_balance": 49.5, "voucher_balance": 46.5, "cash_balance": 3.0}
            return json_answer({"code": 0, "data": balance, "scode": "0x0", "status": True})
    if house.flavour == "vllm":
        if route == "POST /tokenize":
            return _tokenize(body, house)
        if route == "GET /version":
            return json_answer({"version": "0.32.0"})
        if route == "GET /health":
            return raw(200, "text/plain", b"")
    return http_error(404, "resource_not_found_error", f"no such endpoint: {route}")


def _entry(name: str, flavour: Flavour) -> dict[str, Any]:
    entry = {"id": name, "object": "model", "created": 1_760_000_000}
    short = name.rsplit("/", 1)[-1].lower()
    window = _WINDOWS.get(short, _WINDOW)
    if flavour == "openai":
        return entry | {"owned_by": "somebody"}
    if flavour == "vllm":
        return entry | {"owned_by": "vllm", "root": name, "parent": None, "max_model_len": window}
    sees = not short.startswith("kimi-k2-")
    return entry | {
        "owned_by": "moonshot",
        "context_length": window,
        "supports_image_in": sees,
        "supports_video_in": sees and "k1.5" not in short,
        "supports_reasoning": sees or "thinking" in short,
    }


def _one_model(name: str, house: House) -> Reply:
    for entry in house.models:
        if entry["id"] == name:
            return json_answer(entry)
    return http_error(404, "resource_not_found_error", f"Not found the model {name}")


def _tokenize(body: bytes, house: House) -> Reply:
    longest = max((entry.get("max_model_len", 0) for entry in house.models), default=0)
    count = _tokens(body)
    limit = house.context_limit or longest
    return json_answer({"count": count, "max_model_len": limit, "tokens": list(range(count))})


def _tokens(body: bytes) -> int:
    """Four bytes of the texts are a token; the envelope of the request does not count."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return len(body) // 4
    counted = [document[key] for key in ("messages", "tools", "prompt") if key in document]
    return sum(len(json.dumps(part, ensure_ascii=False).encode()) // 4 for part in counted)

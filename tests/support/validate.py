"""Judges a chat request as strictly as the real API does."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.histories import message_problems
from tests.support.sse import Flavour

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FIXED_SAMPLING = re.compile(r"kimi-k2\.[5-9]|kimi-k[3-9]|kimi-for-coding|^k3")
_SHAPES = ("type", "anyOf", "oneOf", "allOf", "enum", "const", "$ref")
_BYTES_A_TOKEN = 4


@dataclass(frozen=True)
class Rules:
    """What depends on the server. None: any model, no key, native ids as the flavour, no limit."""

    models: tuple[str, ...] | None = None
    api_key: str | None = "sk-test-key"
    native_ids: bool | None = None
    context_limit: int | None = None


@dataclass(frozen=True)
class Problem:
    """Why a request is refused, and with which error."""

    message: str
    type: str = "invalid_request_error"
    status: int = 400


def problems(
    body: dict[str, Any],
    flavour: Flavour,
    headers: Mapping[str, str] | None = None,
    rules: Rules | None = None,
) -> list[str]:
    """What is wrong with the request, in the API's words; headers (lower case) None: unchecked."""
    return [found.message for found in findings(body, flavour, headers, rules or Rules())]


def findings(
    body: dict[str, Any],
    flavour: Flavour,
    headers: Mapping[str, str] | None,
    rules: Rules,
    size: int | None = None,
) -> Iterator[Problem]:
    """The problems, the one that the API would report first; `size` of the body in bytes."""
    if headers is not None and (refused := unauthorized(headers, rules)):
        yield refused
    model = body.get("model")
    if not isinstance(model, str):
        yield Problem("model must be a string")
        model = ""
    elif rules.models is not None and model not in rules.models:
        yield Problem(
            f"Not found the model {model} or Permission denied", "resource_not_found_error", 404
        )
    native = flavour == "vllm" if rules.native_ids is None else rules.native_ids
    for sentence in message_problems(body, model, flavour, native):
        yield Problem(sentence)
    yield from map(Problem, _tool_problems(body, flavour))
    yield from map(Problem, _parameter_problems(body, model, flavour))
    if rules.context_limit is not None:
        size = len(json.dumps(body)) if size is None else size
        if size / _BYTES_A_TOKEN > rules.context_limit:
            yield Problem(f"Your request exceeded model token limit: {rules.context_limit}")


def unauthorized(headers: Mapping[str, str], rules: Rules) -> Problem | None:
    """The 401 of a request without the right key."""
    if rules.api_key is None or headers.get("authorization") == f"Bearer {rules.api_key}":
        return None
    return Problem("Invalid Authentication", "invalid_authentication_error", 401)


def _tool_problems(body: dict[str, Any], flavour: Flavour) -> Iterator[str]:
    tools = body.get("tools")
    if tools is None:
        if flavour != "hosted" and body.get("tool_choice") not in (None, "none"):
            yield "When using `tool_choice`, `tools` must be set."
        return
    if not isinstance(tools, list):
        yield "tools must be a list"
        return
    if not tools and flavour == "openai":
        yield "[] is too short - 'tools'"
    seen: set[str] = set()
    for at, tool in enumerate(tools):
        kind = tool.get("type") if isinstance(tool, dict) else None
        function = tool.get("function") if isinstance(tool, dict) else None
        if kind not in ("function", "builtin_function") or not isinstance(function, dict):
            yield f"tools[{at}] must be a function"
            continue
        name = function.get("name")
        plain = name[1:] if kind == "builtin_function" and isinstance(name, str) else name
        if not isinstance(plain, str) or not _TOOL_NAME.fullmatch(plain):
            yield f"Invalid request: function name {name!r} is invalid"
        elif name in seen:
            yield f"Invalid request: function name {name} is duplicated"
        else:
            seen.add(str(name))
        if kind == "function":
            yield from _schema_problems(function.get("parameters"), str(name))


def _schema_problems(schema: Any, name: str) -> Iterator[str]:
    start = f"Invalid request: tool {name}: parameters is not a valid json schema, details: "
    if schema is None:
        return
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield f"{start}<At path '': type must be object>"
        return
    for path in _untyped(schema, ""):
        yield f"{start}<At path '{path}': type is not defined>"


def _untyped(schema: Any, path: str) -> Iterator[str]:
    """Paths of the sub-schemas that say nothing about their type."""
    if not isinstance(schema, dict) or not any(shape in schema for shape in _SHAPES):
        yield path
        return
    for key in ("properties", "$defs", "definitions"):
        inner = schema.get(key, {})
        for name in inner if isinstance(inner, dict) else ():
            yield from _untyped(inner[name], f"{path}.{key}.{name}".lstrip("."))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _untyped(schema[key], f"{path}.{key}".lstrip("."))
    for key in ("anyOf", "oneOf", "allOf"):
        for at, inner in enumerate(schema.get(key, [])):
            yield from _untyped(inner, f"{path}.{key}[{at}]".lstrip("."))


def _parameter_problems(body: dict[str, Any], model: str, flavour: Flavour) -> Iterator[str]:
    for key in ("max_tokens", "max_completion_tokens"):
        value = body.get(key)
        # bool is an int in Python, not in JSON.
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value > 0):
            yield f"Invalid request: {key} must be a positive integer"
    for key in ("temperature", "top_p"):
        value = body.get(key)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not number:
            yield f"Invalid request: {key} must be a number"
    if not isinstance(body.get("stream", False), bool):
        yield "Invalid request: stream must be a boolean"
    if body.get("stream_options") is not None and body.get("stream") is not True:
        yield "Stream options can only be defined when `stream=True`."
    thinking = body.get("thinking")
    if flavour != "hosted":
        return
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if thinking is not None and kind not in ("enabled", "disabled"):
        yield "Invalid request: thinking.type must be enabled or disabled"
    if not _FIXED_SAMPLING.search(model):
        return
    for key, only in (("temperature", 0.6 if kind == "disabled" else 1), ("top_p", 0.95)):
        if body.get(key) not in (None, only):
            yield f"invalid {key}: only {only} is allowed for this model"
    if body.get("tool_choice") == "required" and kind != "disabled" and "k2" in model:
        yield "tool_choice 'required' is incompatible with thinking enabled"

"""What went wrong with a request, and what follows from it.

The classification trusts the error's ``type`` and ``code`` first, then the HTTP status, and reads
the words last: gateways answer a full engine with every status there is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kimi_cli.protocol.provider import ErrorClass, ModelError
from kimi_cli.protocol.stops import StopReason

RetryKind = Literal["patient", "brief", "none"]

_LONGEST_MESSAGE = 600
_LONGEST_READ = 4000
_TRANSPORT = frozenset(
    {"openai", "httpx", "httpx2", "httpcore", "httpcore2", "anyio", "ssl", "h11"}
)


class ConfigError(ValueError):
    """A setting that can't work, with a message for the user that says what can."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What follows from a class of failure: how it is tried again, why the turn ends when that
    did not help, and what the user can do."""

    retry: RetryKind
    stop: StopReason
    advice: str


REMEDIES: Mapping[ErrorClass, Remedy] = {
    ErrorClass.RATE: Remedy(
        "patient", StopReason.TEMPORARY, "The endpoint limits how fast you may send. Wait a while."
    ),
    ErrorClass.OVERLOAD: Remedy(
        "patient", StopReason.TEMPORARY, "The model's servers are full. Try again later."
    ),
    ErrorClass.QUOTA: Remedy(
        "none",
        StopReason.QUOTA,
        "The account's balance or plan is used up. Top it up, or wait for the plan's next window.",
    ),
    ErrorClass.AUTH: Remedy(
        "none",
        StopReason.AUTHENTICATION,
        "Check the API key. Keys of api.moonshot.ai, api.moonshot.cn and api.kimi.com are not"
        " interchangeable.",
    ),
    ErrorClass.PERMISSION: Remedy(
        "none",
        StopReason.AUTHENTICATION,
        "The key is valid but may not do this. Check the account's plan and the endpoint.",
    ),
    ErrorClass.MODEL_MISSING: Remedy(
        "none", StopReason.MODEL_MISSING, "Choose another model: `kimi models` lists them."
    ),
    ErrorClass.CONTEXT_TOO_LONG: Remedy(
        "none", StopReason.CONTEXT_TOO_LONG, "The conversation no longer fits. Start a new one."
    ),
    ErrorClass.CONTENT_FILTER: Remedy(
        "none", StopReason.CONTENT_FILTER, "The endpoint refused the content. Rephrase the request."
    ),
    ErrorClass.REQUEST: Remedy(
        "none", StopReason.CONFIGURATION, "Check the base URL, the model and the model's settings."
    ),
    ErrorClass.SERVER: Remedy(
        "brief", StopReason.TEMPORARY, "The server failed. Try again, or check its log."
    ),
    ErrorClass.PROTOCOL: Remedy(
        "brief",
        StopReason.TEMPORARY,
        "The endpoint does not speak the protocol as expected. Check the base URL.",
    ),
    ErrorClass.STALL: Remedy(
        "brief",
        StopReason.TEMPORARY,
        "The server accepted the request but went silent. Try again, or raise the timeouts.",
    ),
    ErrorClass.NETWORK: Remedy(
        "brief", StopReason.TEMPORARY, "Check the network, the proxy settings and the base URL."
    ),
}

# Moonshot: platform.kimi.ai, "Error codes"; the others: OpenAI, Anthropic, vLLM.
_BY_TYPE: Mapping[str, ErrorClass] = {
    "content_filter": ErrorClass.CONTENT_FILTER,
    "invalid_authentication_error": ErrorClass.AUTH,
    "incorrect_api_key_error": ErrorClass.AUTH,
    "authentication_error": ErrorClass.AUTH,
    "invalid_api_key": ErrorClass.AUTH,
    "permission_denied_error": ErrorClass.PERMISSION,
    "permission_error": ErrorClass.PERMISSION,
    "access_terminated_error": ErrorClass.PERMISSION,
    "model_not_found": ErrorClass.MODEL_MISSING,
    "exceeded_current_quota_error": ErrorClass.QUOTA,
    "insufficient_quota": ErrorClass.QUOTA,
    "billing_error": ErrorClass.QUOTA,
    "engine_overloaded_error": ErrorClass.OVERLOAD,
    "overloaded_error": ErrorClass.OVERLOAD,
    "rate_limit_reached_error": ErrorClass.RATE,
    "rate_limit_error": ErrorClass.RATE,
    "rate_limit_exceeded": ErrorClass.RATE,
    "context_length_exceeded": ErrorClass.CONTEXT_TOO_LONG,
    "exceed_context_size_error": ErrorClass.CONTEXT_TOO_LONG,
    "model_context_window_exceeded": ErrorClass.CONTEXT_TOO_LONG,
    "request_too_large": ErrorClass.CONTEXT_TOO_LONG,
    "server_error": ErrorClass.SERVER,
    "internal_server_error": ErrorClass.SERVER,
    "internalservererror": ErrorClass.SERVER,
    "api_error": ErrorClass.SERVER,
    "timeout_error": ErrorClass.SERVER,
}

_REFUSALS = frozenset({"invalid_request_error", "badrequesterror"})

_BY_STATUS: Mapping[int, ErrorClass] = {
    401: ErrorClass.AUTH,
    402: ErrorClass.QUOTA,
    403: ErrorClass.PERMISSION,
    408: ErrorClass.SERVER,
    409: ErrorClass.SERVER,
    413: ErrorClass.CONTEXT_TOO_LONG,
    425: ErrorClass.SERVER,
    429: ErrorClass.RATE,
    529: ErrorClass.OVERLOAD,
}

_OVERLOADED = re.compile(r"overload|at capacity|server is busy", re.IGNORECASE)
_NO_QUOTA = re.compile(
    r"current (token )?quota|insufficient (balance|quota|credit)|account balance|recharge"
    r"|in arrears|billing cycle|usage limit",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content.filter|high.risk|content management policy", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"(not found the|no such|unknown|invalid) model\b"
    r"|\bmodel\b.{0,200}\b(not (be )?(found|exist|available|supported)|doesn't exist)",
    re.IGNORECASE | re.DOTALL,
)
_HTML_TITLE = re.compile(r"<(title|h1)[^>]*>\s*(.*?)\s*</\1>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]+>")


def classify(status: int | None, body: str) -> tuple[ErrorClass, str]:
    """The class of a failed answer and the server's own words, from the HTTP status (None: an
    error inside a stream) and the body's text."""
    kinds, words = _read(body)
    return _classify(status, kinds, words), plain(words)


def from_response(
    status: int, headers: Mapping[str, str], body: str, *, host: str, now: float
) -> ModelError:
    """The error of an HTTP answer other than 200. ``now`` is seconds since the epoch, for a
    Retry-After that names a date."""
    kind, words = classify(status, body)
    if 300 <= status < 400:
        place = headers.get("location", "elsewhere")
        words = f"{host} redirects to {place}; set that as the base URL if it is right"
    elif not words:
        words = f"{host} answered HTTP {status} without an explanation"
    elif kind in (ErrorClass.SERVER, ErrorClass.REQUEST, ErrorClass.PROTOCOL):
        words = f"HTTP {status} from {host}: {words}"
    return ModelError(kind, words, status, retry_after(headers, now), _window(kind, body))


def from_stream(error: Any) -> ModelError:
    """The error of an event inside a stream that had begun well."""
    body = json.dumps({"error": error})
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    kind, words = classify(status, body)
    words = words or "the server reported an error in the middle of its answer"
    return ModelError(kind, words, window=_window(kind, body))


def from_exception(error: BaseException, host: str) -> ModelError:
    """The error of a request that got no answer: what the transport raised, in words a user
    understands. Knows the causes by their standard classes and httpx's by their names, so that
    nothing heavy has to be imported."""
    if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in _TRANSPORT:
        words = f"the answer of {host} could not be read ({type(error).__name__}: {error})"
        return ModelError(ErrorClass.PROTOCOL, words)
    causes = list(_causes(error))
    names = {type(cause).__name__ for cause in causes}
    return ModelError(ErrorClass.NETWORK, f"cannot reach {host}: {_why(causes, names)}")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds from ``Retry-After`` (a number or an HTTP date, RFC 9110) or ``retry-after-ms``."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    seconds = _number(value)
    if seconds is not None:
        return seconds
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _window(kind: ErrorClass, body: str) -> int | None:
    """The window that a refusal as too long names, in its words or beside them."""
    if kind is not ErrorClass.CONTEXT_TOO_LONG:
        return None
    from kimi_cli.model.overflow import window_named

    return window_named(_read(body)[1]) or window_named(body)


def _read(body: str) -> tuple[list[str], str]:
    """The structured kinds (type, code) and the words of an error body of any shape."""
    try:
        document = json.loads(body)
    except ValueError:
        return [], _line(body)
    error = document.get("error", document) if isinstance(document, dict) else document
    if not isinstance(error, dict):
        return [], _line(error if isinstance(error, str) else json.dumps(error))
    inner = error.get("error")
    source = inner if isinstance(inner, dict) else error
    kinds = [str(source[key]).lower() for key in ("type", "code") if source.get(key) is not None]
    for key in ("message", "detail", "msg"):
        if said := source.get(key):
            return kinds, _line(said if isinstance(said, str) else json.dumps(said))
    return kinds, ", ".join(kinds)


def plain(text: str) -> str:
    """Text or an HTML page as one short line."""
    return _line(text, _LONGEST_MESSAGE)


def _line(text: str, limit: int = _LONGEST_READ) -> str:
    if text.lstrip()[:1] == "<":
        title = _HTML_TITLE.search(text)
        text = _TAG.sub(" ", title.group(2) if title else text)
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _classify(status: int | None, kinds: list[str], words: str) -> ErrorClass:
    if status is None and _REFUSALS.intersection(kinds):
        status = 400
    found = next((_BY_TYPE[kind] for kind in kinds if kind in _BY_TYPE), None)
    if found in (ErrorClass.SERVER, None) and status in (None, 400, 422, 500):
        from kimi_cli.model.overflow import too_long

        if too_long(words):
            return ErrorClass.CONTEXT_TOO_LONG
    if found in (ErrorClass.RATE, ErrorClass.SERVER, None) and _OVERLOADED.search(words):
        # The subscription endpoint says "engine overloaded" under the type rate_limit_error.
        return ErrorClass.OVERLOAD
    if found is ErrorClass.RATE or (found is None and status in (403, 429)):
        if _NO_QUOTA.search(words):
            return ErrorClass.QUOTA
        return found or _BY_STATUS[status or 429]
    if found is not None:
        return found
    if status == 404 or any("not_found" in kind or "notfound" in kind for kind in kinds):
        return ErrorClass.MODEL_MISSING if _NO_MODEL.search(words) else ErrorClass.REQUEST
    if status is not None and status in _BY_STATUS:
        return _BY_STATUS[status]
    if status is None or status >= 500:
        return ErrorClass.SERVER
    if _FILTERED.search(words):
        return ErrorClass.CONTENT_FILTER
    if status == 400 and _NO_MODEL.search(words):
        return ErrorClass.MODEL_MISSING
    return ErrorClass.REQUEST


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and what led to it, each once."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        cause = waiting.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__]
        if isinstance(cause, BaseExceptionGroup):
            waiting += cause.exceptions


def _why(causes: list[BaseException], names: set[str]) -> str:
    import socket
    import ssl

    # A handshake that takes too long has an SSLError among its causes, too.
    if "ConnectTimeout" in names:
        return "no connection in time"
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({getattr(cause, 'reason', '') or cause})"
        if isinstance(cause, socket.gaierror):
            return "name not resolved"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        if isinstance(cause, ConnectionResetError | BrokenPipeError):
            return "the connection was cut"
    if "ProxyError" in names:
        return f"the proxy refused ({causes[0]})"
    if names & {"RemoteProtocolError", "ReadError", "EndOfStream", "IncompleteRead"}:
        return "the connection was cut"
    if names & {"WriteTimeout", "ReadTimeout", "PoolTimeout"}:
        return "the connection timed out"
    numbered = [cause for cause in causes if isinstance(cause, OSError) and cause.errno]
    if numbered:
        return numbered[-1].strerror or str(numbered[-1])
    return str(causes[-1]) or type(causes[-1]).__name__

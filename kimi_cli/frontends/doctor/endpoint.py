"""Checks of the endpoint, one after the other: each makes sense only if the one before it went
well enough."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from urllib.parse import urlsplit

from kimi_cli.agent.model_config import missing_key
from kimi_cli.frontends.doctor.finding import Finding, Status
from kimi_cli.frontends.doctor.trial import RoundTrip, listed, round_trip
from kimi_cli.frontends.plain import clean, counted, seconds
from kimi_cli.model.endpoint import Models
from kimi_cli.model.errors import REMEDIES, ConfigError
from kimi_cli.protocol.provider import ErrorClass, ModelError
from kimi_cli.protocol.stops import StopReason
from kimi_cli.settings import Loaded

LIST_SECONDS = 15.0
TOOL_SECONDS = 90.0
"""For two requests to a model that may think."""
UNREACHABLE = (ErrorClass.NETWORK, ErrorClass.STALL)
REFUSED = (ErrorClass.AUTH, ErrorClass.PERMISSION)
PARSER = (
    "Start the server with its tool parser: vLLM `--enable-auto-tool-choice --tool-call-parser "
    "kimi_k2`, SGLang `--tool-call-parser kimi_k2`."
)
NAMES = ("key", "endpoint", "model", "tool call")


async def check_endpoint(loaded: Loaded) -> AsyncGenerator[Finding]:
    """The findings NAMES, each as soon as it is known. Every wait has its limit."""
    settings = loaded.settings
    key = _key(loaded)
    start = time.monotonic()
    found: Models | ModelError
    try:
        async with asyncio.timeout(min(LIST_SECONDS, _patience(loaded))):
            found = await listed(settings)
    except TimeoutError:
        found = ModelError(ErrorClass.STALL, f"{_host(loaded)} does not answer")
    except ConfigError as problem:
        yield key
        yield Finding("endpoint", "fail", str(problem))
        for name in NAMES[2:]:
            yield _untried(name)
        return
    took = time.monotonic() - start
    error = found if isinstance(found, ModelError) else found.error
    if error is not None and error.kind in REFUSED and key.status == "ok":
        words = f"{_host(loaded)} refuses it: {clean(error.message)}"
        advice = f"{REMEDIES[error.kind].advice} `kimi login` takes another one."
        key = Finding("key", "fail", words, advice, StopReason.AUTHENTICATION)
    yield key
    yield _reached(loaded, found, error, took)
    if key.status == "fail" or (error is not None and error.kind in UNREACHABLE):
        for name in NAMES[2:]:
            yield _untried(name)
        return
    yield _model(loaded, found)
    yield await _tool_call(loaded)


def _key(loaded: Loaded) -> Finding:
    settings = loaded.settings
    if problem := missing_key(settings):
        advice = "`kimi login`, or set KIMI_API_KEY."
        return Finding("key", "fail", problem.partition(":")[0], advice, StopReason.AUTHENTICATION)
    if not settings.endpoint.api_key.get_secret_value():
        return Finding("key", "ok", "none, and none may be needed")
    source = loaded.sources["endpoint.api_key"]
    loose = next((w for w in loaded.warnings if "open to others" in w), "")
    if loose:
        detail, _, advice = loose.partition(": ")
        return Finding("key", "warn", detail, advice)
    return Finding("key", "ok", f"from {source}")


def _reached(
    loaded: Loaded, found: Models | ModelError, error: ModelError | None, took: float
) -> Finding:
    url = loaded.settings.endpoint.base_url
    if error is None:
        assert isinstance(found, Models)
        count = counted(len(found.models), "model")
        words = f"{url} ({found.dialect.name}) lists {count}{_after(took)}"
        return Finding("endpoint", "ok", words)
    if error.kind in UNREACHABLE:
        return _failed("endpoint", error)
    if error.kind in REFUSED:
        return Finding("endpoint", "ok", f"{url} answers{_after(took)}")
    words = f"{url} does not list its models: {clean(error.message)}"
    return Finding("endpoint", "warn", words, "It should end in /v1 as a rule.")


def _model(loaded: Loaded, found: Models | ModelError) -> Finding:
    model = loaded.settings.model
    if isinstance(found, ModelError) or found.error is not None or not found.models:
        return Finding("model", "warn", f"{model}: not known whether it is there")
    names = [one.id for one in found.models]
    info = next((one.info for one in found.models if one.id == model), None)
    if info is not None:
        return Finding("model", "ok", f"{model}, {info.context // 1024}k context")
    advice = f"`kimi config set model NAME` with one of: {_some(names)}"
    words = f"{model} is not there"
    return Finding("model", "fail", words, advice, StopReason.MODEL_MISSING)


async def _tool_call(loaded: Loaded) -> Finding:
    limit = min(TOOL_SECONDS, 2 * _patience(loaded))
    try:
        async with asyncio.timeout(limit):
            done = await round_trip(loaded.settings)
    except TimeoutError:
        words = f"no whole answer within {limit:.0f} s"
        advice = REMEDIES[ErrorClass.STALL].advice
        return Finding("tool call", "fail", words, advice, StopReason.TEMPORARY)
    except ConfigError as error:
        return Finding("tool call", "fail", str(error))
    if done.error is not None:
        return _failed("tool call", done.error)
    return _judged(done)


def _judged(done: RoundTrip) -> Finding:
    if not done.called:
        words = "the model answered without the tool call that it was asked for"
        return Finding("tool call", "fail", words, PARSER, StopReason.VERIFY_FAILED)
    took = _after(done.seconds)
    status: Status = "warn"
    if done.salvaged:
        return Finding("tool call", status, f"it came as raw markers in the text{took}", PARSER)
    if not done.answered:
        words = f"called, but the answer ignores what the tool said{took}"
        return Finding("tool call", status, words, "Try a larger model, or `kimi doctor` again.")
    return Finding("tool call", "ok", f"called, and its result understood{took}")


def _failed(name: str, error: ModelError) -> Finding:
    remedy = REMEDIES[error.kind]
    return Finding(name, "fail", clean(error.message), remedy.advice, remedy.stop)


def _untried(name: str) -> Finding:
    return Finding(name, "warn", "not tried")


def _patience(loaded: Loaded) -> float:
    timeouts = loaded.settings.timeouts
    return timeouts.connect + timeouts.first_byte


def _host(loaded: Loaded) -> str:
    return urlsplit(loaded.settings.endpoint.base_url).netloc


def _after(took: float) -> str:
    words = seconds(took)
    return f" · {words}" if words else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return clean(", ".join(names[:8]) + more)

"""Classification of failures."""

import json
import socket
import ssl
from typing import Any

import pytest

from kimi_cli.model.errors import (
    REMEDIES,
    classify,
    from_exception,
    from_response,
    from_stream,
    retry_after,
)
from kimi_cli.protocol.provider import ErrorClass
from kimi_cli.protocol.stops import StopReason

E = ErrorClass
NOW = 1_800_000_000.0


def body(type: str = "", message: str = "", **more: Any) -> str:
    return json.dumps({"error": {"type": type, "message": message, **more}})


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        # Moonshot's table.
        (400, body("content_filter", "The request was rejected: high risk"), E.CONTENT_FILTER),
        (400, body("invalid_request_error", "Invalid request: tools[0]"), E.REQUEST),
        (
            400,
            body("invalid_request_error", "Your request exceeded model token limit: 262144"),
            E.CONTEXT_TOO_LONG,
        ),
        (400, body("invalid_request_error", "Input token length too long"), E.CONTEXT_TOO_LONG),
        (401, body("invalid_authentication_error", "Invalid Authentication"), E.AUTH),
        (401, body("incorrect_api_key_error", "Incorrect API key provided"), E.AUTH),
        (
            403,
            body("permission_denied_error", "The API you are accessing is not open"),
            E.PERMISSION,
        ),
        (403, body("access_terminated_error", "only available for coding agents"), E.PERMISSION),
        (
            404,
            body("resource_not_found_error", "Not found the model x or Permission denied"),
            E.MODEL_MISSING,
        ),
        (404, body("resource_not_found_error", "no such endpoint: POST /chat"), E.REQUEST),
        (429, body("engine_overloaded_error", "The engine is overloaded"), E.OVERLOAD),
        (429, body("exceeded_current_quota_error", "check your account balance"), E.QUOTA),
        (429, body("rate_limit_reached_error", "reached max RPM: 3"), E.RATE),
        (500, body("server_error", "failed to extract file"), E.SERVER),
        # The subscription.
        (429, body("rate_limit_error", "engine overloaded, please try again"), E.OVERLOAD),
        (429, body("rate_limit_error", "You've reached your usage limit"), E.QUOTA),
        (403, body("", "You've reached your usage limit for this billing cycle"), E.QUOTA),
        # OpenAI and Anthropic.
        (
            400,
            body("invalid_request_error", "x", code="context_length_exceeded"),
            E.CONTEXT_TOO_LONG,
        ),
        (429, body("insufficient_quota", "You exceeded your current quota"), E.QUOTA),
        (
            404,
            body("invalid_request_error", "The model `x` does not exist", code="model_not_found"),
            E.MODEL_MISSING,
        ),
        (
            529,
            json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}),
            E.OVERLOAD,
        ),
        # vLLM and SGLang.
        (
            400,
            body("BadRequestError", "This model's maximum context length is 8192 tokens. However"),
            E.CONTEXT_TOO_LONG,
        ),
        (
            400,
            json.dumps({"object": "error", "message": "prompt is longer than max_model_len"}),
            E.CONTEXT_TOO_LONG,
        ),
        (400, json.dumps({"detail": "The input is too long for this model"}), E.CONTEXT_TOO_LONG),
        (404, body("NotFoundError", "The model `x` does not exist.", code=404), E.MODEL_MISSING),
        (404, json.dumps({"detail": "Not Found"}), E.REQUEST),
        (401, json.dumps({"error": "Unauthorized"}), E.AUTH),
        (
            400,
            body("BadRequestError", '"auto" tool choice requires --enable-auto-tool-choice'),
            E.REQUEST,
        ),
        # Statuses alone.
        (402, "", E.QUOTA),
        (405, "Method Not Allowed", E.REQUEST),
        (408, "", E.SERVER),
        (413, "<html><h1>413 Request Entity Too Large</h1></html>", E.CONTEXT_TOO_LONG),
        (422, json.dumps({"detail": [{"msg": "field required"}]}), E.REQUEST),
        (429, "Too many requests", E.RATE),
        (502, "<html><title>502 Bad Gateway</title></html>", E.SERVER),
        (503, "", E.SERVER),
        (503, body("", "The server is overloaded"), E.OVERLOAD),
        (504, "<html><head><title>504 Gateway Time-out</title>", E.SERVER),
        # Inside a stream.
        (None, body("server_error", "the engine died"), E.SERVER),
        (None, body("InternalServerError", "EngineCore encountered an issue"), E.SERVER),
        (None, body("invalid_request_error", "nope"), E.REQUEST),
        (None, body("content_filter", "nope"), E.CONTENT_FILTER),
        (None, body("rate_limit_error", "engine overloaded"), E.OVERLOAD),
    ],
)
def test_classes(status: int | None, text: str, kind: ErrorClass) -> None:
    assert classify(status, text)[0] is kind


def test_a_web_page_becomes_its_title() -> None:
    error = from_response(
        502, {}, "<html><title>502 Bad\n Gateway</title><p>x</html>", host="api.test", now=NOW
    )
    assert error.message == "HTTP 502 from api.test: 502 Bad Gateway"
    assert error.status == 502


def test_a_long_body_is_cut() -> None:
    assert len(from_response(500, {}, "x" * 100_000, host="h", now=NOW).message) < 700


def test_a_redirect_names_its_target() -> None:
    error = from_response(301, {"location": "https://b.test/v1"}, "", host="a.test", now=NOW)
    assert error.kind is E.REQUEST
    assert "https://b.test/v1" in error.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:40 GMT"}, 100.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_an_error_inside_a_stream_uses_its_code_as_status() -> None:
    assert from_stream({"code": 401, "message": "no"}).kind is E.AUTH
    assert from_stream("boom").message == "boom"
    assert from_stream({}).message


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (ConnectionRefusedError(111, "refused"), "connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "name not resolved"),
        (ssl.SSLError(1, "[SSL] wrong version number"), "TLS failed"),
        (ConnectionResetError(104, "reset"), "the connection was cut"),
        (OSError(101, "Network is unreachable"), "Network is unreachable"),
    ],
)
def test_a_transport_failure_is_said_plainly(cause: Exception, words: str) -> None:
    outer = OSError("All connection attempts failed")
    outer.__cause__ = ExceptionGroup("several", [cause])
    error = from_exception(outer, "api.test")
    assert error.kind is E.NETWORK
    assert error.message.startswith("cannot reach api.test: ")
    assert words in error.message


def test_anything_else_is_an_answer_that_could_not_be_read() -> None:
    assert from_exception(KeyError("x"), "h").kind is E.PROTOCOL


def test_every_class_has_a_remedy() -> None:
    assert set(REMEDIES) == set(ErrorClass)
    assert REMEDIES[E.AUTH].stop is StopReason.AUTHENTICATION
    retried = {kind for kind, remedy in REMEDIES.items() if remedy.retry != "none"}
    assert retried == {E.RATE, E.OVERLOAD, E.SERVER, E.PROTOCOL, E.STALL, E.NETWORK}
    assert {REMEDIES[kind].stop for kind in retried} == {StopReason.TEMPORARY}

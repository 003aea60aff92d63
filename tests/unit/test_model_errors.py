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
from kimi_cli.model.overflow import too_long, window_named
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


# What servers say, and the window they name; the numbers of what was requested must not be taken.
TOO_LONG = [
    # vLLM, by age.
    (
        "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens"
        " (112946 in the messages, 10000 in the completion). Please reduce the length of the"
        " messages or completion.",
        16_384,
    ),
    (
        "This model's maximum context length is 4096 tokens. However, your request has 5000 input"
        " tokens. Please reduce the length of the input messages.",
        4096,
    ),
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 32768. This model's maximum context"
        " length is 16384 tokens and your request has 9000 input tokens (32768 > 16384 - 9000).",
        16_384,
    ),
    (
        "You passed 9001 input tokens and requested 0 output tokens. However, the model's context"
        " length is only 8192 tokens, resulting in a maximum input length of 8192 tokens. Please"
        " reduce the length of the input prompt.",
        8192,
    ),
    (
        "This model's maximum context length is 8192 tokens. However, your prompt contains 70000"
        " characters (more than 65536 characters, which is the upper bound for 8192 input tokens).",
        8192,
    ),
    ("Input length (265330) exceeds model's maximum context length (262144).", 262_144),
    ("The decoder prompt (length 9000) is longer than the maximum model length of 8192.", 8192),
    ("max_tokens must be at least 1, got -186.", None),
    # SGLang.
    ("The input (61709 tokens) is longer than the model's context length (40960 tokens).", 40_960),
    (
        "Requested token count exceeds the model's maximum context length of 65536 tokens. You"
        " requested a total of 67298 tokens: 50914 tokens from the input messages and 16384 tokens"
        " for the completion.",
        65_536,
    ),
    ("Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).", 59_862),
    # Moonshot, now and before.
    (
        "Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)",
        262_144,
    ),
    ("Your request exceeded model token limit", None),
    ("model max length exceeded, max length:8192", 8192),
    ("Input token length too long", None),
    # llama.cpp, LM Studio, Ollama, TGI, TensorRT-LLM.
    ("request (9412 tokens) exceeds the available context size (8192 tokens), try", 8192),
    ("Requested tokens (516) exceed context window of 512", 512),
    ("Context size has been exceeded.", None),
    (
        "The number of tokens to keep from the initial prompt is greater than the context length"
        " (n_keep: 5120>= n_ctx: 4096). Try to load the model with a larger context length",
        4096,
    ),
    ("prompt too long; exceeded max context length by 12 tokens", None),
    (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000"
        " `inputs` tokens and 20 `max_new_tokens`",
        4096,
    ),
    ("Prompt length (9000) exceeds maximum input length (8191).", 8191),
    ("length of prompt_tokens (33000) must be less than max_seq_len (32768).", 32_768),
    # Hosted models of others.
    (
        "This model's maximum context length is 128000 tokens. However, your messages resulted in"
        " 202868 tokens (202767 in the messages, 101 in the functions).",
        128_000,
    ),
    ("Your input exceeds the context window of this model.", None),
    ("Input tokens exceed the configured limit of 272000 tokens.", 272_000),
    ("prompt is too long: 213462 tokens > 200000 maximum", 200_000),
    (
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
        1_048_575,
    ),
    (
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens",
        131_072,
    ),
    ("Prompt contains 5000 tokens, too large for model with 4096 maximum context length", 4096),
    ("Range of input length should be [1, 30000]", 30_000),
    ("prompt token count of 150000 exceeds the limit of 128000", 128_000),
    ("Please reduce the length of the messages or completion.", None),
    ("Input is too long for requested model.", None),
    # Gateways.
    (
        "This endpoint's maximum context length is 1,048,576 tokens. However, you requested about"
        " 2,000,000 tokens",
        1_048_576,
    ),
    (
        "litellm.BadRequestError: litellm.ContextWindowExceededError: OpenAIException - This"
        " model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
        8192,
    ),
    ("Prompt has 100129 tokens, but the configured context size is 100000 tokens", 100_000),
    (
        "Input length 131393 exceeds the maximum allowed input length of 131040 tokens.",
        131_040,
    ),
]


@pytest.mark.parametrize(("words", "window"), TOO_LONG)
@pytest.mark.parametrize("status", [400, None])
def test_requests_that_are_too_long(words: str, window: int | None, status: int | None) -> None:
    assert too_long(words)
    assert window_named(words) == window
    document = {"type": "invalid_request_error", "message": words}
    if status is None:
        error = from_stream(document)
    else:
        error = from_response(status, {}, json.dumps({"error": document}), host="h", now=NOW)
    assert (error.kind, error.window) == (E.CONTEXT_TOO_LONG, window)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (413, body("tokens", "Request too large for model on tokens per minute (TPM): Limit 10000,"
                   " Requested 15088", code="rate_limit_exceeded"), E.RATE),
        (400, body("", "ThrottlingException: Too many tokens, please wait before trying again."),
         E.REQUEST),
        (429, body("", "Too many tokens"), E.RATE),
        (400, body("", "max_tokens must be less than or equal to 16384, the maximum value for"
                   " max_tokens is less than the context_window for this model"), E.REQUEST),
        (400, body("", "messages[3]: string too long. Expected a maximum length of 1000"),
         E.REQUEST),
        (503, body("server_error", "the context window service is down"), E.SERVER),
        (404, body("NotFoundError", "The model `long-context-length` does not exist."),
         E.MODEL_MISSING),
    ],
)  # fmt: skip
def test_other_limits_are_not_the_window(status: int, text: str, kind: ErrorClass) -> None:
    error = from_response(status, {}, text, host="h", now=NOW)
    assert (error.kind, error.window) == (kind, None)


def test_the_window_beside_the_words() -> None:
    """llama.cpp has the numbers in fields, and some of its versions say 500."""
    words = "the request exceeds the available context size. try increasing the context size"
    for status, kind in ((400, "exceed_context_size_error"), (500, "server_error")):
        text = body(kind, words, code=status, n_prompt_tokens=14429, n_ctx=8192)
        error = from_response(status, {}, text, host="h", now=NOW)
        assert (error.kind, error.window) == (E.CONTEXT_TOO_LONG, 8192)


def test_a_window_far_back_in_a_long_message_is_found() -> None:
    words = "litellm.BadRequestError: " + "VeryLongProviderName " * 60 + TOO_LONG[0][0]
    error = from_response(400, {}, body("", words), host="h", now=NOW)
    assert (error.kind, error.window) == (E.CONTEXT_TOO_LONG, 16_384)
    assert len(error.message) < 700


def test_a_number_that_can_be_no_window_is_none() -> None:
    assert window_named("maximum context length is 3 tokens") is None


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

"""`kimi serve verify` against real HTTP: a good endpoint, and each way to be a bad one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kimi_cli.model.verify.cases import CASES
from tests.support.good_model import Change, case_named, good, wants_thinking
from tests.support.program import Kimi, Run
from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error, leaked, text, tool_calls
from tests.support.server import ScriptedServer

pytestmark = pytest.mark.long

Serve = Callable[..., ScriptedServer]
KIMI = "moonshotai/Kimi-K2.5"
LIMIT = 9_000
"""Tokens of the window."""
COUNTED = LIMIT // 2
"""The same for the scripted server, which takes four bytes for a token: the letters of the prompt
that is too long have two each, and the longest case still fits."""
ENTRY = {"id": KIMI, "object": "model", "owned_by": "vllm", "root": KIMI, "max_model_len": LIMIT}
NATIVE = "functions.NAME:IDX"


def serving(serve: Serve, *changes: Change, thinks: bool = True, **options: Any) -> ScriptedServer:
    """A vLLM with a good model whose answers are changed."""
    given: dict[str, Any] = {"flavour": "vllm", "models": [ENTRY], "context_limit": COUNTED}
    return serve(good(*changes, thinks=thinks), **(given | options))


def verify(kimi: Kimi, server: ScriptedServer, *args: str) -> tuple[Run, dict[str, Any]]:
    run = kimi("serve", "verify", server.base_url, "--json", *args, server=server)
    document = run.json()
    assert document["exit_code"] == run.code, run.err
    assert document["passed"] == (run.code == 0)
    return run, document


def results(document: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["result"] for check in document["checks"]}


def failed(document: dict[str, Any]) -> set[str]:
    return {name for name, result in results(document).items() if result == "failed"}


def check(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in document["checks"] if one["name"] == name)


def test_a_good_endpoint_passes_every_check(kimi: Kimi, serve: Serve) -> None:
    server = serving(serve)
    run, document = verify(kimi, server)
    assert set(results(document).values()) == {"ok"}, document["checks"]
    assert run.code == 0
    calls = document["tool_calls"]
    assert calls["asked"] == calls["called"] == calls["valid"] == 2 * len(CASES)
    assert calls["valid_rate"] == calls["called_rate"] == 1
    assert calls["faithful"] == calls["valid"]
    assert {trial["case"] for trial in document["trials"]} == {case.name for case in CASES}
    assert document["requests"] == len(server.requests) + len(server.rejected)
    assert document["estimate"]["requests"] == document["requests"]
    # The prompt that is too long is the only one that was refused.
    assert len(server.rejected) == 1
    assert not server.script_errors


def test_the_scorecard_for_people(kimi: Kimi, serve: Serve) -> None:
    server = serving(serve)
    run = kimi("serve", "verify", server=server)
    assert run.code == 0, run.out
    first, takes, *_ = run.out.splitlines()
    assert first.startswith("kimi serve verify http://") and KIMI in first
    assert "requests" in takes and "must be refused" in takes
    assert "✓ tool calls, streamed" in run.out and "12 of 12 asked for came" in run.out
    assert "called 100 % (24 of 24) · schema-valid 100 % (24 of 24)" in run.out
    assert run.out.splitlines()[-1].startswith("  passed")
    assert "\x1b" not in run.out


def test_a_hosted_endpoint_is_verified_in_its_own_dialect(kimi: Kimi, serve: Serve) -> None:
    kimi.configure({"endpoint": {"dialect": "moonshot"}})
    server = serve(good(), flavour="hosted", context_limit=COUNTED, models=[
        {"id": "kimi-k2.5", "object": "model", "owned_by": "moonshot", "context_length": LIMIT}
    ])  # fmt: skip
    run = kimi("serve", "verify", "--json", "--model", "kimi-k2.5", server=server)
    document = run.json()
    assert failed(document) == set(), document["checks"]
    assert document["dialect"] == "moonshot"
    assert document["estimate"]["most_cost"] > 0
    assert document["estimate"]["currency"] == "USD"
    assert "costs at most $" in run.err
    for record in server.requests:
        assert "temperature" not in record.body


def only(streamed: bool, change: Change) -> Change:
    return lambda record, reply: (
        change(record, reply) if record.body["stream"] is streamed else reply
    )


def called(change: Callable[[Reply], Reply]) -> Change:
    """For answers that bring calls."""
    return lambda record, reply: change(reply) if reply.calls else reply


def with_calls(**changes: Any) -> Change:
    return called(lambda r: r.but(calls=tuple(replace(call, **changes) for call in r.calls)))


def as_text(record: Recorded, reply: Reply) -> Reply:
    if not reply.calls:
        return reply
    return text(leaked(list(reply.calls)), usage=reply.usage, thinking=reply.thinking)


def think_in_text(record: Recorded, reply: Reply) -> Reply:
    if reply.thinking is None:
        return reply
    return reply.but(thinking=None, text=f"<think>{reply.thinking}</think>{reply.text or ''}")


def dropped_reasoning(record: Recorded, reply: Reply) -> Reply:
    from tests.support.good_model import prompt_tokens

    size = prompt_tokens(record)
    for message in record.messages:
        size -= len(str(message.get("reasoning", "")).split()) * 2
    return reply.but(usage=replace(reply.usage, prompt=max(size, 1)))


def mixed_up(record: Recorded, reply: Reply) -> Reply:
    if any("number 12." in str(message["content"]) for message in record.messages[:1]):
        return tool_calls([("look_up", {"number": 13})], usage=reply.usage)
    return reply


BAD: dict[str, tuple[tuple[Change, ...], set[str]]] = {
    "a parser that does not suit": (
        (as_text,),
        {
            *("tool calls, streamed", "tool calls, plain", "leaked markers", "forced call"),
        },
    ),
    "streams cut the arguments": (
        (only(True, with_calls(arguments='{"half": ')),),
        {
            *("tool calls, streamed", "parallel calls", "forced call", "several steps"),
            "concurrent requests",
        },
    ),
    "plain answers lose the calls": (
        (only(False, lambda record, reply: reply.but(calls=())),),
        {"tool calls, plain", "concurrent requests"},
    ),
    "other ids than the model's": (
        (called(lambda r: r.but(calls=tuple(
            replace(call, id=f"chatcmpl-tool-{at}") for at, call in enumerate(r.calls)
        ))),),
        {"call ids"},
    ),
    "no ids": ((with_calls(id=None),), {"call ids"}),
    "the same number for each call": (
        (called(lambda r: r.but(calls=tuple(
            replace(call, id=f"functions.{call.name}:0") for call in r.calls
        ))),),
        {"call ids"},
    ),
    "reasoning in the text": (
        (think_in_text,), {"reasoning", "leaked markers", "thinking switch"}
    ),
    "no reasoning when streamed": (
        (only(True, lambda record, reply: reply.but(thinking=None)),),
        {"reasoning", "thinking switch"},
    ),
    "no switch for thinking": (
        (lambda record, reply: reply.but(thinking="still thinking"),), {"thinking switch"}
    ),
    "reasoning that is dropped on the way back": ((dropped_reasoning,), {"reasoning goes back"}),
    "no usage in streams": (
        (only(True, lambda record, reply: reply.but(usage_at="absent")),), {"usage"}
    ),
    "a usage that can't be": (
        (lambda record, reply: reply.but(usage=replace(reply.usage, prompt=100_000)),),
        {"usage", "reasoning goes back"},
    ),
    "stop with calls": ((called(lambda r: r.but(finish_reason="stop")),), {"finish reasons"}),
    "a stream without its end": ((lambda record, reply: reply.but(done=False),), {"form"}),
    "answers that get mixed up": ((mixed_up,), {"concurrent requests"}),
    "one call at a time": (
        (called(lambda r: r.but(calls=r.calls[:1])),), {"parallel calls"}
    ),
    "a cut answer that says stop": (
        (lambda record, reply: reply.but(finish_reason="stop")
         if reply.finish_reason == "length" else reply,),
        {"output limit"},
    ),
    "markers at the end of a text": (
        (lambda record, reply: reply.but(text=f"{reply.text}<|im_end|>") if reply.text else reply,),
        {"leaked markers"},
    ),
}  # fmt: skip
DECIDES_NOTHING = {
    *("thinking switch", "finish reasons", "form", "parallel calls", "output limit"),
    "forced call",
}


@pytest.mark.parametrize("name", BAD)
def test_each_fault_is_found_and_nothing_else(kimi: Kimi, serve: Serve, name: str) -> None:
    changes, expected = BAD[name]
    server = serving(serve, *changes, strict=name != "no ids", native_ids=False)
    if name == "no ids":
        # Without the strict rules nobody else refuses the long prompt.
        expected = {*expected, "too long a prompt"}
    run, document = verify(kimi, server, "--concurrency", "4")
    assert failed(document) == expected, document["checks"]
    assert run.code == (0 if expected <= DECIDES_NOTHING else 1)
    for one in document["checks"]:
        assert one["words"], one
        if one["result"] == "failed":
            assert one["hard"] == (one["name"] not in DECIDES_NOTHING) or one["name"] in (
                *("concurrent requests", "too long a prompt"),
                "parallel calls",
            )


def test_the_rate_decides_at_the_threshold(kimi: Kimi, serve: Serve) -> None:
    def broken(record: Recorded, reply: Reply) -> Reply:
        return reply.but(calls=(replace(reply.calls[0], arguments='{"mode":"warp","level":3}'),))

    server = serving(serve, case_named("enums", broken))
    run, document = verify(kimi, server, "--threshold", "0.95")
    assert run.code == 1
    assert document["tool_calls"]["valid"] == document["tool_calls"]["calls"] - 2
    problem = next(one["problem"] for one in document["trials"] if one["case"] == "enums")
    assert "warp" in problem
    assert "enums" in check(document, "tool calls, streamed")["evidence"]
    run, document = verify(kimi, server, "--threshold", "0.9")
    assert (run.code, failed(document)) == (0, set())


def test_rounds_repeat_the_cases(kimi: Kimi, serve: Serve) -> None:
    _, document = verify(kimi, serving(serve), "--rounds", "2")
    assert document["tool_calls"]["asked"] == 4 * len(CASES)


def test_ids_of_other_models_need_no_form(kimi: Kimi, serve: Serve) -> None:
    entry = ENTRY | {"id": "coder", "root": "acme/coder"}
    plain_ids = called(
        lambda r: r.but(calls=tuple(replace(c, id=f"call_{n}") for n, c in enumerate(r.calls)))
    )
    server = serving(serve, plain_ids, thinks=False, models=[entry], native_ids=False)
    run, document = verify(kimi, server)
    found = results(document)
    assert run.code == 0, document["checks"]
    assert found["call ids"] == "ok" and NATIVE not in check(document, "call ids")["words"]
    for name in ("reasoning", "reasoning goes back", "thinking switch"):
        assert found[name] == "not applicable"
        assert check(document, name)["words"]


def test_a_model_that_never_calls_is_soon_left_alone(kimi: Kimi, serve: Serve) -> None:
    run, document = verify(kimi, serving(serve, called(lambda r: text("No.", usage=r.usage))))
    assert run.code == 1
    assert 1 < document["tool_calls"]["asked"] < 2 * len(CASES)
    assert document["tool_calls"]["called"] == document["tool_calls"]["called_rate"] == 0
    found = results(document)
    for name in ("values", "parallel calls", "several steps", "call ids"):
        assert found[name] == "not applicable"
    assert {found["concurrent requests"], found["too long a prompt"]} == {"ok"}


def test_a_server_without_a_tool_parser_is_asked_once(kimi: Kimi, serve: Serve) -> None:
    words = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'

    def refuse(record: Recorded, reply: Reply) -> Reply:
        if "tools" in record.body:
            return http_error(400, "BadRequestError", words)
        return reply

    server = serving(serve, refuse)
    run, document = verify(kimi, server)
    assert run.code == 1
    assert document["tool_calls"]["asked"] == 1
    assert "enable-auto-tool-choice" in document["trials"][0]["problem"]
    assert results(document)["chat, streamed"] == "ok"
    assert results(document)["several steps"] == "not applicable"
    assert "tool calls, streamed" in failed(document)


@pytest.mark.parametrize(
    ("answer", "result", "words"),
    [
        (http_error(500, "server_error", "CUDA error"), "failed", "can't be told"),
        (http_error(400, "BadRequestError", "The prompt is too long."), "failed", "no limit"),
        (text("fine", usage_at="final"), "failed", "more than the window"),
    ],
)
def test_a_refusal_of_too_long_a_prompt_must_be_clear(
    kimi: Kimi, serve: Serve, answer: Reply, result: str, words: str
) -> None:
    def long_prompt(record: Recorded, reply: Reply) -> Reply:
        if not str(record.messages[0]["content"]).startswith("a b c d e f"):
            return reply
        return answer.but(usage=reply.usage)

    _, document = verify(kimi, serving(serve, long_prompt, context_limit=None))
    found = check(document, "too long a prompt")
    assert found["result"] == result and words in found["words"]


def test_a_prompt_that_is_cut_without_a_word(kimi: Kimi, serve: Serve) -> None:
    def cut(record: Recorded, reply: Reply) -> Reply:
        if not str(record.messages[0]["content"]).startswith("a b c d e f"):
            return reply
        return reply.but(usage=replace(reply.usage, prompt=LIMIT - 10))

    run, document = verify(kimi, serving(serve, cut, context_limit=None))
    assert failed(document) == {"too long a prompt"}
    assert run.code == 1
    assert "without a word" in check(document, "too long a prompt")["words"]


def test_a_hanging_endpoint_ends_by_the_timeout(kimi: Kimi, serve: Serve) -> None:
    server = serving(serve, lambda record, reply: reply.but(stall_after=1))
    run, document = verify(kimi, server, "--timeout", "1")
    assert run.code == 1
    assert failed(document) == {"chat, streamed", "chat, plain"} or run.code == 1
    # Nobody goes on to ask what does not answer.
    assert len(server.requests) <= 4


def test_an_endpoint_that_dies_in_the_middle(kimi: Kimi, serve: Serve) -> None:
    def dying(record: Recorded, reply: Reply) -> Reply:
        return reply.but(drop_after="headers") if record.index >= 12 else reply

    server = serving(serve, dying)
    run, document = verify(kimi, server)
    assert run.code == 1
    assert document["tool_calls"]["asked"] == 2 * len(CASES)
    assert 0 < document["tool_calls"]["called"] < 2 * len(CASES)
    assert len(server.requests) < 25
    assert results(document)["too long a prompt"] == "not applicable"


def test_nobody_listens(kimi: Kimi, serve: Serve) -> None:
    server = serving(serve)
    url = server.base_url
    server.close()
    run = kimi("serve", "verify", url, "--model", KIMI, "--json")
    assert run.code == 1
    document = run.json()
    assert failed(document) == {"endpoint"}
    assert "refused" in check(document, "endpoint")["evidence"]
    assert set(results(document).values()) == {"failed", "not applicable"}


def test_a_busy_endpoint_is_asked_again(kimi: Kimi, serve: Serve) -> None:
    seen: set[int] = set()

    def busy(record: Recorded, reply: Reply) -> Reply:
        if record.index in (1, 5):
            seen.add(record.index)
            headers = {"retry-after": "0"}
            return http_error(429, "rate_limit_reached_error", "slow down", headers)
        return reply

    run, document = verify(kimi, serving(serve, busy))
    assert (run.code, failed(document)) == (0, set())
    assert seen == {1, 5}


def test_a_limit_of_the_account_is_no_fault_of_the_server(kimi: Kimi, serve: Serve) -> None:
    def busy(record: Recorded, reply: Reply) -> Reply:
        if "number 12." in str(record.messages[0]["content"]):
            return http_error(429, "rate_limit_reached_error", "max concurrency 1")
        return reply

    run, document = verify(kimi, serving(serve, busy))
    assert (run.code, failed(document)) == (0, {"concurrent requests"})


def test_the_key_goes_to_no_other_host(kimi: Kimi, serve: Serve) -> None:
    mine = serving(serve)
    other = serving(serve, api_key=None, strict=False)
    run = kimi("serve", "verify", other.base_url, "--json", server=mine)
    assert run.json()["checks"], run.err
    seen = [*other.requests, *other.other_requests]
    assert seen and not any("authorization" in record.headers for record in seen)
    assert not mine.requests and not mine.other_requests


def test_a_key_of_the_users_own_variable(kimi: Kimi, serve: Serve) -> None:
    server = serving(serve, api_key="sk-other-key-7")
    env = {"THEIR_KEY": "sk-other-key-7"}
    run = kimi("serve", "verify", server.base_url, "--api-key-env", "THEIR_KEY", env=env)
    assert run.code == 0, run.out
    assert "sk-other-key-7" not in run.out + run.err
    run = kimi("serve", "verify", server.base_url, "--api-key-env", "NO_SUCH")
    assert run.code == 2 and "NO_SUCH is not set" in run.err


def test_a_refused_key_ends_it_and_is_not_shown(kimi: Kimi, serve: Serve) -> None:
    def quoting(record: Recorded, reply: Reply) -> Reply:
        return reply

    server = serving(serve, quoting, api_key="sk-right")
    words = "Incorrect API key provided: sk-test-key"
    server.overrides["GET /v1/models"] = http_error(401, "incorrect_api_key_error", words)
    run = kimi("serve", "verify", "--model", KIMI, server=server)
    assert run.code == 1
    assert "Incorrect API key provided: [API key]" in run.out
    assert "sk-test-key" not in run.out + run.err
    assert not server.requests and not server.rejected


def test_usage_errors(kimi: Kimi, serve: Serve) -> None:
    for url in ("localhost:8000", "ftp://x/v1", "http://u:p@x/v1", "http://x/v1?a=b"):
        run = kimi("serve", "verify", url)
        assert run.code == 2 and run.err.startswith("kimi: "), run.err
    several = serve(good(), flavour="openai", models=["a", "b"], api_key=None)
    run = kimi("serve", "verify", several.base_url)
    assert run.code == 2 and "name the model" in run.err and "a, b" in run.err
    run = kimi("serve", "verify", several.base_url, "--json")
    assert run.code == 2 and "name the model" in run.json()["error"]["message"]


def test_without_a_path_it_is_v1(kimi: Kimi, serve: Serve) -> None:
    server = serving(serve)
    run = kimi("serve", "verify", server.root_url, server=server)
    assert run.code == 0, run.out


def test_what_an_endpoint_says_is_no_command_for_the_terminal(kimi: Kimi, serve: Serve) -> None:
    evil = "\x1b]0;owned\x07\u202eboo"
    server = serving(
        serve, lambda record, reply: http_error(400, "invalid_request_error", f"no {evil}")
    )
    run = kimi("serve", "verify", server.base_url, server=server)
    assert run.code == 1
    assert "\x1b" not in run.out and "\u202e" not in run.out and "boo" in run.out


def test_thinking_is_asked_for_as_the_dialect_has_it(kimi: Kimi, serve: Serve) -> None:
    server = serving(serve)
    verify(kimi, server)
    switched = [one.body.get("chat_template_kwargs") for one in server.requests]
    assert {"thinking": False} in switched and {"thinking": True} in switched
    assert {wants_thinking(one.body) for one in server.requests} == {True, False}

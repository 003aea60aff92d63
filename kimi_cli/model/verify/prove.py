"""The short proof that a model answers and calls tools: a few requests with few tokens."""

from __future__ import annotations

import asyncio
import re
import time

from kimi_cli.model.build import ModelConfig
from kimi_cli.model.errors import ConfigError
from kimi_cli.model.verify.bench import Bench
from kimi_cli.model.verify.cases import LOOK_UP, numbered
from kimi_cli.model.verify.judge import call_problem, leaked_call
from kimi_cli.model.verify.raw import Answer
from kimi_cli.model.verify.report import short
from kimi_cli.model.verify.subject import find_subject

Proof = tuple[str, bool, str]

CHAT, TOOL_CALL = "chat", "tool call"
_CHAT_TOKENS, _CALL_TOKENS = 16, 256
_THINKING_TOKENS = 2048
"""For a model whose thinking can't be turned off."""
_NOT_TRIED = "not tried"
_NO_TOOLS = re.compile(r"enable-auto-tool-choice|tool.call.parser", re.IGNORECASE)


async def prove(
    base_url: str, api_key: str, model: str, *, tools: bool = True, timeout: float = 120.0
) -> tuple[Proof, ...]:
    """Ask for a short answer, and with `tools` for a call of a small tool: a name, whether it
    works, and in words what came of it. `timeout` is in seconds, for all of it. Never raises for
    what the endpoint does."""
    start = time.monotonic()
    names = (CHAT, TOOL_CALL) if tools else (CHAT,)
    try:
        async with asyncio.timeout(timeout):
            config = ModelConfig(base_url=base_url, model=model, api_key=api_key)
            subject = await find_subject(config)
    except TimeoutError:
        return _nothing(names, f"no answer within {timeout:.0f} s")
    except ConfigError as error:
        return _nothing(names, str(error))
    bench = Bench(subject, timeout)
    found: list[Proof] = []
    try:
        for name in names:
            if found and not found[0][1]:
                found.append((name, False, _NOT_TRIED))
                break
            bench.seconds = max(1.0, timeout - (time.monotonic() - start))
            found.append(await (_chat if name == CHAT else _tool_call)(bench))
    finally:
        await bench.close()
    return tuple(found)


async def _chat(bench: Bench) -> Proof:
    thinking = bench.subject.quick()
    cap = _CHAT_TOKENS if thinking == "off" else _THINKING_TOKENS
    answer = await bench.ask("Say hello in one word.", cap=cap, thinking=thinking, patient=False)
    if answer.error is not None:
        return CHAT, False, short(answer.error.message)
    if not answer.tokens("prompt_tokens"):
        return CHAT, False, "the answer came without its usage"
    return CHAT, True, _took(answer)


async def _tool_call(bench: Bench) -> Proof:
    # Asked twice: whether a model calls is a matter of chance too.
    for _ in range(2):
        answer = await _asked(bench)
        if answer.error is not None:
            return TOOL_CALL, False, _refusal(answer.error.message)
        if answer.calls:
            problem = call_problem(answer.calls[0], (LOOK_UP,))
            return TOOL_CALL, not problem, short(problem) or _took(answer)
        if leaked_call(answer):
            words = "the call came as text: the tool parser does not suit this model"
            return TOOL_CALL, False, words
    return TOOL_CALL, False, await _when_forced(bench)


def _refusal(message: str) -> str:
    if _NO_TOOLS.search(message):
        return "the server takes no tool calls: it runs without a tool parser"
    return short(message)


async def _when_forced(bench: Bench) -> str:
    """What comes of forcing a call. It is made by a grammar and read by no parser of the model's,
    so that it proves nothing of calls that the model makes."""
    forced = await _asked(bench, LOOK_UP.name)
    if forced.error is not None:
        return short(f"the model did not call, and forcing it failed: {forced.error.message}")
    problem = call_problem(forced.calls[0], (LOOK_UP,)) if forced.calls else "no call came"
    if problem:
        return short(f"not even when forced: {problem}")
    return "only when forced: by itself the model does not call, or the parser misses it"


async def _asked(bench: Bench, forced: str = "") -> Answer:
    thinking = bench.subject.quick()
    thought = any(answer.reasoning for answer in bench.answers)
    cap = _CALL_TOKENS if thinking == "off" and not thought else _THINKING_TOKENS
    return await bench.ask(
        numbered(7), tools=(LOOK_UP,), cap=cap, thinking=thinking, forced=forced, patient=False
    )


def _took(answer: Answer) -> str:
    return f"{answer.seconds:.1f} s"


def _nothing(names: tuple[str, ...], words: str) -> tuple[Proof, ...]:
    return (CHAT, False, short(words)), *((name, False, _NOT_TRIED) for name in names[1:])

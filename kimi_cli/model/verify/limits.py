"""A prompt that does not fit."""

from __future__ import annotations

from kimi_cli.model.verify.bench import Bench
from kimi_cli.model.verify.report import Check, short
from kimi_cli.protocol.provider import ErrorClass

NAME = "too long a prompt"
OVER = 1.1
"""How much longer than the window the prompt is, in words of which each is at least a token."""
_LETTERS = " a b c d e f g h i j k l m n o p q r s t"


async def check_too_long(bench: Bench) -> Check:
    """Whether it is refused with a status and words that tell it, and the window."""
    subject = bench.subject
    words = int((subject.window or subject.info.context) * OVER) + 100
    prompt = (_LETTERS * (words // 20 + 1)).strip()
    answer = await bench.ask(prompt, cap=1, thinking=subject.quick())
    error = answer.error
    sent = f"about {words} tokens"
    if not answer.sent:
        return Check(NAME, "not applicable", "the endpoint had stopped answering")
    if error is None:
        counted = answer.tokens("prompt_tokens") or 0
        # What was cut to fit has a tenth less.
        if counted < words * 0.95:
            evidence = f"{sent} sent, {counted} read"
            return Check(NAME, "failed", "the prompt is cut without a word", evidence)
        if subject.window is None:
            return Check(NAME, "not applicable", f"the window is not known; {counted} tokens fit")
        evidence = f"{counted} tokens were taken, the window is {subject.window}"
        return Check(NAME, "failed", "it fits into more than the window", evidence, hard=False)
    evidence = short(error.message)
    if error.kind is not ErrorClass.CONTEXT_TOO_LONG:
        status = f"HTTP {error.status}: " if error.status else ""
        words_ = "what is refused can't be told from other failures"
        return Check(NAME, "failed", words_, short(f"{status}{error.message}"))
    if error.status != 400:
        said = f"HTTP {error.status}" if error.status else "an error in the stream"
        return Check(NAME, "failed", f"it is refused with {said}, not 400", evidence, hard=False)
    if error.window is None:
        return Check(NAME, "failed", "the refusal names no limit", evidence, hard=False)
    return Check(NAME, "ok", f"refused with 400, which names the limit of {error.window}")

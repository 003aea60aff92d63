"""Does it answer, and does it count what it used?"""

from __future__ import annotations

import asyncio

from kimi_cli.model.verify.bench import Bench
from kimi_cli.model.verify.cases import HELLO
from kimi_cli.model.verify.raw import Answer
from kimi_cli.model.verify.report import Check, short
from kimi_cli.model.verify.subject import Subject

PADDING = 300
"""Words that make a prompt longer."""
SHORT_CAP = 4
REQUESTS = 3


def check_endpoint(subject: Subject) -> Check:
    """What the endpoint says of the model."""
    error = subject.error
    if error is not None:
        return Check("endpoint", "failed", "it does not list its models", short(error.message))
    if subject.name not in subject.names:
        names = ", ".join(subject.names[:8]) or "nothing"
        words = f"it does not list {short(subject.name, 80)}"
        return Check("endpoint", "failed", words, short(f"it lists {names}"), hard=False)
    window = f", context {subject.window} tokens" if subject.window else ""
    return Check("endpoint", "ok", f"{subject.dialect.name}, lists the model{window}")


async def check_chat(bench: Bench) -> list[Check]:
    """A streamed answer, a plain one, and one that is cut short after a longer prompt."""
    padded = f"{' a b c d e f g h i j' * (PADDING // 10)}\n{HELLO}"
    streamed, plain, cut = await asyncio.gather(
        bench.ask(HELLO),
        bench.ask(HELLO, stream=False),
        bench.ask(padded, cap=SHORT_CAP),
    )
    if streamed.reasoning or plain.reasoning:
        bench.reasons = True
    chat = [_chat("chat, streamed", streamed), _chat("chat, plain", plain)]
    if all(one.result == "failed" for one in chat):
        return chat
    return [*chat, _usage(streamed, plain, cut), _cut(cut)]


def _chat(name: str, answer: Answer) -> Check:
    if answer.error is not None:
        return Check(name, "failed", "no answer", short(answer.error.message))
    if answer.text or answer.reasoning:
        return Check(name, "ok", f"{answer.seconds:.1f} s")
    evidence = f"finish_reason {answer.finish or 'missing'}"
    return Check(name, "failed", "the answer is empty", evidence)


def _usage(streamed: Answer, plain: Answer, cut: Answer) -> Check:
    name = "usage"
    for kind, answer in (("a streamed", streamed), ("a plain", plain)):
        if answer.error is not None:
            continue
        if answer.usage is None:
            return Check(name, "failed", f"{kind} answer comes without it")
        if problem := _implausible(answer):
            return Check(name, "failed", f"that of {kind} answer can't be", problem)
    one, other, longer = (a.tokens("prompt_tokens") for a in (streamed, plain, cut))
    if one and other and one != other:
        evidence = f"{one} streamed, {other} plain"
        return Check(name, "failed", "the same prompt counts differently", evidence, hard=False)
    if one and longer and not PADDING // 2 <= longer - one <= PADDING * 8:
        evidence = f"{PADDING} words more: {one} tokens become {longer}"
        return Check(name, "failed", "prompt_tokens do not follow the prompt", evidence, hard=False)
    return Check(name, "ok", f"streamed and plain, {one or other} prompt tokens for a short prompt")


def _implausible(answer: Answer) -> str:
    prompt, completion = answer.tokens("prompt_tokens"), answer.tokens("completion_tokens")
    total = answer.tokens("total_tokens")
    if not prompt or completion is None:
        return short(f"prompt_tokens {prompt}, completion_tokens {completion}")
    if total is not None and total != prompt + completion:
        return f"{prompt} + {completion} is not the total of {total}"
    # No tokenizer has tokens of more than this many characters of plain English on average.
    if prompt * 20 < len(HELLO) or prompt > len(HELLO) * 40:
        return f"{prompt} prompt tokens for {len(HELLO)} characters"
    if not completion and (answer.text or answer.reasoning):
        return f"no completion tokens for {len(answer.text) + len(answer.reasoning)} characters"
    return ""


def _cut(answer: Answer) -> Check:
    name = "output limit"
    if answer.error is not None:
        words = f"an answer of at most {SHORT_CAP} tokens is refused"
        return Check(name, "failed", words, short(answer.error.message), hard=False)
    made = answer.tokens("completion_tokens")
    if made is not None and made > SHORT_CAP:
        words = f"an answer of at most {SHORT_CAP} tokens has {made}"
        return Check(name, "failed", words, short(answer.text), hard=False)
    if answer.finish != "length":
        evidence = f"finish_reason {short(answer.finish, 40) or 'missing'}"
        return Check(name, "failed", "a cut answer does not say so", evidence, hard=False)
    return Check(name, "ok", "a cut answer ends with length")

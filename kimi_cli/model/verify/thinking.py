"""Reasoning: does it come in a field of its own, and can it be turned off?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kimi_cli.model.verify.bench import Bench
from kimi_cli.model.verify.judge import thinks_aloud
from kimi_cli.model.verify.raw import Answer
from kimi_cli.model.verify.report import Check, short

RIDDLE = (
    "A bat and a ball cost 1.10 together, the bat costs 1.00 more than the ball. What does the "
    "ball cost? Answer with the amount."
)
REQUESTS = 2


def check_reasoning(bench: Bench, answers: Sequence[Answer]) -> Check:
    """Where the reasoning of a model that thinks came, in the answers so far."""
    name = "reasoning"
    info = bench.subject.info
    whole = [one for one in answers if one.error is None]
    seen = [one for one in whole if one.reasoning]
    aloud = next((one for one in whole if thinks_aloud(one)), None)
    if aloud is not None:
        words = "it comes inside the text: the server has no reasoning parser for this model"
        return Check(name, "failed", words, short(aloud.text, 100))
    if info.thinking == "none":
        if seen and not any(one.text or one.calls for one in seen):
            words = "this model does not think, and all it says comes as reasoning"
            return Check(name, "failed", words, short(seen[0].reasoning, 100))
        return Check(name, "not applicable", "this model does not think")
    if not seen:
        if info.thinking == "unknown":
            return Check(name, "not applicable", "none was seen; nothing is known of the model")
        return Check(name, "failed", "a model that thinks brought none")
    fields = " and ".join(sorted({one.reasoning_field for one in seen}))
    missing = {one.streamed for one in whole} - {one.streamed for one in seen}
    if missing:
        kind = "streamed" if True in missing else "plain"
        return Check(name, "failed", f"{kind} answers bring none", fields)
    return Check(name, "ok", f"in {fields}, streamed and plain")


async def check_switch(bench: Bench) -> Check:
    """Thinking on and off, as the dialect sets it."""
    name = "thinking switch"
    subject = bench.subject
    if subject.info.thinking == "none":
        return Check(name, "not applicable", "this model does not think", hard=False)
    if subject.info.thinking == "always":
        return Check(name, "not applicable", "this model always thinks", hard=False)
    off_fields, on_fields = subject.switch("off"), subject.switch("on")
    if not off_fields or not bench.reasons:
        words = f"the dialect {subject.dialect.name} has none" if bench.reasons else "no reasoning"
        return Check(name, "not applicable", words, hard=False)
    on, off = await asyncio.gather(bench.ask(RIDDLE), bench.ask(RIDDLE, thinking="off"))
    for answer, word in ((on, "on"), (off, "off")):
        if answer.error is not None:
            words = f"no answer with thinking {word}"
            return Check(name, "failed", words, short(answer.error.message), hard=False)
    if off.reasoning or thinks_aloud(off):
        evidence = short(off.reasoning or off.text, 100)
        return Check(name, "failed", "it thinks although it is turned off", evidence, hard=False)
    if not on.reasoning:
        return Check(name, "failed", "it does not think although it is turned on", hard=False)
    how = ", ".join(on_fields or off_fields)
    return Check(name, "ok", f"on and off by {how}", hard=False)

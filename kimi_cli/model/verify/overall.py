"""What all answers together show: ids, reasons to end, the form of streams, leaked markers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from kimi_cli.model.verify.judge import id_problem, leak
from kimi_cli.model.verify.raw import Answer
from kimi_cli.model.verify.report import Check, short


def check_ids(answers: Sequence[Answer], native: bool) -> Check:
    """Ids of calls: functions.NAME:IDX where `native`, else any that are there and differ."""
    name = "call ids"
    found = [one for one in answers if one.calls and one.error is None]
    if not found:
        return Check(name, "not applicable", "no call ever came")
    problems = [problem for one in found if (problem := id_problem(one, native))]
    if problems:
        words = f"wrong in {len(problems)} of {len(found)} answers"
        return Check(name, "failed", words, problems[0])
    example = short(found[0].calls[0].id, 60)
    return Check(name, "ok", f"{'functions.NAME:IDX' if native else 'there and unique'}, {example}")


def check_finish(answers: Sequence[Answer]) -> Check:
    """finish_reason: tool_calls with calls, stop or length without."""
    name = "finish reasons"
    whole = [one for one in answers if one.error is None and not one.forced]
    wrong = [one for one in whole if not _ends_right(one)]
    if not whole:
        return Check(name, "not applicable", "no answer", hard=False)
    if wrong:
        what = "calls" if wrong[0].calls else "no call"
        evidence = f"{short(wrong[0].finish, 40) or 'none'} with {what}"
        words = f"wrong in {len(wrong)} of {len(whole)} answers"
        return Check(name, "failed", words, evidence, hard=False)
    counts = Counter(one.finish for one in whole)
    told = ", ".join(f"{short(reason, 20)} {count}" for reason, count in counts.most_common())
    return Check(name, "ok", told, hard=False)


def check_form(answers: Sequence[Answer]) -> Check:
    """Whether answers have the form that the protocol gives them."""
    name = "form"
    whole = [one for one in answers if one.error is None]
    if not whole:
        return Check(name, "not applicable", "no answer", hard=False)
    faulty = [one for one in whole if one.faults]
    if faulty:
        words = f"{len(faulty)} of {len(whole)} answers break the protocol"
        return Check(name, "failed", words, faulty[0].faults[0], hard=False)
    return Check(name, "ok", f"{len(whole)} answers follow the protocol", hard=False)


def check_leaks(answers: Sequence[Answer]) -> Check:
    """Markers of the chat template that reached the client."""
    name = "leaked markers"
    found = [where for one in answers if (where := leak(one))]
    if found:
        return Check(name, "failed", f"in {len(found)} of {len(answers)} answers", found[0])
    if not any(one.error is None for one in answers):
        return Check(name, "not applicable", "no answer")
    return Check(name, "ok", f"none in {len(answers)} answers")


def _ends_right(answer: Answer) -> bool:
    # A call that was cut by the limit says so, and calls count whatever the reason is.
    return answer.finish in (("tool_calls", "length") if answer.calls else ("stop", "length"))

"""From a log of vLLM and the way it ended to what happened and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kimi_cli.serve.failures import Failures, Raised, read_failures
from kimi_cli.serve.running import Launch, Trouble
from kimi_cli.serve.trouble_case import Case, Row
from kimi_cli.serve.trouble_machine import death
from kimi_cli.serve.trouble_table import CAUSES, ENDS

_LONGEST = 400
# Shells tell a death by a signal as 128 and its number.
_SHELL = 128
_LAST_SIGNAL = 64
_STOPPED = (2, 15)
# Of a process that ended so, what it or others had complained of is not the reason.
_VIOLENT = (4, 7, 9, 11)
_NOISE = ("resource_tracker", "Warning: ", "warnings.warn")


def find_trouble(
    lines: Sequence[str],
    launch: Launch,
    *,
    exit_code: int | None,
    holders: Callable[[], str] = lambda: "",
) -> Trouble:
    """Why this server failed. `lines` are those of its log, all nodes' together; `exit_code` is
    that of the process that ended, negative for a signal (None: it still runs). `holders` is asked
    who holds the port or the GPU, where that is what is missing: "python (pid 4242), 30.1 GiB".
    Never raises, and knows a trouble for every log."""
    failures = read_failures(lines)
    case = Case(launch, exit_code, holders)
    return (
        _known(CAUSES, failures, case)
        or (_ended(failures, exit_code) if _signal(exit_code) in _VIOLENT else None)
        or _unknown(failures)
        or _known(ENDS, failures, case)
        or _ended(failures, exit_code)
    )


def _known(rows: Iterable[Row], failures: Failures, case: Case) -> Trouble | None:
    for row in rows:
        for text in failures.lines if row.anywhere else failures.texts:
            found = row.pattern.search(text)
            if found is not None:
                told = row.tell(found, case)
                return Trouble(
                    row.kind, told.what, told.todo, _evidence(text, found.start()), told.repair
                )
    return None


def _evidence(text: str, place: int) -> str:
    """The line of the text that has the place in it."""
    start = text.rfind("\n", 0, place) + 1
    end = text.find("\n", place)
    return _short(text[start : end if end >= 0 else len(text)].strip())


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _unknown(failures: Failures) -> Trouble | None:
    """An exception that the table does not know."""
    one = failures.deepest(lambda text: any(row.pattern.search(text) for row in ENDS))
    if one is None:
        return None
    words = _short(one.words)
    return Trouble(
        "unknown",
        f"{_where(one)} failed: {words}",
        "this is not known here; the log has all of it: kimi serve logs",
        words,
    )


def _where(one: Raised) -> str:
    if "worker" in one.process.lower():
        return f"a worker of vLLM ({one.process})"
    return "vLLM's engine" if one.process.startswith("EngineCore") else "vLLM"


def _ended(failures: Failures, exit_code: int | None) -> Trouble:
    """No word in the log says why."""
    number = _signal(exit_code)
    last = _last(failures.lines)
    if number:
        told = death(number, "vLLM", failures.served)
        kind = "stopped" if number in _STOPPED else "killed"
        return Trouble(kind, told.what, told.todo, _short(last))
    if exit_code is None:
        return Trouble(
            "silent",
            "vLLM still runs, but does not do what it should",
            "kimi serve logs shows what it says; kimi serve restart starts it anew",
            _short(last),
        )
    when = "" if failures.served else " before it took any request"
    how = "without an error" if exit_code == 0 else f"with exit code {exit_code}"
    return Trouble(
        "ended",
        f"vLLM ended {how}{when}",
        "the log does not say why in a way that is known here: kimi serve logs",
        _short(last),
    )


def _last(lines: Sequence[str]) -> str:
    """The last thing that is said, past what Python says of itself at its end."""
    told = (text.strip() for text in reversed(lines))
    return next((text for text in told if text and not any(one in text for one in _NOISE)), "")


def _signal(exit_code: int | None) -> int:
    if exit_code is None:
        return 0
    if exit_code < 0:
        return -exit_code
    number = exit_code - _SHELL
    return number if 0 < number <= _LAST_SIGNAL else 0

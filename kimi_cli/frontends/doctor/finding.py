"""What one check found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kimi_cli.protocol.stops import StopReason

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``detail`` says what is, ``advice`` what to do about it; ``reason`` is the class of a
    failure."""

    name: str
    status: Status
    detail: str
    advice: str = ""
    reason: StopReason = StopReason.CONFIGURATION


def first_failure(findings: Sequence[Finding]) -> StopReason:
    """The class of the first failure, DONE where nothing fails."""
    failures = (one.reason for one in findings if one.status == "fail")
    return next(failures, StopReason.DONE)


def document(findings: Sequence[Finding], code: int) -> dict[str, Any]:
    """The findings for a program."""
    return {
        "ok": not any(one.status == "fail" for one in findings),
        "exit_code": code,
        "checks": [
            {
                "name": one.name,
                "status": one.status,
                "detail": one.detail,
                "advice": one.advice,
            }
            for one in findings
        ],
    }

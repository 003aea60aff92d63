"""What ``kimi policy explain`` says of a command, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kimi_cli.protocol.sandbox import Grant, SandboxMode
from kimi_cli.safety.rules import Rule, RuleSet
from kimi_cli.safety.shell_policy import Judgement, PartVerdict, Place, judge_shell


@dataclass(frozen=True, slots=True)
class Explanation:
    command: str
    judgement: Judgement

    def __str__(self) -> str:
        found = self.judgement
        lines = [found.verdict + (f": {found.reason}" if found.reason else "")]
        if found.grant:
            lines.append(f"it runs {found.grant.words()}")
        if found.withheld:
            lines.append(found.withheld)
        rows = [self._row(each) for each in found.parts]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            lines.append("  " + "  ".join([*cells, row[3]]).rstrip())
        if found.suggestions:
            lines.append("this would allow it: " + ", ".join(found.suggestions))
        return "\n".join(lines)

    def _row(self, each: PartVerdict) -> tuple[str, str, str, str]:
        shown = " ".join(each.part.raw.split())
        shown = shown if len(shown) <= 48 else shown[:47] + "…"
        if each.part.via:
            shown = "… " + shown
        why = f"{each.rule}" if each.rule else each.reason
        source = f" ({each.rule.source})" if each.rule and each.rule.source else ""
        return each.verdict, each.klass.kind, shown, why + source

    def as_json(self) -> dict[str, Any]:
        """The same for a program: plain values only."""
        found = self.judgement
        return {
            "command": self.command,
            "verdict": found.verdict,
            "reason": found.reason,
            "rule": _rule(found.rule),
            "class": found.kind,
            "trouble": found.trouble,
            "needs": list(found.needs),
            "suggestions": list(found.suggestions),
            "grant": _grant(found.grant),
            "withheld": found.withheld,
            "parts": [
                {
                    "words": list(each.part.words),
                    "program": each.part.path,
                    "text": each.part.raw,
                    "start": each.part.start,
                    "end": each.part.end,
                    "via": list(each.part.via),
                    "assignments": list(each.part.assignments),
                    "writes": list(each.part.writes),
                    "class": each.klass.kind,
                    "network": each.klass.network,
                    "opaque": each.part.opaque,
                    "verdict": each.verdict,
                    "reason": each.reason,
                    "rule": _rule(each.rule),
                }
                for each in found.parts
            ],
        }


def explain(
    command: str,
    rules: RuleSet,
    *,
    confined: bool,
    yolo: bool = False,
    mode: SandboxMode = "workspace-write",
    place: Place | None = None,
    secret: Callable[[str], bool] | None = None,
) -> Explanation:
    """Judge ``command`` as a session would, and say how; nothing is run."""
    judged = judge_shell(
        command, rules, confined=confined, yolo=yolo, mode=mode, place=place, secret=secret
    )
    return Explanation(command, judged)


def _rule(rule: Rule | None) -> dict[str, str] | None:
    return None if rule is None else {"text": str(rule), "source": rule.source}


def _grant(grant: Grant) -> dict[str, Any]:
    return {
        "network": grant.network,
        "write": list(grant.write),
        "read": list(grant.read),
        "unsandboxed": grant.unconfined,
    }

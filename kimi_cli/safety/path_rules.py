"""Rules for files: which paths a pattern means."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from kimi_cli.safety.rules import Rule, RuleSet


@dataclass(frozen=True, slots=True)
class PathJudgement:
    """``verdict`` is None when no rule speaks of the path."""

    verdict: Literal["allow", "ask", "deny"] | None
    rule: Rule | None = None


def judge_path(
    kind: Literal["read", "write"],
    path: Path,
    rules: RuleSet,
    *,
    project: Path | None = None,
    home: Path | None = None,
    named: Path | None = None,
) -> PathJudgement:
    """What the rules say of reading or writing ``path``, which is absolute with its symlinks
    resolved; ``named`` is the same as it was written. ``project`` and ``home`` are resolved too.

    Patterns: ``*`` is any part of a name, ``**`` any number of folders; ``~/`` is the home folder,
    anything else without a leading ``/`` lies in the project. A pattern that names a folder means
    all below it. Deny and ask rules mean more: either form of the path counts, case of letters does
    not, and a pattern that begins with ``**/`` holds outside the project as well.
    """
    paths = {str(path), str(named or path)}
    for verdict, group in (("deny", rules.deny), ("ask", rules.ask)):
        for rule in group:
            if rule.tool == kind and any(
                means(rule, each, project, home, generous=True) for each in paths
            ):
                return PathJudgement(verdict, rule)  # type: ignore[arg-type]
    for rule in rules.allow:
        if rule.tool == kind and means(rule, str(path), project, home, generous=False):
            return PathJudgement("allow", rule)
    return PathJudgement(None)


def means(
    rule: Rule, path: str, project: Path | None, home: Path | None, *, generous: bool
) -> bool:
    """Whether the rule's pattern means the absolute ``path``."""
    pattern = rule.path
    if pattern is None:
        return True
    if generous and pattern.startswith("**/"):
        pattern = "/" + pattern
    elif pattern == "~" or pattern.startswith("~/"):
        if home is None:
            return generous
        pattern = _escaped(str(home)) + pattern[1:]
    elif not pattern.startswith("/"):
        if project is None:
            return generous
        pattern = _escaped(str(project)).rstrip("/") + "/" + pattern.removeprefix("./")
    return any(each.fullmatch(path) for each in _compiled(pattern, generous))


def _escaped(text: str) -> str:
    return re.sub(r"([\\*])", r"\\\1", text)


@lru_cache(maxsize=512)
def _compiled(pattern: str, fold: bool) -> tuple[re.Pattern[str], ...]:
    """The pattern as it stands, and with the symlinks in its fixed beginning resolved."""
    flags = re.DOTALL | (re.IGNORECASE if fold else 0)
    fixed = re.match(r"[^*\\]*(?=/)|[^*\\]*$", pattern)
    forms = [pattern]
    if fixed and fixed[0]:
        forms.append(_escaped(os.path.realpath(fixed[0])) + pattern[fixed.end() :])
    return tuple(re.compile(_expression(form), flags) for form in dict.fromkeys(forms))


def _expression(pattern: str) -> str:
    out, at = "", 0
    pattern = pattern.rstrip("/") or "/"
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("/**/", at):
            out, at = out + "/(?:.*/)?", at + 4
        elif pattern.startswith("**", at):
            out, at = out + ".*", at + 2
        elif char == "*":
            out, at = out + "[^/]*", at + 1
        elif char == "\\" and at + 1 < len(pattern):
            out, at = out + re.escape(pattern[at + 1]), at + 2
        else:
            out, at = out + re.escape(char), at + 1
    return out + "(?:/.*)?"

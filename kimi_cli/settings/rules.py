"""Rules of the policy that the user gave by an answer or by ``kimi policy``: a list under
KIMI_HOME, one JSON object a line. Never in the project, which could give itself what it wants."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.files import read_text, write_private
from kimi_cli.settings.trust import repository_of

RULES = "rules"
Verdict = Literal["allow", "ask", "deny"]


@dataclass(frozen=True, slots=True)
class KeptRule:
    """``project`` is the folder it holds for, empty: everywhere."""

    verdict: Verdict
    rule: str
    project: str = ""


def kept_rules(home: Path, root: Path | None = None) -> list[KeptRule]:
    """The rules on the list, oldest first; with ``root`` those that hold there: a worktree has
    the rules of its repository. Raises SettingsError."""
    rules = _read(home)
    if root is None:
        return rules
    here = {"", _project(root)}
    return [rule for rule in rules if rule.project in here]


def keep_rule(home: Path, verdict: Verdict, rule: str, root: Path | None = None) -> bool:
    """Add a rule, for the project at ``root`` or everywhere; False when it was there. Raises
    OSError, SettingsError."""
    entry = KeptRule(verdict, rule, _project(root) if root else "")
    if entry in _read(home):
        return False
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    # One appended line at a time: two processes can't lose each other's entry.
    descriptor = os.open(home / RULES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, b"\n" + _line(entry) + b"\n")
    finally:
        os.close(descriptor)
    return True


def drop_rule(home: Path, rule: str, root: Path | None = None) -> list[KeptRule]:
    """Take a rule from the list, whatever its verdict: that of the project at ``root``, else the
    one that holds everywhere; returns what was dropped. Raises OSError, SettingsError."""
    project = _project(root) if root else ""
    rules = _read(home)
    gone = [one for one in rules if one.rule == rule and one.project == project]
    if gone:
        rest = b"".join(_line(one) + b"\n" for one in rules if one not in gone)
        write_private(home / RULES, rest)
    return gone


def _project(root: Path) -> str:
    real = Path(os.path.realpath(root))
    return str(repository_of(real) or real)


def _line(rule: KeptRule) -> bytes:
    return json.dumps({rule.verdict: rule.rule, "project": rule.project}).encode()


def _read(home: Path) -> list[KeptRule]:
    # What can't be read is an error: a rule that forbids something must not get lost silently.
    lines = (read_text(home / RULES) or "").splitlines()
    found: dict[KeptRule, None] = {}
    for line in lines:
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise SettingsError(f"{home / RULES}: not a rule: {line[:80]!r}")
        project = entry.get("project", "")
        for verdict in ("allow", "ask", "deny"):
            rule = entry.get(verdict)
            if isinstance(rule, str) and isinstance(project, str):
                found[KeptRule(verdict, rule, project)] = None
    return list(found)

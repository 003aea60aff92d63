"""The rules of the policy as people see them, and what they make of a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kimi_cli.settings import is_trusted, kept_rules, load_settings, user_home

if TYPE_CHECKING:
    from kimi_cli.protocol.sandbox import SandboxMode
    from kimi_cli.safety.explain import Explanation
    from kimi_cli.settings import Loaded

Verdict = Literal["allow", "ask", "deny"]
NO_RULES = "no rules: the sandbox decides, and what wants out of it is asked"


def load(env: Mapping[str, str], home: Path, root: Path) -> Loaded:
    """The settings that hold in a project, without flags. Raises SettingsError."""
    return load_settings(env=env, project_root=root, flags={}, trusted=is_trusted(home, root))


def rule_rows(loaded: Loaded, home: Path, root: Path) -> list[dict[str, str]]:
    """``verdict``, ``rule`` and ``source`` of each rule that holds at ``root``. Raises
    SettingsError."""
    rows = [
        {"verdict": verdict, "rule": rule, "source": str(source)}
        for verdict, rule, source in loaded.rules
    ]
    for one in kept_rules(home, root):
        source = f"kept for {one.project}" if one.project else "kept, everywhere"
        rows.append({"verdict": one.verdict, "rule": one.rule, "source": source})
    return rows


def rule_lines(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A line for each rule, the strictest first."""
    ordered = sorted(rows, key=lambda row: ("deny", "ask", "allow").index(row["verdict"]))
    return [f"{row['verdict']:5}  {row['rule']}  # {row['source']}" for row in ordered]


def rule_text(text: str, verdict: Verdict = "allow") -> str:
    """A rule as it is written down. Raises ValueError, with words, for what is none."""
    from kimi_cli.safety.rules import RuleSet

    [rule] = getattr(RuleSet.of(**{verdict: [(text, "")]}), verdict)
    return str(rule)


def explanation(
    command: str,
    loaded: Loaded,
    *,
    env: Mapping[str, str],
    home: Path,
    root: Path,
    cwd: Path,
    mode: SandboxMode,
    yolo: bool,
) -> Explanation:
    """What would become of a command in the sandbox's ``mode``; nothing is run. Raises
    SettingsError."""
    from kimi_cli.agent.guarding import rules_in_force
    from kimi_cli.safety.explain import explain
    from kimi_cli.safety.places import Places
    from kimi_cli.safety.shell_policy import Place

    folders = (root, *map(Path, loaded.settings.workspace.add_dirs))
    return explain(
        command,
        rules_in_force(loaded, home, root),
        confined=mode != "off",
        yolo=yolo,
        mode=mode,
        place=Place(folders, cwd, user_home(env)),
        secret=Places(folders, secrets=loaded.settings.secrets.files).is_secret,
    )

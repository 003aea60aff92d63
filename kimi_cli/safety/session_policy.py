"""The policy of a session: the places, the user's rules and the sandbox, in one decision."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kimi_cli.protocol.modes import Mode
from kimi_cli.protocol.sandbox import Denial, Grant, SandboxState
from kimi_cli.protocol.tools import Intent
from kimi_cli.safety import modes
from kimi_cli.safety.path_rules import judge_path
from kimi_cli.safety.places import Objection, Places
from kimi_cli.safety.policy import ALLOW, Decision
from kimi_cli.safety.rules import Rule, RuleSet

if TYPE_CHECKING:
    from kimi_cli.safety.shell_policy import Judgement, PartVerdict

Scope = Literal["session", "project"]
SEVERITY = {"allow": 0, "ask": 1, "deny": 2}
_GLOB = re.compile(r"([\\*()])")


class SessionPolicy:
    """Implements ``Policy``.

    ``folders`` are those that commands may write to; ``project`` and ``home`` (the user's) anchor
    the patterns of path rules. ``sandbox`` tells what holds for commands; ``keep`` writes a rule
    down for the project. ``mode`` may be changed at any time; ``yolo`` begins with the mode of
    that name: nothing is asked; what would be is allowed where the sandbox would let a command do
    it too, else denied.
    """

    def __init__(
        self,
        places: Places,
        folders: Sequence[Path],
        rules: RuleSet,
        *,
        project: Path,
        home: Path | None,
        sandbox: SandboxState,
        keep: Callable[[str], None],
        yolo: bool = False,
    ) -> None:
        self._places = places
        self._folders = tuple(map(_resolved, folders))
        self._rules = rules
        self._answered = RuleSet()
        self._project = project.resolve()
        self._home = home.resolve() if home else None
        self._sandbox = sandbox
        self._keep = keep
        self.mode: Mode = "yolo" if yolo else "auto"

    @property
    def _yolo(self) -> bool:
        return self.mode == "yolo"

    @property
    def _confined(self) -> bool:
        return self._sandbox.mode != "off" and self._sandbox.way != "none"

    def decide(self, tool: str, intents: Sequence[Intent]) -> Decision:
        """The strictest decision on any of the intents; what commands get beyond the sandbox."""
        strictest, grant = ALLOW, Grant()
        for intent in intents:
            found = self._command(intent) if intent.kind == "execute" else self._path(intent)
            grant |= found.grant
            if SEVERITY[found.verdict] > SEVERITY[strictest.verdict]:
                strictest = found
        return replace(strictest, grant=grant)

    def beyond(self, intents: Sequence[Intent], denial: Denial) -> Decision:
        """Whether a command that the sandbox stopped may run again with what it lacked."""
        if denial.grant is None:
            return Decision("deny", denial.reason)
        if self.mode == "plan" and (refusal := modes.planned_leave(denial.reason, denial.grant)):
            return refusal
        if self._yolo:
            return Decision(
                "deny",
                f"{denial.reason}; --yolo asks nothing and leaves the sandbox as it is "
                "(an allow rule, --network on or --sandbox off would change that)",
            )
        command = next((one.target for one in intents if one.kind == "execute"), "")
        doing = self._judge(command).active
        rule = _beyond_rule(doing, denial.grant)
        return Decision("ask", denial.reason, denial.grant, rule, _marks(doing))

    def remember(self, rule: str, scope: Scope) -> None:
        """Let a rule hold from now on, for the project also in later sessions. Raises OSError."""
        given = RuleSet(allow=(Rule.parse(rule, f"an answer, for the {scope}"),))
        self._rules |= given
        self._answered |= given
        if scope == "project":
            self._keep(rule)

    def use_rules(self, rules: RuleSet) -> None:
        """Go by these rules from now on, and by the answers of this session."""
        self._rules = rules | self._answered

    def _judge(self, command: str) -> Judgement:
        # What judges commands is loaded with the first of them.
        from kimi_cli.safety.shell_policy import Place, judge_shell

        return judge_shell(
            command,
            self._rules,
            # Where every change is asked for, or none is made, what only the sandbox holds is one.
            confined=self._confined and self.mode in ("auto", "yolo"),
            yolo=self._yolo,
            mode="read-only" if self.mode == "plan" else self._sandbox.mode,
            place=Place(self._folders, self._project, self._home),
            secret=self._places.is_secret,
        )

    def _command(self, intent: Intent) -> Decision:
        judged = self._judge(intent.target)
        if self.mode == "plan":
            return modes.planned_command(judged)
        return Decision(
            judged.verdict, judged.reason, judged.grant, judged.suggest or "", judged.marks
        )

    def _path(self, intent: Intent) -> Decision:
        kind: Literal["read", "write"] = "read" if intent.kind == "read" else "write"
        path = Path(intent.target)
        # The place that will be opened, whatever a symlink leads to by now.
        real = Path(intent.real) if intent.real else _resolved(path)
        objection = self._places.objection(kind, path, real)
        if objection and objection.never:
            return Decision("deny", objection.reason)
        if kind == "write" and self._sandbox.mode == "read-only":
            return Decision("deny", "this session only reads: nothing may be changed")
        judged = judge_path(
            kind,
            real,
            self._rules,
            project=self._project,
            home=self._home,
            named=path,
        )
        if judged.verdict == "deny":
            return Decision("deny", f"{path} is denied by the rule {judged.rule}")
        if kind == "write" and self.mode == "plan":
            return modes.planned_write(path)
        if judged.verdict == "allow":
            return ALLOW
        if judged.verdict == "ask" and not self._yolo:
            return Decision("ask", f"{path} is to be asked for by the rule {judged.rule}")
        if objection:
            return self._objected(kind, real, objection)
        if kind == "write" and self.mode == "ask":
            return modes.asked_write(path, _path_rule(kind, real))
        return ALLOW

    def _objected(self, kind: str, real: Path, objection: Objection) -> Decision:
        if not self._yolo:
            return Decision("ask", objection.reason, rule=_path_rule(kind, real))
        if self._confined and objection.outside:
            return Decision("deny", f"{objection.reason}, and --yolo leaves the sandbox as it is")
        return ALLOW


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path


def _path_rule(kind: str, real: Path) -> str:
    return f"{kind}({_GLOB.sub(lambda found: chr(92) + found[0], str(real))})"


def _beyond_rule(doing: Sequence[PartVerdict], grant: Grant) -> str:
    """The rule that would give the command what it lacked from now on; "" where none is narrow
    enough: a command of several programs, or one that leaves the sandbox."""
    if len(doing) != 1 or grant.unconfined:
        return ""
    from kimi_cli.safety.suggest import suggestion

    return suggestion(doing[0].part, grant) or ""


def _marks(parts: Sequence[PartVerdict]) -> list[tuple[int, int]]:
    return [(one.part.start, one.part.end) for one in parts]

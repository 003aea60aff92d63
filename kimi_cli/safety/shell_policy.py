"""The verdict on a shell command: every part of it is judged, and the strictest decides."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kimi_cli.protocol.sandbox import NOTHING, Grant, SandboxMode
from kimi_cli.safety.classify import Class, Kind, classify
from kimi_cli.safety.destructive import destructive
from kimi_cli.safety.path_rules import means
from kimi_cli.safety.rule_match import covers, hits
from kimi_cli.safety.rules import Rule, RuleSet
from kimi_cli.safety.shell_parse import parse
from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.showing import named, replaced, shown
from kimi_cli.safety.suggest import suggestion

Verdict = Literal["allow", "ask", "deny"]
_ORDER: dict[Verdict, int] = {"allow": 0, "ask": 1, "deny": 2}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command runs: the folders it may write to anyway (all resolved), the folder it starts
    in, and the home folder. The first of the folders is the project."""

    folders: tuple[Path, ...] = ()
    cwd: Path | None = None
    home: Path | None = None

    @property
    def project(self) -> Path | None:
        return self.folders[0] if self.folders else None


@dataclass(frozen=True, slots=True)
class PartVerdict:
    """``rule`` decided, or ``reason`` says what built-in did."""

    part: Part
    klass: Class
    verdict: Verdict
    reason: str
    rule: Rule | None = None
    grant: Grant = NOTHING


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a whole command.

    ``reason`` is a clause for the model and for people. ``needs`` are the indexes of the parts that
    need a decision. ``grant`` is what the allow rules give the command beyond the sandbox;
    ``withheld`` says why a rule's grant is not given. ``suggestions`` are the rules that would have
    allowed it, none when a part should not be allowed for good. ``trouble`` says why the command
    can't be parsed.
    """

    verdict: Verdict
    reason: str
    parts: tuple[PartVerdict, ...] = ()
    rule: Rule | None = None
    needs: tuple[int, ...] = ()
    grant: Grant = NOTHING
    withheld: str = ""
    suggestions: tuple[str, ...] = ()
    trouble: str = field(default="")

    @property
    def suggest(self) -> str | None:
        """The one rule that "always" would write; None when there is none, or several."""
        return self.suggestions[0] if len(self.suggestions) == 1 else None

    @property
    def kind(self) -> Kind | Literal["unparsable"]:
        """The class of the whole command: that of the part that does most."""
        if self.trouble:
            return "unparsable"
        kinds = {each.klass.kind for each in self.parts}
        order: tuple[Kind, ...] = ("opaque", "network", "writes")
        return next((kind for kind in order if kind in kinds), "read-only")

    @property
    def marks(self) -> tuple[tuple[int, int], ...]:
        """The character ranges of the command that need a decision."""
        found = ((self.parts[i].part.start, self.parts[i].part.end) for i in self.needs)
        return tuple(dict.fromkeys(found))

    @property
    def active(self) -> tuple[PartVerdict, ...]:
        """The parts that do more than read."""
        return tuple(each for each in self.parts if not each.klass.read_only)


def judge_shell(
    command: str,
    rules: RuleSet,
    *,
    confined: bool,
    yolo: bool,
    mode: SandboxMode = "workspace-write",
    place: Place | None = None,
    secret: Callable[[str], bool] | None = None,
) -> Judgement:
    """What becomes of ``command``.

    ``confined`` says that a sandbox holds for it, ``yolo`` that nothing is asked. In the mode
    "read-only" no rule lets a command write or leave the sandbox. ``secret`` tells names of files
    that hold secrets by custom; a part that names one is asked about.
    """
    place = place or Place()
    parsed = parse(command)
    if parsed.trouble:
        return _unparsed(parsed.trouble, rules, yolo)
    verdicts: list[PartVerdict] = []
    for part in parsed.parts:
        verdicts.append(_judge(part, rules, verdicts, confined, yolo, place, secret))
    verdict: Verdict = max((v.verdict for v in verdicts), key=_ORDER.__getitem__, default="allow")
    deciding = next((v for v in verdicts if v.verdict == verdict), None)
    needs = tuple(i for i, v in enumerate(verdicts) if v.verdict == "ask")
    grant, withheld = _grant(verdicts, mode, place) if verdict == "allow" else (NOTHING, "")
    return Judgement(
        verdict,
        _reason(deciding),
        tuple(verdicts),
        deciding.rule if deciding else None,
        needs,
        grant,
        withheld,
        _suggestions(verdicts, needs),
    )


def _unparsed(trouble: str, rules: RuleSet, yolo: bool) -> Judgement:
    because = f"the command can't be judged: {trouble}"
    denied = next((rule for rule in rules.deny if rule.tool == "shell"), None)
    asked = next((rule for rule in rules.ask if rule.tool == "shell"), None)
    every = next((r for r in rules.allow if r.tool == "shell" and r.words is None), None)
    if yolo and denied:
        because += f", and {denied}{_from(denied)} could be meant"
        return Judgement("deny", because, rule=denied, trouble=trouble)
    if yolo or (every and not denied and not asked):
        return Judgement("allow", because, rule=None if yolo else every, trouble=trouble)
    return Judgement("ask", because, trouble=trouble)


def _judge(
    part: Part,
    rules: RuleSet,
    before: Sequence[PartVerdict],
    confined: bool,
    yolo: bool,
    place: Place,
    secret: Callable[[str], bool] | None,
) -> PartVerdict:
    klass = classify(part)

    def result(
        verdict: Verdict, reason: str, rule: Rule | None = None, grant: Grant = NOTHING
    ) -> PartVerdict:
        return PartVerdict(part, klass, verdict, reason, rule, grant)

    perhaps: PartVerdict | None = None
    for rule in rules.deny:
        hit = hits(rule, part, klass) or _touches(rule, part, place)
        if hit == "yes":
            return result("deny", "a rule denies it", rule)
        if hit and not perhaps:
            why = "it could be what a rule denies"
            perhaps = result("deny" if yolo else "ask", why, rule)
    if perhaps:
        return perhaps
    if not yolo:
        for rule in rules.ask:
            hit = hits(rule, part, klass) or _touches(rule, part, place)
            if hit:
                sure = (
                    "a rule asks about it" if hit == "yes" else "it could be what a rule asks about"
                )
                return result("ask", sure, rule)
    danger, word = destructive(part, place.folders, place.home, place.cwd or place.project)
    outside = any(not _inside(path, part, place) for path in part.writes)
    reach, allowing, grant = 0, None, NOTHING
    for rule in rules.allow:
        named = covers(rule, part, outside) or _through(rule, part, before)
        if named:
            grant |= rule.grant
            if named > reach:
                reach, allowing = named, rule
    if allowing and (not danger or yolo or reach > word):
        return result("allow", "a rule allows it", allowing, grant)
    if danger and not yolo:
        return result("ask", danger)
    private = next((path for path in shown(part) if _is_secret(path, secret)), None)
    if private and not yolo:
        return result("ask", f"{private} may hold secrets")
    lost = replaced(part)
    if _is_secret(lost, secret) and not yolo and os.path.lexists(_target(lost, part, place) or "/"):
        return result("ask", f"it replaces {lost}, which may hold secrets")
    if confined:
        return result("allow", "the sandbox holds it")
    if klass.read_only:
        return result("allow", "it only reads" if part.argv else "it changes nothing")
    if yolo:
        return result("allow", "nothing is asked")
    return result("ask", klass.reason)


def _through(rule: Rule, part: Part, before: Sequence[PartVerdict]) -> int:
    """A rule that names a wrapper's words up to the wrapped program allows that too."""
    if not 0 <= part.outer < len(before) or part.at < 1 or rule.words is None:
        return 0
    outer = before[part.outer]
    if outer.rule is None or outer.verdict != "allow":
        return 0
    named = covers(rule, outer.part, False)
    literal = part.at < len(rule.words) and "*" not in rule.words[part.at]
    return max(named - part.at, 0) if named > part.at and literal else 0


def _target(path: str, part: Part, place: Place) -> str | None:
    """The absolute path of a redirection's target or a word; None when it can't be known."""
    if re.search(r"[$`*?\[]", path) or (part.moved and not path.startswith(("/", "~"))):
        return None
    if path == "~" or path.startswith("~/"):
        return str(place.home) + path[1:] if place.home else None
    if path.startswith("~"):
        return None
    if not path.startswith("/"):
        start = place.cwd or place.project
        if start is None:
            return None
        path = f"{start}/{path}"
    return os.path.realpath(path)


def _inside(path: str, part: Part, place: Place) -> bool:
    """Whether the file is surely one that the command may write anyway."""
    if not place.folders:
        plain = not re.search(r"[$`*?\[~]", path) and not path.startswith("/")
        return plain and ".." not in path.split("/") and not part.moved
    real = _target(path, part, place)
    return real is not None and any(Path(real).is_relative_to(folder) for folder in place.folders)


def _touches(rule: Rule, part: Part, place: Place) -> Literal["yes", ""]:
    """Whether a deny or ask rule for files means a file that the command names."""
    if rule.tool == "shell" or rule.path is None:
        return ""
    for path in part.writes if rule.tool == "write" else named(part):
        real = _target(path, part, place)
        if real and means(rule, real, place.project, place.home, generous=True):
            return "yes"
    return ""


def _is_secret(path: str, secret: Callable[[str], bool] | None) -> bool:
    return secret is not None and secret(path.rstrip("/").rsplit("/", 1)[-1])


# What the rules give

_READS_NOTHING = frozenset(
    {"cd", "echo", "printf", "true", "false", ":", "pwd", "exit", "set", "test", "[", "[["}
)


def _grant(verdicts: Sequence[PartVerdict], mode: SandboxMode, place: Place) -> tuple[Grant, str]:
    """What every part that could use it is allowed to have."""
    asked = NOTHING
    for each in verdicts:
        asked |= each.grant
    if not asked:
        return NOTHING, ""
    if mode == "read-only" and (asked.write or asked.unconfined):
        asked = Grant(asked.network, (), asked.read)
        if not asked:
            return NOTHING, "read-only mode: no rule lets a command write"
    given, withheld = NOTHING, ""
    for single in _singles(asked):
        without = next((v for v in verdicts if not _may_have(v, single)), None)
        if without is None:
            given |= single
        else:
            withheld = (
                f"{single.words()} is not given: no rule gives it to `{_short(without.part)}`"
            )
    return _at_home(given, place), withheld


def _singles(grant: Grant) -> list[Grant]:
    single = [Grant(network=True)] if grant.network else []
    single += [Grant(write=(path,)) for path in grant.write]
    single += [Grant(read=(path,)) for path in grant.read]
    return single + ([Grant(unconfined=True)] if grant.unconfined else [])


def _may_have(verdict: PartVerdict, single: Grant) -> bool:
    part = verdict.part
    if verdict.grant.covers(single):
        return True
    if not verdict.klass.read_only:
        return False
    # What only reads can't misuse the network or a folder to write to, but can read secrets.
    if single.network or single.write:
        return True
    ends = part.name in ("head", "tail") and all(
        re.fullmatch(r"-?[nc]?\d*", w.text) for w in part.argv[1:]
    )
    reads = bool(part.reads) or part.name not in _READS_NOTHING
    return not part.argv or part.transparent or ends or not reads


def _at_home(grant: Grant, place: Place) -> Grant:
    if place.home is None:
        return grant

    def absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(place.home) + p[1:] if p.startswith("~/") else p for p in paths)

    return Grant(grant.network, absolute(grant.write), absolute(grant.read), grant.unconfined)


# Words


def _suggestions(verdicts: Sequence[PartVerdict], needs: Sequence[int]) -> tuple[str, ...]:
    found: list[str] = []
    for index in needs:
        each = verdicts[index]
        # A rule of the user's asked: another one would not lift it.
        text = None if each.rule else suggestion(each.part)
        if text is None or destructive(each.part)[0]:
            return ()
        found.append(text)
    return tuple(dict.fromkeys(found))


def _reason(deciding: PartVerdict | None) -> str:
    if deciding is None or deciding.verdict == "allow":
        return ""
    subject = f"`{_short(deciding.part)}`"
    if deciding.part.via:
        subject += f" (run by {' and '.join(deciding.part.via)})"
    if deciding.rule is None:
        return f"{subject} needs approval: {deciding.reason}"
    return f"{subject}: {deciding.reason}: {deciding.rule}{_from(deciding.rule)}"


def _from(rule: Rule) -> str:
    return f" ({rule.source})" if rule.source else ""


def _short(part: Part) -> str:
    text = " ".join(part.raw.split())
    return text if len(text) <= 80 else text[:79] + "…"

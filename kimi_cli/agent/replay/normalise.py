"""What may differ between two runs of the same command without meaning anything: clock, process
ids, temporary names. One table; whatever it does not name is compared to the letter."""

from __future__ import annotations

import re
from typing import NamedTuple

_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d(?::(?:[0-5]\d|60)(?:[.,]\d+)?)?"
_DATE = r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_YEAR = r"(?:19|20)\d\d"
_ZONE = r"(?: ?(?:Z|[A-Z]{3,4}|[+-]\d\d:?\d\d)\b)?"
_SMALL = r"(?:ns|[µμu]s|ms)"
_UNIT = rf"(?:{_SMALL}|s|secs?|seconds?|mins?|minutes?|hours?)"
_NUMBER = r"\d+(?:[.,]\d+)?"
_HASH = r"[0-9a-f]{7,40}"
_SIGNALS = "Killed|Terminated|Aborted|Segmentation|Bus error|Hangup|Interrupt|Illegal|Alarm|Trace"
_BREAKS = r"\s'\"`:;,()\[\]{}<>"


class Rule(NamedTuple):
    """What is volatile and what stands for it. ``only`` limits a rule to the output of commands
    in which this word stands."""

    pattern: re.Pattern[str]
    stands_for: str
    only: str = ""


def _rule(pattern: str, stands_for: str, only: str = "") -> Rule:
    return Rule(re.compile(pattern, re.MULTILINE), stands_for, only)


OWN: tuple[Rule, ...] = (
    # Files of long outputs, and how much of them was left out: with other path lengths the cut
    # falls elsewhere.
    _rule(rf"/[^{_BREAKS}]*/outputs/(?:t\d+|[a-z]+-\d+)\.txt", "<output>"),
    _rule(r"\[\.\.\. [\d,]+ (?:lines \([\d,]+ bytes\)|bytes) left out", "[... left out"),
    _rule(r"(\btask[ =]\"?)t\d+\b", r"\1<task>"),
)
"""kimi's own words, in the results of all tools."""

COMMANDS: tuple[Rule, ...] = (
    # Dates and times of day.
    _rule(rf"(?<![A-Za-z0-9.-]){_DATE}(?:[T ]{_CLOCK}{_ZONE})?(?![\w-]|\.\d)", "<date>"),
    _rule(
        rf"\b(?:{_DAY},? )?\d\d?[ /-]{_MONTH}[ /-]{_YEAR}(?:[ :]{_CLOCK}(?: [AP]M)?{_ZONE})?\b",
        "<date>",
    ),
    _rule(
        rf"\b(?:{_DAY} )?{_MONTH} +\d\d?,? +"
        rf"(?:{_CLOCK}(?: [AP]M)?(?: [A-Z]{{3,4}})?(?: {_YEAR}{_ZONE})?|{_YEAR})(?!\w)",
        "<date>",
    ),
    _rule(r"(?<![\w.:-])\d?\d:[0-5]\d:[0-5]\d(?:[.,]\d+)?(?![\w:])", "<time>"),
    # Durations: with a fraction or a small unit always, whole seconds only where they say that
    # they are one.
    _rule(rf"(?<![\w.])\d+[.,]\d+ ?{_UNIT}\b", "<duration>"),
    _rule(rf"(?<![\w.])\d+ ?{_SMALL}\b", "<duration>"),
    _rule(rf"\b((?i:in|took|elapsed|time)(?::? +)){_NUMBER} ?{_UNIT}\b", r"\1<duration>"),
    _rule(rf"\({_NUMBER} ?{_UNIT}\)", "(<duration>)"),
    _rule(rf"\b\d+m ?{_NUMBER}s\b", "<duration>"),
    _rule(r"(?<![\w.:])(?:\d+:)*\d+\.\d+(?=user\b|system\b|elapsed\b)", "<duration>"),
    _rule(r"\b\d+ (?:second|minute|hour|day|week)s? ago\b", "<duration> ago"),
    _rule(rf"(?<![\w.]){_NUMBER} ?(?:[kKMGT]i?)?(?:B|b|bytes|bits|it|ops|req|rows)/s\b", "<rate>"),
    # Processes.
    _rule(r"\b((?i:pid|process id)\b\s*[:=#]?\s*)\d+", r"\1<pid>"),
    _rule(r"==\d+==", "==<pid>=="),
    _rule(r"\(node:\d+\)", "(node:<pid>)"),
    _rule(r"^(\[\d+\][+-]? +)\d+\b", r"\1<pid>"),
    _rule(rf"(\bline \d+: +)\d+(?= +(?:{_SIGNALS}))", r"\1<pid>"),
    # Temporary files: the first name below the folder, which is the one made up.
    _rule(
        rf"(?<![\w.>-])(?:/private)?(?:/var/tmp|/tmp|/dev/shm|/var/folders/\w+/\w+/T)/[^{_BREAKS}/]+",
        "<temp>",
    ),
    _rule(r"<temp>/pytest-\d+", "<temp>"),
    # Names of things in memory, made up names, ports that the system chose.
    _rule(r"\b0x[0-9a-fA-F]{9,16}\b", "<address>"),
    _rule(r"\bat 0x[0-9a-fA-F]{4,}\b", "at <address>"),
    _rule(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", "<uuid>"),
    _rule(
        r"(\b(?:localhost|127\.0\.0\.1|0\.0\.0\.0)|\[::1?\]):(?:3[3-9]|[45]\d|6[0-5])\d{3}\b",
        r"\1:<port>",
    ),
    # ls -l: owners, link counts, and the sizes of folders, which are the file system's affair.
    _rule(r"^total \d+(?=\n[dl-][rwxsStT-]{9})", "total <blocks>"),
    _rule(r"^d[rwxsStT-]{9}\S? .* \.\.$", "<parent>"),
    _rule(r"^(d[rwxsStT-]{9})\S? +\d+ +\S+ +\S+ +\d+", r"\1 <owner>"),
    _rule(r"^([l-][rwxsStT-]{9})\S? +\d+ +\S+ +\S+ +", r"\1 <owner> "),
    # Commits are named by their time too.
    _rule(rf"(\[[^\]\s]+(?: \(root-commit\))? ){_HASH}\]", r"\1<commit>]", "git"),
    _rule(rf"\b(commit |Merge: |HEAD is now at |Merge: <commit> ){_HASH}\b", r"\1<commit>", "git"),
    _rule(rf"^([*|/\\ ]*){_HASH}(?= )", r"\1<commit>", "git"),
    _rule(rf"(?<!index )\b{_HASH}(\.\.\.?){_HASH}\b", r"<commit>\1<commit>", "git"),
    _rule(r"^[0-9a-f]{40}$", "<commit>", "git"),
)
"""The output of commands, in which rule follows rule."""


def normalise(text: str, command: str | None) -> str:
    """``text`` with what is volatile replaced by ``<what>``; ``command`` is the command that
    printed it, None for the result of another tool, where only kimi's own words are."""
    rules = OWN if command is None else OWN + COMMANDS
    for rule in rules:
        if not rule.only or re.search(rf"\b{rule.only}\b", command or ""):
            text = rule.pattern.sub(rule.stands_for, text)
    return text

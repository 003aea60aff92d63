"""One line of vLLM's log taken apart: which process wrote it, how grave it is, what it says; and
progress bars.

vLLM puts "(NAME pid=N) " before every line of a process of its own (vllm/utils/system_utils.py) and
"LEVEL MM-DD HH:MM:SS [FILE:LINE] " before what it logs (vllm/logging_utils/formatter.py); Ray puts
"(NAME pid=N, ip=A) ". Bars are tqdm's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])?")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_PROCESS = re.compile(r"\(([A-Za-z][\w.-]*) (?:pid|rank)=(\d+)(?:, ip=[^)]*)?\) ?", re.ASCII)
_HEAD = re.compile(
    r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? \[[^\]]*\] ?",
    re.ASCII,
)
_UVICORN = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL): {2,}")
_AMOUNT = r"(\d{1,12}(?:\.\d{1,6})?)([kMGTP]?)"
_BAR = re.compile(
    rf"(.*?):? *(\d{{1,3}})%(?:\|[^|]*\|| Completed \|) *{_AMOUNT}/{_AMOUNT}B?"
    r" \[(?:\d{1,6}:)*\d{1,6}<((?:\d{1,6}:)*\d{1,6}|\?)[^\]]*\]",
    re.ASCII,
)
_COUNTED = re.compile(r"(Prefetching checkpoint files): \d+% \((\d{1,9})/(\d{1,9})\)", re.ASCII)
# Terminals are narrower; an endless line is not worth the search.
_BAR_LENGTH = 600
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


@dataclass(frozen=True, slots=True)
class Line:
    """`process` is vLLM's name for the process ("EngineCore", "Worker_TP3"; "" where it doesn't
    say), `level` the logger's ("" for what isn't logged), `text` the rest."""

    process: str
    pid: int
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A progress bar: how many of how many, and the seconds that it reckons are left."""

    name: str
    done: float
    total: float
    left: float | None
    words: str


def clean(text: str) -> str:
    """The line without escape sequences, control characters and space at its end."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text)).rstrip()


def read(text: str) -> Line:
    """A cleaned line, taken apart. Of several processes the innermost counts."""
    process, pid = "", 0
    while found := _PROCESS.match(text):
        process, pid = found[1], int(found[2][:18])
        text = text[found.end() :]
    head = _HEAD.match(text) or _UVICORN.match(text)
    if head is None:
        return Line(process, pid, "", text)
    return Line(process, pid, head[1], text[head.end() :])


def read_bar(text: str) -> Bar | None:
    """The bar that the text of a line draws, if it is one."""
    found = _BAR.match(text[:_BAR_LENGTH])
    if found is None:
        return _counted(text)
    total = float(found[5]) * _UNITS[found[6]]
    if total <= 0:
        return None
    done = min(float(found[3]) * _UNITS[found[4]], total)
    words = f"{found[3]}{found[4]}/{found[5]}{found[6]}"
    return Bar(found[1].strip(), done, total, _seconds(found[7]), words)


def _counted(text: str) -> Bar | None:
    found = _COUNTED.match(text)
    if found is None or int(found[3]) == 0:
        return None
    done, total = int(found[2]), int(found[3])
    return Bar(found[1], min(done, total), total, None, f"{done}/{total}")


def _seconds(text: str) -> float | None:
    """ "1:02:03" as seconds; "?" is None (tqdm's format_interval)."""
    if text == "?":
        return None
    seconds = 0
    for part in text.split(":"):
        seconds = seconds * 60 + int(part)
    return float(seconds)

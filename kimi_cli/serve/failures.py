"""What went wrong according to a log of vLLM: the exceptions of its processes and what it logged as
errors, the innermost process first.

A worker's exception makes the engine's, and that one makes the API server's, which is the last to
be seen and says the least.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from kimi_cli.serve.log_lines import Line, clean, read
from kimi_cli.serve.stages import LISTENING

_TRACE = "Traceback (most recent call last)"
_CAUSE = "The above exception was the direct cause"
_CONTEXT = "During handling of the above exception"
_RAISED = re.compile(r"([A-Za-z_][\w.]*)(?:: (.*))?$", re.ASCII | re.DOTALL)
_PYDANTIC = re.compile(r"\s*(?:Value error|Assertion failed), (.*)", re.DOTALL)
_PYDANTIC_TAIL = re.compile(r" \[type=\w+, input_.*$", re.DOTALL)
_FOLLOWING = 8
_FATAL = (
    "WorkerProc hit an exception",
    "EngineCore encountered a fatal error",
    "died unexpectedly",
    "exited unexpectedly",
)
# What leads to the end of a server stands right before; older errors were those of requests.
_BEFORE_FATAL = 50
_GENERIC = (
    "See root cause above",
    "See stack trace (above) for the root cause",
    "See stack trace for root cause",
    "WorkerProc initialization failed",
    "please check the stack trace above",
)
_NO_CAUSE = frozenset(
    {
        "KeyboardInterrupt",
        "SystemExit",
        "CancelledError",
        "asyncio.exceptions.CancelledError",
        "BrokenPipeError",
        "EOFError",
        "RuntimeError: cancelled",
    }
)


@dataclass(slots=True)
class Raised:
    """One exception of a log: whose it is, its type and message (of several lines sometimes).
    `inner` is what it was raised from or while handling; `meant` tells the first of the two."""

    process: str
    type: str
    message: str
    inner: Raised | None = None
    meant: bool = False
    more: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Type and message as they stand in the log, all lines."""
        head = f"{self.type}: {self.message}" if self.message else self.type
        return "\n".join((head, *self.more))

    @property
    def words(self) -> str:
        """What it says in one line."""
        for line in self.more:
            if found := _PYDANTIC.match(line):
                return _PYDANTIC_TAIL.sub("", found[1])
        kind = self.type.rpartition(".")[2]
        head = f"{kind}: {self.message}" if self.message else kind
        if self.message.rstrip().endswith(":") and self.more:
            return f"{head} {self.more[0].strip()}"
        return head

    @property
    def generic(self) -> bool:
        """Whether it only says that something else failed."""
        head = f"{self.type}: {self.message}"
        return (
            self.type in _NO_CAUSE
            or head in _NO_CAUSE
            or any(part in self.message for part in _GENERIC)
        )

    def root(self) -> Raised:
        """Where it began. What came up while an error was handled explains that error; what it
        was raised from is its cause."""
        found = self
        while found.inner is not None and (found.meant or found.generic):
            found = found.inner
        return found


@dataclass(frozen=True, slots=True)
class Failures:
    """All that tells of failure, the innermost process and the earliest first. `said` are error
    messages and what no logger wrote; `texts` are both, to look for known words in. `lines` are
    the texts of all lines, warnings and others too. `served`: it had taken requests."""

    raised: tuple[Raised, ...]
    said: tuple[str, ...]
    lines: tuple[str, ...] = ()
    served: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        return (*(one.text for one in self.raised), *self.said)

    def deepest(self, passed_on: Callable[[str], bool]) -> Raised | None:
        """The exception that began it, as far as the log tells; None where there are only those
        of which `passed_on` knows that something else is behind them."""
        for one in self.raised:
            root = one.root()
            if not root.generic and not passed_on(root.text):
                return root
        return None


def read_failures(lines: Sequence[str]) -> Failures:
    """What of these lines tells of failure. Once the server took requests, what it had said
    before that is no cause any more."""
    taken = [read(clean(line)) for line in lines]
    served = False
    for place in range(len(taken) - 1, -1, -1):
        if _says(taken[place], LISTENING):
            taken, served = taken[place + 1 :], True
            break
    if served:
        fatal = (place for place, line in enumerate(taken) if _says(line, _FATAL))
        taken = taken[max(0, next(fatal, 0) - _BEFORE_FATAL) :]
    raised: list[Raised] = []
    said: list[str] = []
    for group in _by_writer(taken):
        _take(group, raised, said)
    chained = {id(one.inner) for one in raised if one.inner is not None}
    outer = [one for one in raised if id(one) not in chained]
    outer.sort(key=lambda one: -_depth(one.process))
    texts = tuple(line.text for line in taken)
    return Failures(tuple(_flat(outer)), tuple(said), texts, served)


def _says(line: Line, texts: Sequence[str]) -> bool:
    return any(text in line.text for text in texts)


def _flat(outer: Iterable[Raised]) -> Iterable[Raised]:
    for one in outer:
        yield one
        inner = one.inner
        while inner is not None:
            yield inner
            inner = inner.inner


def _depth(process: str) -> int:
    if "worker" in process.lower():
        return 3
    return 2 if process.startswith("EngineCore") else 1


def _by_writer(lines: Iterable[Line]) -> list[list[Line]]:
    """The lines of each writer together: those of several processes mingle in a log."""
    groups: dict[tuple[str, int, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.process, line.pid, line.level), []).append(line)
    return list(groups.values())


def _take(lines: Sequence[Line], raised: list[Raised], said: list[str]) -> None:
    place = 0
    last: Raised | None = None
    inner: Raised | None = None
    meant = False
    while place < len(lines):
        line = lines[place]
        text = line.text.strip(" +|")
        if text.startswith((_CAUSE, _CONTEXT)):
            inner, meant = last, text.startswith(_CAUSE)
        elif text.startswith(_TRACE):
            place, one = _trace(lines, place + 1)
            if one is not None:
                one.inner, one.meant = inner, meant
                raised.append(one)
                last = one
            inner = None
            continue
        elif line.level in ("ERROR", "CRITICAL", ""):
            said.append(line.text)
        place += 1


def _trace(lines: Sequence[Line], place: int) -> tuple[int, Raised | None]:
    """The exception at the end of the traceback whose frames begin at `place`, and the place
    behind it."""
    while place < len(lines) and (not lines[place].text or lines[place].text[0] in " \t"):
        place += 1
    if place == len(lines):
        return place, None
    found = _RAISED.match(lines[place].text)
    if found is None:
        return place, None
    one = Raised(lines[place].process, found[1], found[2] or "")
    level = lines[place].level
    place += 1
    while place < len(lines) and len(one.more) < _FOLLOWING:
        text = lines[place].text.strip(" +|")
        if text.startswith((_TRACE, _CAUSE, _CONTEXT)) or lines[place].level != level:
            break
        one.more.append(lines[place].text)
        place += 1
    return place, one

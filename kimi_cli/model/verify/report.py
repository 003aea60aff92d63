"""What the checks of an endpoint found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Result = Literal["ok", "failed", "not applicable"]
_LONGEST = 160


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what came of it in `words` (for "not applicable" the reason), and as `evidence`
    what the endpoint said. `hard`: an agent can't work where it fails."""

    name: str
    result: Result
    words: str = ""
    evidence: str = ""
    hard: bool = True


@dataclass(frozen=True, slots=True)
class Trial:
    """One request that had to bring a tool call. `calls` came, `valid` of them name an offered
    tool and fit its schema, `faithful` have the values that were asked for; `problem` is what is
    wrong with the first that is not valid, or why there is none."""

    case: str
    streamed: bool
    calls: int
    valid: int
    faithful: int
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Counts over trials and the shares that follow. A share of nothing is 0: what never calls
    has no valid calls either."""

    asked: int
    called: int
    calls: int
    valid: int
    faithful: int

    @property
    def called_rate(self) -> float:
        return self.called / self.asked if self.asked else 0.0

    @property
    def valid_rate(self) -> float:
        return self.valid / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Everything that was found at one endpoint for one model. `threshold` is the least share of
    requests that bring a call, and of calls that are valid. `input_tokens` and `output_tokens`
    are what the endpoint said it has counted."""

    base_url: str
    model: str
    dialect: str
    checks: tuple[Check, ...]
    trials: tuple[Trial, ...]
    threshold: float
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    @property
    def rates(self) -> Rates:
        return rates(self.trials)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The hard checks that failed."""
        return tuple(one for one in self.checks if one.hard and one.result == "failed")

    @property
    def below(self) -> bool:
        """Whether a share is below the threshold, or there was no trial at all."""
        found = self.rates
        return not found.asked or min(found.called_rate, found.valid_rate) < self.threshold

    @property
    def passed(self) -> bool:
        return not self.below and not self.failures


def rates(trials: Iterable[Trial]) -> Rates:
    """The counts over these trials."""
    found = list(trials)
    return Rates(
        len(found),
        sum(one.calls > 0 for one in found),
        sum(one.calls for one in found),
        sum(one.valid for one in found),
        sum(one.faithful for one in found),
    )


def short(text: str, most: int = _LONGEST) -> str:
    """The text on one line, without what can't be seen, at most so many characters."""
    line = "".join(char if char.isprintable() else " " for char in text[: most * 8])
    line = " ".join(line.split())
    return line if len(line) <= most else line[: most - 1] + "…"

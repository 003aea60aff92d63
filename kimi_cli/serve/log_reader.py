"""vLLM's log as it grows: how far the start is, and what there is to know of it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from kimi_cli.serve import stages
from kimi_cli.serve.log_lines import Bar, Line, clean, read, read_bar
from kimi_cli.serve.running import Progress, Stage
from kimi_cli.serve.stages import Quiet

_FIRST_LINES = 400
_LAST_LINES = 2000
_LONGEST = 8192
_ENDS = re.compile(r"[\r\n]")
# Configurations and tokenizers are small; from here on it is the weights that come.
_WEIGHTS = 8 << 20
_WINDOW_S = 60.0
_NEARLY = 0.995

_CONTEXT = re.compile(
    r"Using max model len (\d+)"
    r"|Auto-fit max_model_len: (?:reduced from \d+ to|full model context length) (\d+)",
    re.ASCII,
)
_TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens", re.ASCII)
_PLACED = re.compile(
    r"DP group leader: .*?master_addr=([^,\s]*).*?world_size=(\d+), local_world_size=(\d+)",
    re.ASCII,
)
_WORLD = re.compile(r"world_size=(\d+) rank=\d+ .*distributed_init_method=", re.ASCII)
_METHOD = re.compile(r"distributed_init_method=tcp://(\S+)")


@dataclass(slots=True)
class _Seen:
    """What one try to start has shown so far."""

    stage: Stage = "starting"
    since: float | None = None
    moved: float = 0.0
    eager: bool = False
    listening: bool = False
    loaded: bool = False
    bar: Bar | None = None
    bar_at: float = 0.0
    bar_first: tuple[float, float] = (0.0, 0.0)
    last: str = ""
    tokens: int = 0
    context: int = 0
    nodes: int = 1
    placed: bool = False
    joined: bool = False
    master: str = ""
    had: int | None = None


class LogReader:
    """Feed it the log as it is read, in pieces of any cut; ask it at any time.

    `weight_bytes` is the size of the weights (0: unknown), `repo` what is downloaded and `hosts`
    are the nodes, the head first: for the words about waiting. Moments are seconds since the
    epoch. Nothing here raises for anything that a log may hold, and the time it takes and what it
    keeps are bounded by what is fed and by a constant.
    """

    def __init__(self, weight_bytes: int = 0, *, repo: str = "", hosts: Sequence[str] = ()) -> None:
        self._weight_bytes = weight_bytes
        self._repo = repo
        self._hosts = tuple(hosts)
        self._seen = _Seen()
        self._rest = ""
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._shown = ""
        self._bytes: deque[tuple[float, int]] = deque()

    @property
    def listening(self) -> bool:
        """Whether vLLM has said that it takes requests."""
        return self._seen.listening

    @property
    def tokens(self) -> int:
        """How many tokens fit into its cache; 0 until it says so."""
        return self._seen.tokens

    @property
    def context(self) -> int:
        """The longest conversation as vLLM gives it, fitted to the memory or as told; 0 until
        it says so."""
        return self._seen.context

    @property
    def lines(self) -> list[str]:
        """The first and the last lines of the log, cleaned; of a bar the last state alone."""
        rest = clean(self._rest)
        return [*self._first, *self._last, *([rest] if rest else [])]

    def feed(self, text: str, now: float) -> None:
        """The next piece of the log, read at `now`."""
        self._begin(now)
        self._rest += text
        start = 0
        while True:
            end = _ENDS.search(self._rest, start, start + _LONGEST)
            if end is not None:
                self._line(self._rest[start : end.start()], now)
                start = end.end()
            elif len(self._rest) - start >= _LONGEST:
                self._line(self._rest[start : start + _LONGEST], now)
                start += _LONGEST
            else:
                break
        self._rest = self._rest[start:]
        # A bar has no end of line before its next state.
        if self._rest and (bar := read_bar(read(clean(self._rest)).text)):
            self._bar(bar, now)

    def downloaded(self, size: int, now: float) -> None:
        """That many bytes of the model are on this computer at `now`."""
        self._begin(now)
        seen = self._seen
        if seen.had is None:
            seen.had = size
        if self._bytes and size <= self._bytes[-1][1]:
            return
        self._bytes.append((now, size))
        while len(self._bytes) > 2 and self._bytes[1][0] < now - _WINDOW_S:
            self._bytes.popleft()
        if len(self._bytes) < 2 or seen.stage not in ("starting", "download"):
            return
        if seen.stage == "download" or size - seen.had >= _WEIGHTS:
            self._reach("download", now)
            seen.moved = now

    def progress(self, now: float) -> Progress:
        """How it stands at `now`."""
        self._begin(now)
        seen = self._seen
        done, detail, eta = self._share(now)
        return Progress(
            stage=seen.stage,
            since=now if seen.since is None else seen.since,
            done=done,
            detail=detail,
            eta=eta,
            waiting="" if seen.listening else stages.waiting_words(self._quiet(now)),
        )

    # --- reading ---

    def _begin(self, now: float) -> None:
        if self._seen.since is None:
            self._seen.since = self._seen.moved = now

    def _line(self, raw: str, now: float) -> None:
        text = clean(raw)
        if not text:
            return
        line = read(text)
        bar = read_bar(line.text)
        self._keep(text, bar.name if bar else "")
        if self._seen.listening:
            return
        if bar is not None:
            self._bar(bar, now)
        else:
            self._say(line, now)

    def _keep(self, text: str, bar: str) -> None:
        kept: list[str] | deque[str] = self._last if self._last else self._first
        if bar and bar == self._shown and kept:
            kept[-1] = text
        elif len(self._first) < _FIRST_LINES:
            self._first.append(text)
        else:
            self._last.append(text)
        self._shown = bar

    def _say(self, line: Line, now: float) -> None:
        seen = self._seen
        self._numbers(line.text)
        stage = stages.stage_of(line.text)
        if any(text in line.text for text in stages.LOADED):
            seen.loaded = True
            if seen.eager:
                stage = "profile"
        if stages.EAGER in line.text:
            seen.eager = True
        if any(text in line.text for text in stages.LISTENING):
            seen.listening = True
        if stage is not None:
            self._reach(stage, now)
        if not stages.is_reminder(line.text):
            seen.moved = now
        if line.level or "NCCL" in line.text:
            seen.last = line.text

    def _numbers(self, text: str) -> None:
        seen = self._seen
        if found := _CONTEXT.search(text):
            seen.context = int((found[1] or found[2])[:12])
        if found := _TOKENS.search(text):
            seen.tokens = int(found[1].replace(",", "")[:15] or "0")
        if found := _PLACED.search(text):
            world, here = int(found[2][:6]), int(found[3][:6])
            seen.nodes = max(1, world // max(1, here))
            seen.master = seen.master or found[1]
        if found := _WORLD.search(text):
            seen.placed = int(found[1][:6]) > 1
            if method := _METHOD.search(text):
                seen.master = method[1]
        if stages.JOINED in text:
            seen.joined = True

    def _bar(self, bar: Bar, now: float) -> None:
        seen = self._seen
        stage = stages.stage_of_bar(bar)
        if stage is None or seen.listening:
            return
        self._reach(stage, now)
        if stage != seen.stage:
            return
        known = seen.bar
        if known is None or known.name != bar.name or known.done > bar.done:
            seen.bar_first = (now, bar.done)
        elif known.done == bar.done:
            return
        seen.bar, seen.bar_at, seen.moved = bar, now, now

    def _reach(self, stage: Stage, now: float) -> None:
        seen = self._seen
        if stages.later(stage, seen.stage) != seen.stage:
            seen.stage, seen.since, seen.moved, seen.bar = stage, now, now, None

    # --- telling ---

    def _share(self, now: float) -> tuple[float | None, str, float | None]:
        seen = self._seen
        if seen.stage == "download" and self._weight_bytes:
            return self._download_share(now)
        bar = seen.bar
        if bar is not None:
            return bar.done / bar.total, bar.words, self._eta(bar, now)
        if seen.stage == "load" and seen.loaded:
            return 1.0, "", 0.0
        if seen.stage == "download" and self._bytes:
            return None, f"{self._bytes[-1][1] / 1e9:,.1f} GB", None
        return None, "", None

    def _download_share(self, now: float) -> tuple[float | None, str, float | None]:
        if not self._bytes:
            return None, "", None
        size = min(self._bytes[-1][1], self._weight_bytes)
        detail = f"{size / 1e9:,.1f}/{self._weight_bytes / 1e9:,.1f} GB"
        (since, before), (_, last) = self._bytes[0], self._bytes[-1]
        eta = None
        if now > since and last > before:
            eta = (self._weight_bytes - size) * (now - since) / (last - before)
        # The cache holds more than the weights: it is done when vLLM says so.
        return min(size / self._weight_bytes, _NEARLY), detail, eta

    def _eta(self, bar: Bar, now: float) -> float | None:
        left = bar.left
        if left is None:
            pace = self._pace()
            left = None if pace is None else (bar.total - bar.done) * pace
        return None if left is None else max(0.0, left - (now - self._seen.bar_at))

    def _pace(self) -> float | None:
        """The mean seconds of a step of the bar."""
        seen = self._seen
        since, first = seen.bar_first
        if seen.bar is None or seen.bar.done <= first or seen.bar_at <= since:
            return None
        return (seen.bar_at - since) / (seen.bar.done - first)

    def _quiet(self, now: float) -> Quiet:
        seen = self._seen
        return Quiet(
            stage=seen.stage,
            seconds=max(0.0, now - seen.moved),
            last=seen.last,
            bar=seen.bar,
            pace=self._pace(),
            repo=self._repo,
            here=self._bytes[-1][1] if self._bytes else 0,
            weight_bytes=self._weight_bytes,
            nodes=max(seen.nodes, len(self._hosts)),
            absent=self._hosts[1:],
            master=seen.master,
            placed=seen.placed,
            joined=seen.joined,
        )

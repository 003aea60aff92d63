"""The interactive `kimi` in a real tmux: a terminal that wraps its lines anew on a resize."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.program import PROGRAM, Kimi
from tests.support.server import ScriptedServer

TMUX = shutil.which("tmux")
DEADLINE = 30.0
CONFIGURATION = """
set -g history-limit 100000
set -g status off
set -g remain-on-exit on
set -g escape-time 0
"""


class Tmux:
    """A tmux server of its own with `kimi` in its only pane."""

    def __init__(
        self,
        kimi: Kimi,
        *args: str,
        server: ScriptedServer | None = None,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tm"))
        environment = {**kimi.environment(server), "TERM": "tmux-256color", **(env or {})}
        words = ["env", "-i", *(f"{k}={v}" for k, v in environment.items()), str(PROGRAM), *args]
        (self._folder / "conf").write_text(CONFIGURATION)
        size = ("-x", str(columns), "-y", str(rows))
        self._tmux("new-session", "-d", *size, "-c", str(kimi.cwd), shlex.join(words))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._tmux("kill-server", check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tmux(self, *args: str, check: bool = True) -> str:
        assert TMUX, "tmux is not installed"
        done = subprocess.run(
            [TMUX, "-u", "-S", f"{self._folder}/s", "-f", f"{self._folder}/conf", *args],
            capture_output=True,
            check=check,
            timeout=DEADLINE,
        )
        return done.stdout.decode()

    @property
    def lines(self) -> list[str]:
        """The rows of the screen, without blanks at their ends."""
        return [line.rstrip() for line in self._tmux("capture-pane", "-p").split("\n")[:-1]]

    @property
    def scrollback(self) -> list[str]:
        """The rows of the history and of the screen; what the terminal wrapped is joined."""
        whole = self._tmux("capture-pane", "-p", "-J", "-S", "-")
        return [line.rstrip() for line in whole.split("\n")[:-1]]

    @property
    def shown(self) -> str:
        return "\n".join(self.lines)

    @property
    def text(self) -> str:
        return "\n".join(self.scrollback)

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and row of the cursor."""
        x, y = self._tmux("display", "-p", "#{cursor_x} #{cursor_y}").split()
        return int(x), int(y)

    @property
    def cursor_visible(self) -> bool:
        return self._tmux("display", "-p", "#{cursor_flag}").strip() == "1"

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names: Enter, Escape, BSpace, C-c, M-Enter."""
        self._tmux("send-keys", *keys)

    def submit(self, text: str) -> None:
        self.type(text)
        self.wait_shown(text[-20:])
        self.press("Enter")

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def wait(self, words: str, deadline: float = DEADLINE) -> None:
        """Wait until the words stand on the screen or in the history."""
        self.until(lambda: words in self.text, f"no {words!r}", deadline)

    def wait_shown(self, words: str, deadline: float = DEADLINE) -> None:
        self.until(lambda: words in self.shown, f"no {words!r} on the screen", deadline)

    def until(self, holds: Callable[[], bool], problem: str, deadline: float = DEADLINE) -> None:
        end = time.monotonic() + deadline
        while not holds():
            if time.monotonic() > end or "Pane is dead" in self.shown:
                raise AssertionError(f"{problem}; the screen:\n{self.text}")
            time.sleep(0.02)

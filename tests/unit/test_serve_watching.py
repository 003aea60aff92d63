"""Watching, stopping and reading servers: a real terminal, real files, a real process that holds
the lock."""

from __future__ import annotations

import os
import pty
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fcntl import ioctl
from itertools import chain
from pathlib import Path
from struct import pack
from termios import TIOCSWINSZ
from typing import TextIO

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.frontends.serve.log_view import Tail, follow, shown
from kimi_cli.frontends.serve.pane import Pane
from kimi_cli.frontends.serve.signals import Interrupts
from kimi_cli.frontends.serve.spans import Line, Span
from kimi_cli.frontends.serve.stopping import stop_server
from kimi_cli.frontends.serve.viewer import Viewer
from kimi_cli.serve import state
from kimi_cli.serve.log_file import turn
from kimi_cli.serve.running import Checked, Progress, Repair, ServerState, Trouble
from tests.support.kept import kept, put


class Screen:
    """A terminal that a `Pane` writes to; what is seen and what has scrolled away."""

    def __init__(self, columns: int, rows: int = 12) -> None:
        self._far, near = pty.openpty()
        self._screen = pyte.HistoryScreen(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self.stream: TextIO = os.fdopen(near, "w", encoding="utf-8")
        self.resize(columns, rows)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, columns: int, rows: int = 12) -> None:
        ioctl(self._far, TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._far, 65_536)
            except OSError:
                return
            self.raw += data
            self._stream.feed(data)

    def lines(self) -> list[str]:
        gone = ["".join(row[x].data for x in range(len(row))) for row in self._screen.history.top]
        rows = [line.rstrip() for line in [*gone, *self._screen.display]]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def close(self) -> list[str]:
        """All lines, once everything has been read."""
        self.stream.close()
        self._reader.join(10)
        os.close(self._far)
        return self.lines()


def line(text: str) -> Line:
    return (Span(text),)


@pytest.fixture
def screen() -> Iterator[Callable[[int], Screen]]:
    made: list[Screen] = []

    def make(columns: int) -> Screen:
        made.append(Screen(columns))
        return made[-1]

    yield make
    for one in made:
        if not one.stream.closed:
            one.close()


# --- the pane ---


def test_live_lines_are_replaced_and_lasting_ones_stay_above(
    screen: Callable[[int], Screen],
) -> None:
    terminal = screen(40)
    pane = Pane(terminal.stream, {"TERM": "xterm"})
    pane.say([line("head")])
    for number in range(5):
        pane.draw([line(f"live {number}"), line("waits")])
        pane.say([line(f"stage {number}")])
    pane.close()
    pane.say([line("end")])
    lasting = [f"stage {number}" for number in range(5)]
    assert terminal.close() == ["head", *lasting, "end"]
    assert terminal.raw.count(b"\x1b[?25l") == terminal.raw.count(b"\x1b[?25h") == 1


def test_a_live_line_is_never_wrapped_and_one_that_was_is_erased(
    screen: Callable[[int], Screen],
) -> None:
    terminal = screen(60)
    pane = Pane(terminal.stream, {"TERM": "xterm"})
    pane.draw([line("x" * 200)])
    pane.draw([line("y" * 50)])
    # What was drawn 50 wide takes three rows of a terminal of 20 columns.
    terminal.resize(20)
    pane.draw([line("z" * 50)])
    pane.close()
    terminal.close()
    assert terminal.raw.count(b"x") == 58 and terminal.raw.count(b"z") == 18
    assert b"\r\x1b[2A\x1b[J" in terminal.raw


def test_what_the_environment_says_of_the_terminal(screen: Callable[[int], Screen]) -> None:
    terminal = screen(40)
    bare = Pane(terminal.stream, {"TERM": "xterm", "NO_COLOR": "1"})
    bare.say([(Span("red", "bad"),)])
    dumb = Pane(terminal.stream, {"TERM": "dumb"})
    dumb.draw([line("never")])
    dumb.say([(Span("plain", "bad"),)])
    assert terminal.close() == ["red", "plain"]
    assert b"\x1b" not in terminal.raw


def test_a_file_gets_whole_lines_and_nothing_live(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w", encoding="ascii") as out:
        pane = Pane(out, {"TERM": "xterm"})
        assert pane.width is None and not pane.live
        pane.draw([line("live")])
        pane.say([(Span("✓ chat", "good"), Span(" · ready"))])
        pane.close()
    assert (tmp_path / "out").read_bytes() == b"+ chat - ready\n"


# --- logs ---


@given(st.lists(st.binary(max_size=30), max_size=30), st.integers(0, 12), st.integers(0, 30))
def test_the_last_lines_and_those_that_follow(
    tmp_path_factory: pytest.TempPathFactory, raw: list[bytes], count: int, cut: int
) -> None:
    lines = [one.replace(b"\n", b"") for one in raw]
    content = b"".join(one + b"\n" for one in lines)
    path = tmp_path_factory.mktemp("log") / "vllm.log"
    at = min(cut, len(content))
    path.write_bytes(content[:at])
    with Tail(path) as tail:
        first = tail.last(count)
        before = content[:at].count(b"\n")
        assert first == [shown(one) for one in lines[max(before - count, 0) : before]]
        with path.open("ab") as log:
            log.write(content[at:])
        assert tail.more() == [shown(one) for one in lines[before:]]
        assert tail.rest() == []


def test_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text("".join(f"line {number} {'x' * 90}\n" for number in range(5000)) + "tail")
    with Tail(path) as tail:
        last = tail.last(1500)
        assert (len(last), last[0][:9], last[-1][:9]) == (1500, "line 3500", "line 4999")
        assert tail.rest() == ["tail"]


def test_a_bar_is_shown_in_its_last_state_and_nothing_is_obeyed() -> None:
    assert shown(b"\rLoading:  0%\rLoading: 64%\r") == "Loading: 64%"
    assert shown(b"\x1b]0;title\x07a\x1b[2Jb\xff\tc") == "0;titleab� c"
    assert shown(b"(Worker pid=1) \xe2\x9c\x93") == "(Worker pid=1) ✓"


def test_a_bar_without_an_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_bytes(b"one\n\rLoading:  0%")
    with Tail(path) as tail:
        assert tail.last(5) == ["one"]
        assert tail.unfinished == "Loading:  0%"
        with path.open("ab") as log:
            log.write(b"\rLoading: 64%")
        assert (tail.more(), tail.unfinished) == ([], "Loading: 64%")
        with path.open("ab") as log:
            log.write(b"\rLoading: 100%\n")
        assert (tail.more(), tail.unfinished) == (["Loading: 100%"], "")


def test_a_log_that_begins_anew_is_followed(tmp_path: Path) -> None:
    log, former = tmp_path / "vllm.log", tmp_path / "vllm.log.1"
    with log.open("ab", buffering=0) as vllm, Tail(log) as tail:
        vllm.write(b"one\ntwo\nhal")
        assert tail.last(1) == ["two"]
        assert not turn(log, former, 11)
        assert turn(log, former, 10)
        vllm.write(b"three\n")
        assert tail.more() == ["three"]
    assert (former.read_bytes(), log.read_bytes()) == (b"one\ntwo\nhal", b"three\n")
    assert former.stat().st_mode & 0o777 == 0o600


def test_following_ends_with_the_server(tmp_path: Path) -> None:
    folder = put(tmp_path, "ready", log=b"one\n")
    found: list[str] = []
    with kept(folder) as server, Tail(server.log) as tail:
        assert tail.last(10) == ["one"]
        reader = threading.Thread(target=lambda: found.extend(chain(*follow(server, tail))))
        reader.start()
        with server.log.open("ab") as log:
            log.write(b"two\nlast words")
        state.ask_stop(server)
        reader.join(30)
        assert not reader.is_alive()
    assert found == ["two", "last words"]


# --- stopping ---


def test_stopping_waits_until_the_keeper_is_gone(tmp_path: Path) -> None:
    folder = put(tmp_path, "ready")
    with kept(folder) as server, open(tmp_path / "out", "w+", encoding="utf-8") as out:
        assert stop_server(server, Pane(out, {}), now=False)
        assert state.stopped(server, 0)
        out.seek(0)
        words = out.read()
    assert "\n  tiny stopped after " in words and "no process of it is left" in words


def test_one_that_has_not_said_its_number_is_killed_by_that_of_its_lock(tmp_path: Path) -> None:
    folder = put(tmp_path, "starting")
    with kept(folder, deaf=True) as server, open(tmp_path / "out", "w", encoding="utf-8") as out:
        silent = replace(server.state, keeper_pid=0)
        state.write(folder, silent)
        assert stop_server(replace(server, state=silent), Pane(out, {}), now=True, patience=0.3)
        assert state.stopped(server, 0)


def test_a_keeper_that_does_not_answer_is_killed(tmp_path: Path) -> None:
    folder = put(tmp_path, "ready")
    with kept(folder, deaf=True) as server, open(tmp_path / "out", "w+", encoding="utf-8") as out:
        assert stop_server(server, Pane(out, {}), now=True, patience=0.3)
        assert state.stopped(server, 0)
        out.seek(0)
        assert "no process of it is left" in out.read()


def test_stopping_one_that_is_dead_ends_what_is_left(tmp_path: Path) -> None:
    import subprocess

    folder = put(tmp_path, "ready")
    dead = state.look(folder)
    assert dead and not dead.alive
    left = subprocess.Popen(
        ["sleep", "600"], env={"KIMI_SERVER_ID": dead.state.id, "PATH": os.defpath}
    )
    try:
        with open(tmp_path / "out", "w", encoding="utf-8") as out:
            # A child that was ended stays until it is waited for.
            waiter = threading.Thread(target=left.wait)
            waiter.start()
            assert stop_server(dead, Pane(out, {}), now=False)
        waiter.join(30)
        assert left.returncode == -15
    finally:
        left.kill()


# --- following a start ---


class Watched:
    """A viewer in a thread, and what it has printed so far."""

    def __init__(self, server: state.Server, out: Path, *, stay: bool) -> None:
        self.interrupts = Interrupts()
        self._path = out
        self._file = out.open("w", encoding="utf-8")
        self._viewer = Viewer(server, Pane(self._file, {}), stay=stay)
        self.last: ServerState | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.last = self._viewer.run(self.interrupts)
        self._file.close()

    def until(self, words: str) -> None:
        deadline = time.monotonic() + 30
        while words not in self._path.read_text():
            assert time.monotonic() < deadline and self._thread.is_alive(), self._path.read_text()
            time.sleep(0.01)

    def end(self) -> str:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self._path.read_text()


def test_a_start_with_a_repair_until_it_is_ready(tmp_path: Path) -> None:
    folder = put(tmp_path, "starting")
    with kept(folder) as server:
        watched = Watched(server, tmp_path / "out", stay=False)
        now = server.state
        since = now.progress.since
        state.write(folder, replace(now, progress=Progress("profile", since + 9)))
        watched.until("✓ start vLLM · 9.0 s")
        repair = Repair((("--max-model-len", "98304"),), "starts again with 98,304")
        again = replace(now, progress=Progress("starting", since + 20), repairs=(repair,))
        state.write(folder, again)
        watched.until("! starts again with 98,304")
        waiting = Progress("load", since + 25, 0.5, "1/2", waiting="the disk is slow")
        state.write(folder, replace(again, progress=waiting))
        watched.until("the disk is slow")
        for seconds in range(3):
            longer = replace(waiting, waiting=f"the disk is silent for {seconds} s")
            notes = tuple(f"note {number}" for number in range(seconds + 1))
            state.write(folder, replace(again, progress=longer, notes=notes))
            watched.until(f"note {seconds}")
        checks = (Checked("chat", True), Checked("tool call", True))
        up = replace(again, progress=Progress("ready", since + 30), checks=checks)
        state.write(folder, up)
        text = watched.end()
    assert watched.last and watched.last.progress.stage == "ready"
    assert text.splitlines()[-1] == (
        "  ✓ chat · ✓ tool call · ready on http://127.0.0.1:8000/v1 · kimi --local"
    )
    assert "✓ profile" not in text
    assert text.count("the disk is silent") == 1


def test_a_start_that_fails(tmp_path: Path) -> None:
    folder = put(tmp_path, "load")
    with kept(folder) as server:
        watched = Watched(server, tmp_path / "out", stay=True)
        trouble = Trouble("memory", "it does not fit", "use less", "CUDA out of memory")
        over = replace(server.state, progress=Progress("failed", time.time()), trouble=trouble)
        state.write(folder, over)
        state.ask_stop(server, now=True)
        watched.until("it does not fit")
    text = watched.end()
    assert text.splitlines()[0] == "  ✗ it does not fit"
    assert "CUDA out of memory" in text and str(server.log) in text


def test_a_keeper_that_is_killed_is_noticed(tmp_path: Path) -> None:
    folder = put(tmp_path, "ready")
    with kept(folder) as server:
        watched = Watched(server, tmp_path / "out", stay=True)
        watched.until("ready on")
    text = watched.end()
    assert watched.last and watched.last.trouble and watched.last.trouble.kind == "lost"
    assert "kimi serve restart" in text


def test_what_a_killed_keeper_left_is_ended_in_the_foreground(tmp_path: Path) -> None:
    import subprocess

    folder = put(tmp_path, "ready")
    left = None
    try:
        with kept(folder) as server:
            own = replace(server.state, id=f"left-{os.getpid()}")
            state.write(folder, own)
            server = replace(server, state=own)
            environ = {"KIMI_SERVER_ID": own.id, "PATH": os.defpath}
            left = subprocess.Popen(["sleep", "600"], env=environ)
            waiter = threading.Thread(target=left.wait)
            waiter.start()
            watched = Watched(server, tmp_path / "out", stay=True)
            watched.until("ready on")
        watched.end()
        waiter.join(30)
        assert left.returncode == -15
    finally:
        if left:
            left.kill()


def test_another_server_under_its_name_is_not_taken_for_it(tmp_path: Path) -> None:
    folder = put(tmp_path, "ready")
    with kept(folder) as server:
        watched = Watched(server, tmp_path / "out", stay=True)
        watched.until("ready on")
        other = replace(server.state, id="another", progress=Progress("load", time.time()))
        state.write(folder, other)
        watched.end()
        assert watched.last and watched.last.progress.stage == "stopped"
        assert not state.stopped(server, 0)


def test_an_interrupt_stops_it(tmp_path: Path) -> None:
    folder = put(tmp_path, "load")
    with kept(folder) as server:
        watched = Watched(server, tmp_path / "out", stay=True)
        watched.interrupts.count = 1
        text = watched.end()
        assert state.stopped(server, 0)
    assert watched.last and watched.last.progress.stage == "stopped"
    assert "no process of it is left" in text


def test_three_interrupts_leave_whatever_the_keeper_does(tmp_path: Path) -> None:
    folder = put(tmp_path, "load")
    with kept(folder, deaf=True) as server:
        watched = Watched(server, tmp_path / "out", stay=True)
        watched.interrupts.count = 3
        watched.end()
        assert not state.stopped(server, 0)

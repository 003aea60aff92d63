"""`kimi replay`: a stored session shown as it was."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from kimi_cli.frontends.demo import RECORDING
from tests.support.program import Kimi
from tests.support.replies import CallSpec, text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
EDIT = ("edit", {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})


def test_a_session_is_shown_as_it_was(kimi: Kimi, serve: Serve) -> None:
    """By its id and as a file, while it is open elsewhere, with nothing but what it says."""
    calls: list[CallSpec] = [EDIT, ("shell", {"command": "git clean -fdx"})]
    first = serve([tool_calls(calls, thinking="Let me see.", text="I try."), text("一 Done.")])
    assert kimi("-p", "fix it", server=first).code == 0
    half = text("Half an answer that goes on", text_fragments=2, stall_after=2)
    second = serve([half])
    running = kimi.start("-c", "-p", "and now", server=second)
    assert second.wait_until(lambda: bool(second.requests), 30)
    session = kimi.sessions()[-1]
    shown = kimi("replay", session.name[:8], env={"KIMI_API_KEY": None})
    running.signal(signal.SIGINT)
    assert running.end().code == 130
    assert (shown.code, shown.err) == (0, "")
    said = [
        "session ", "› fix it", "✻ Let me see.", "  I try.", "● edit calc.py · +1 -1",
        "+    return a + b", "● shell git clean -fdx · denied", "needs approval",
        "  一 Done.", "1 file +1 -1 · 2 steps", "resumed in", "› and now", "ends here",
    ]  # fmt: skip
    rest = shown.out
    for part in said:
        _, found, rest = rest.partition(part)
        assert found, (part, shown.out)
    assert "\x1b" not in shown.out
    copy = kimi.user_home / "copy.jsonl"
    shutil.copy(session / "events.jsonl", copy)
    whole = kimi("replay", copy)
    assert whole.code == 0
    assert "Half an answ" in whole.out and "  interrupted here" in whole.out
    assert "ends here" not in whole.out
    assert kimi("replay", session).out == whole.out


def test_speed_paces_it_and_ctrl_c_ends_it(kimi: Kimi) -> None:
    """At this speed each piece of an answer is waited for as long as any may be."""
    running = kimi.start("replay", str(RECORDING), "--speed", "0.01")
    running.until(lambda: "› The test" in running.out, "first line")
    running.signal(signal.SIGINT)
    run = running.end(10)
    assert (run.code, run.err) == (130, "")
    assert "unittest" not in run.out


def test_on_a_terminal_it_streams_in_colour(kimi: Kimi) -> None:
    """And its own pace there is not at once: pieces of an answer arrive one by one."""
    main, side = pty.openpty()
    with os.fdopen(side, "wb") as terminal:
        running = kimi.start("replay", str(RECORDING), "--speed", "50", stdout=terminal)
    pieces = []
    while True:
        try:
            piece = os.read(main, 1 << 16)
        except OSError:  # how Linux says that nobody holds the other side any more
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(main)
    assert running.end().code == 0
    seen = b"".join(pieces).decode()
    assert "\x1b[32m" in seen and "All four tests pass." in seen
    assert len(pieces) > 10


def test_a_torn_session_is_shown_and_a_newer_one_refused(kimi: Kimi, tmp_path: Path) -> None:
    lines = RECORDING.read_bytes().splitlines(keepends=True)
    path = tmp_path / "torn.jsonl"
    path.write_bytes(b"".join([*lines[:5], b"rubbish\n", *lines[5:9], lines[9][:100]]))
    run = kimi("replay", path)
    assert run.code == 0
    assert "FAILED (failures=1)" in run.out and "ends here, within a turn" in run.out
    assert run.err == f"kimi: 1 line of {path} can't be read\n"
    newer = {**json.loads(lines[0]), "v": 99}
    path.write_text(json.dumps(newer) + "\n")
    run = kimi("replay", path)
    assert (run.code, run.out) == (2, "")
    assert "newer version" in run.err and len(run.err.splitlines()) == 1


def test_a_reader_that_leaves_ends_it(kimi: Kimi, tmp_path: Path) -> None:
    """Not with 1, which says of a check that something differs."""
    lines = RECORDING.read_bytes().splitlines(keepends=True)
    long = tmp_path / "long.jsonl"
    long.write_bytes(lines[0] + b"".join(lines[1:]) * 300)
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as out:
        running = kimi.start("replay", long, stdout=out)
    os.read(reader, 10)
    os.close(reader)
    run = running.end()
    assert (run.code, run.err) == (143, "")

"""Killed at any moment, cut at any byte: the session goes on, and nothing runs twice unsaid."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import git
from tests.e2e.helpers import result_of
from tests.support.crash import UNKNOWN, Marker, marks, told
from tests.support.program import Kimi
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
MODEL = "kimi-k2-0905-preview"
NEVER_RAN = "before this call was run"


def small_window(kimi: Kimi) -> None:
    kimi.configure({"models": {MODEL: {"context": 5_000, "max_output_tokens": 600}}})


def events_of(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a session's file; a torn last one does not count."""
    data = path.read_bytes()
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def check_told(events: list[dict[str, Any]], messages: list[dict[str, Any]], root: Path) -> None:
    """Of every call that began and has no result on record the model is told that it is unknown
    whether it ran; of one that left its mark nobody says that it never ran."""
    results = {e["call_id"] for e in events if e["type"] == "tool_result"}
    started = {e["call_id"] for e in events if e["type"] == "tool_started"}
    answers = [m for m in messages if m["role"] == "tool"]
    for answer in answers:
        identity = answer["tool_call_id"]
        if identity in started and identity not in results:
            assert UNKNOWN in answer["content"]
    left = marks(root)
    assert len(left) == len(set(left)), "a call ran twice"
    for mark, said in told(messages).items():
        if mark in left:
            assert NEVER_RAN not in said, mark


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_moments(kimi: Kimi, serve: Serve, project: Path, seed: int) -> None:
    """50 kills each: the session is resumed after every one, until it ends by itself."""
    chance = random.Random(seed)
    model = Marker(steps=10_000)
    server = serve(model)
    small_window(kimi)
    before: list[dict[str, Any]] = []
    kills = 0
    while kills < 50:
        session = kimi.sessions()[-1].name if before else None
        more = ("-r", session) if session else ()
        known = len(server.requests)
        running = kimi.start("-p", "go on", "--yolo", "-m", MODEL, *more, server=server)
        # Before the first request, at it, or some steps into the work.
        goal = known + chance.choice((0, 1, 1, 2, 4, 8))
        deadline = time.monotonic() + 30
        while len(server.requests) < goal and time.monotonic() < deadline:
            assert running.process.poll() is None, running.err
            time.sleep(0.002)
        time.sleep(chance.random() * 0.08)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        running.kill()
        kills += 1
        assert not kimi.left_behind(), "the helper and its commands end with it"
        if not kimi.sessions():
            continue
        path = kimi.sessions()[-1] / "events.jsonl"
        after = events_of(path)
        assert after[: len(before)] == before, "something durable was lost"
        before = after
        asked = server.requests[known:]
        if asked and session:
            cut = [e for e in after if e["type"] == "session_resumed"][-1]["seq"]
            check_told([e for e in after if e["seq"] < cut], asked[0].messages, project)
        left = marks(project)
        assert len(left) == len(set(left)), "a call ran twice"
    model.steps = 0
    run = kimi("-p", "finish", "--yolo", "-m", MODEL, "-c", server=server)
    assert (run.code, run.out) == (0, "That is all.\n")
    check_told(before, server.requests[-1].messages, project)
    assert any(e["type"] == "compaction" for e in before)
    assert server.rejected == []


@pytest.mark.long
def test_cut_at_sampled_bytes(kimi: Kimi, serve: Serve, project: Path) -> None:
    """100 cuts of a real session's file, each gone on with by the program."""
    small_window(kimi)
    model = Marker(steps=14)
    server = serve(model)
    run = kimi("-p", "begin", "--yolo", "-m", MODEL, server=server)
    assert run.code == 0
    folder = kimi.sessions()[-1]
    whole = (folder / "events.jsonl").read_bytes()
    complete = events_of(folder / "events.jsonl")
    assert any(event["type"] == "compaction" for event in complete)
    first = whole.index(b'"type":"user_message"')
    first = whole.index(b"\n", first) + 1
    chance = random.Random(7)
    model.steps = 0
    jobs = [chance.randrange(first, len(whole)) for _ in range(96)]
    jobs += [first, first + 1, len(whole) - 1, len(whole)]
    lock = threading.Lock()
    failures: list[str] = []

    def work(home: Path) -> None:
        own = Kimi(kimi.cwd, home, kimi.user_home)
        own.mark = kimi.mark
        small_window(own)
        target = home / folder.relative_to(kimi.home)
        while True:
            with lock:
                if not jobs or failures:
                    return
                cut = jobs.pop()
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(folder, target)
            (target / "events.jsonl").write_bytes(whole[:cut])
            kept = events_of(target / "events.jsonl")
            ended = own(
                *("-p", "go on", "--yolo", "-m", MODEL, "-r", folder.name),
                *("--output-format", "json"),
                server=server,
            )
            after = events_of(target / "events.jsonl")
            if ended.code or after[: len(kept)] != kept:
                failures.append(f"cut at {cut}: {ended.code}\n{ended.err}")
                return
            result_of(ended)

    homes = [kimi.home.with_name(f"home-{number}") for number in range(2)]
    threads = [threading.Thread(target=work, args=(home,)) for home in homes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert not jobs
    assert server.rejected == []


@pytest.mark.long
def test_ten_runs_in_ten_worktrees_share_one_home(
    kimi: Kimi, serve: Serve, project: Path, tmp_path: Path
) -> None:
    """Three of them are killed; all are gone on with, and every session is whole."""
    servers = [serve(Marker(steps=6)) for _ in range(10)]
    folders = [tmp_path / f"tree-{number}" for number in range(10)]
    for folder in folders:
        git(project, "worktree", "add", "-q", "--detach", str(folder))
    runs = [
        kimi.start("-p", f"task {n}", "--yolo", server=servers[n], cwd=folder)
        for n, folder in enumerate(folders)
    ]
    for number in (2, 5, 8):
        runs[number].until(lambda n=number: len(servers[n].requests) >= 3, "third request")  # type: ignore[misc]
        runs[number].process.send_signal(signal.SIGKILL)
        runs[number].process.wait()
    for number, run in enumerate(runs):
        if number not in (2, 5, 8):
            ended = run.end(120)
            assert (ended.code, ended.out) == (0, "That is all.\n"), ended.err
        else:
            run.kill()
    for number in (2, 5, 8):
        ended = kimi("-p", "go on", "-c", "--yolo", server=servers[number], cwd=folders[number])
        assert (ended.code, ended.out) == (0, "That is all.\n"), ended.err
    for number, folder in enumerate(folders):
        left = marks(folder)
        assert len(left) == len(set(left)) >= 6
        assert f"task {number}" in json.dumps(servers[number].requests[-1].messages)
        assert servers[number].rejected == []
    assert len(kimi.sessions()) == 10
    for session in kimi.sessions():
        events = events_of(session / "events.jsonl")
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[-1]["type"] == "turn_ended"
        free = ["flock", "-n", str(session / "events.jsonl"), "true"]
        assert subprocess.run(free, check=False).returncode == 0, "a lock was left behind"

"""Sessions on disk, and going on with them: the next request extends the former byte for byte."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kimi_cli.model.tokens import estimate
from tests.e2e.helpers import check_events, last_text, result_of
from tests.support import scripts
from tests.support.program import Kimi
from tests.support.recorded import Recorded
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
FIRST_REQUEST_TOKENS = 3000
EDIT = tool_calls([("edit", {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})])


def extends(new: Recorded, old: Recorded) -> bool:
    """Whether the new request's body is the old one with more behind it: what is sent before the
    messages is the same, and so is every message, to the byte."""
    return new.raw.startswith(old.conversation) and len(new.raw) > len(old.raw)


def work(kimi: Kimi, server: ScriptedServer, *args: str) -> str:
    """Run to the end; returns the session's id."""
    run = kimi("-p", "go", *args, server=server)
    assert run.code == 0, run.err
    last = run.err.splitlines()[-1]
    assert last.startswith("kimi -r ")
    return last.removeprefix("kimi -r ").split()[0]


def test_a_session_is_a_folder(kimi: Kimi, serve: Serve) -> None:
    long = tool_calls([("shell", {"command": "seq 1 20000"})])
    server = serve([EDIT, long, text("ok")])
    session = work(kimi, server, "--yolo")
    (folder,) = kimi.sessions()
    assert folder.name == session
    assert folder.parent.parent == kimi.home / "sessions"
    assert folder.parent.name.startswith("project-")
    assert {path.name for path in folder.iterdir()} == {"events.jsonl", "outputs", "blobs"}
    assert any(path.read_text().endswith("20000\n") for path in (folder / "outputs").iterdir())
    assert [path.read_text() for path in (folder / "blobs").iterdir()] == [
        "def add(a, b):\n    return a - b\n"
    ]
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    events = kimi.stored()
    check_events(events)
    assert [e["type"] for e in events if not e["type"].startswith(("tool", "checkpoint"))] == [
        "session_started", "confined", "turn_started", "user_message",
        "assistant_message", "assistant_message", "assistant_message", "turn_ended",
    ]  # fmt: skip
    assert events[0]["tools"] == [
        {k: t["function"][k] for k in ("name", "description", "parameters")}
        for t in server.requests[0].body["tools"]
    ]
    assert events[0]["system_prompt"] == last_text(server.requests[0].messages, "system")


@pytest.mark.parametrize("flavour", ["hosted", "vllm"])
def test_continue_extends_the_former_request(flavour: str, kimi: Kimi, serve: Serve) -> None:
    calls = tool_calls(
        [("read", {"path": "calc.py"}), ("grep", {"pattern": "zzz"}), ("shell", {"command": "ls"})],
        thinking="I look — 看.",
        text="Looking.",
    )
    server = serve(
        [calls, text("first", thinking="so"), text("second"), text("third")], flavour=flavour
    )
    session = work(kimi, server)
    assert work(kimi, server, "-c") == session
    assert work(kimi, server, "-r", session[:-1]) == session
    for old, new in zip(server.requests, server.requests[1:], strict=False):
        assert extends(new, old)
    roles = [m["role"] for m in server.requests[-1].messages]
    assert roles[-5:] == ["tool", "assistant", "user", "assistant", "user"]
    server.check()
    events = kimi.stored()
    check_events(events)
    assert [e["turn"] for e in events if e["type"] == "turn_ended"] == [1, 2, 3]
    assert sum(e["type"] == "session_resumed" for e in events) == 2
    assert len(kimi.sessions()) == 1


def test_thirty_steps_each_extend_the_last(kimi: Kimi, serve: Serve) -> None:
    server = serve(scripts.shell_steps(30, fragments=3))
    work(kimi, server, "--yolo")
    assert len(server.requests) == 31
    for old, new in zip(server.requests, server.requests[1:], strict=False):
        assert extends(new, old)


def test_resumed_after_an_interrupted_call(kimi: Kimi, serve: Serve) -> None:
    """A run killed outright while a command runs leaves a session that can be continued."""
    server = serve([tool_calls([("shell", {"command": "touch running; sleep 60"})]), text("fine")])
    running = kimi.start("-p", "go", "--yolo", server=server)
    running.until((kimi.cwd / "running").exists, "command")
    running.kill()
    work(kimi, server, "-c")
    assert extends(server.requests[1], server.requests[0])
    assert "unknown whether it ran" in last_text(server.requests[1].messages, "tool")
    server.check()


def test_first_request_is_small(kimi: Kimi, serve: Serve) -> None:
    """The budget is 3,000 tokens. JSON of prose takes more than 3.5 bytes a token; 3 is safe."""
    server = serve([text("ok")])
    work(kimi, server)
    raw = server.requests[0].raw
    assert len(raw) / 3 < FIRST_REQUEST_TOKENS
    assert estimate(raw) < FIRST_REQUEST_TOKENS
    assert b'"tools"' in raw


def test_model_and_thinking_are_kept_unless_flagged(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")] * 4)
    work(kimi, server, "-m", "kimi-k2.6", "--thinking", "off")
    run = kimi("-p", "x", "-c", server=server, env={"KIMI_MODEL": "kimi-k3"})
    assert run.code == 0
    assert extends(server.requests[1], server.requests[0])
    work(kimi, server, "-c", "--thinking", "on")
    work(kimi, server, "-c", "-m", "kimi-k2.5")
    sent = [(r.body["model"], r.body.get("thinking", {}).get("type")) for r in server.requests]
    assert sent == [
        ("kimi-k2.6", "disabled"),
        ("kimi-k2.6", "disabled"),
        ("kimi-k2.6", "enabled"),
        ("kimi-k2.5", "enabled"),
    ]
    changes = [(e["model"], e["thinking"]) for e in kimi.stored() if e["type"] == "model_changed"]
    assert changes == [("kimi-k2.6", "on"), ("kimi-k2.5", "on")]


def test_resume_works_from_anywhere_in_the_sessions_folder(
    kimi: Kimi, serve: Serve, tmp_path: Path
) -> None:
    write = tool_calls([("write", {"path": "later.txt", "content": "x"})])
    server = serve([text("ok"), write, text("ok")])
    session = work(kimi, server)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = kimi("-p", "x", "-r", session.upper(), server=server, cwd=elsewhere)
    assert run.code == 0
    assert (kimi.cwd / "later.txt").exists()


def test_continue_is_about_this_project(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    server = serve([text("ok")] * 2)
    work(kimi, server)
    other = tmp_path / "other"
    other.mkdir()
    run = kimi("-p", "x", "-c", server=server, cwd=other)
    assert run.code == 2
    assert "no session of this project" in run.err
    (kimi.cwd / "sub").mkdir()
    assert kimi("-p", "x", "-c", server=server, cwd=kimi.cwd / "sub").code == 0


def test_ids_that_lead_nowhere(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")] * 2)
    first, second = work(kimi, server), work(kimi, server)
    unknown = kimi("-p", "x", "-r", "zzzz", server=server)
    assert (unknown.code, unknown.out) == (2, "")
    assert "no session 'zzzz'" in unknown.err and first in unknown.err
    shared = kimi("-p", "x", "-r", "0", server=server)
    assert shared.code == 2
    assert first in shared.err and second in shared.err
    assert len(server.requests) == 2


def test_busy_session(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok"), text("begun and stalled", stall_after=2)])
    session = work(kimi, server)
    holder = kimi.start("-p", "x", "-r", session, server=server)
    holder.until(lambda: len(server.requests) == 2, "second request")
    run = kimi("-p", "x", "-r", session, server=server)
    holder.kill()
    assert run.code == 2
    assert "open in another kimi process" in run.err


def test_unfinished_last_line_is_cut_off(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")] * 2)
    work(kimi, server)
    events = kimi.sessions()[-1] / "events.jsonl"
    with events.open("ab") as file:
        file.write(b'{"v":1,"type":"user_mess')
    work(kimi, server, "-c")
    assert extends(server.requests[1], server.requests[0])
    check_events(kimi.stored())


def test_files_read_before_may_be_edited_after(kimi: Kimi, serve: Serve) -> None:
    """What the session knows of a file survives; that it changed meanwhile is noticed."""
    read = tool_calls([("read", {"path": "calc.py"})])
    server = serve([read, text("seen"), EDIT, text("tried")])
    work(kimi, server)
    (kimi.cwd / "calc.py").write_text("# changed\ndef add(a, b):\n    return a - b\n")
    result = result_of(kimi("-p", "x", "-c", "--output-format", "json", server=server))
    assert result["changed_files"] == []
    assert "changed" in last_text(server.requests[3].messages, "tool")


def test_resume_in_a_folder_that_is_gone(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    server = serve([text("ok")] * 2)
    place = tmp_path / "short-lived"
    place.mkdir()
    run = kimi("-p", "x", server=server, cwd=place)
    session = run.err.split()[-3]
    place.rmdir()
    gone = kimi("-p", "x", "-r", session, server=server)
    assert gone.code == 2
    assert "-C" in gone.err
    assert kimi("-p", "x", "-r", session, "-C", str(kimi.cwd), server=server).code == 0


def test_stored_events_have_no_key(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([("shell", {"command": "env"})]), text("ok")])
    work(kimi, server, "--yolo")
    found = subprocess.run(
        ["grep", "-rl", "sk-test-key", str(kimi.home)], capture_output=True, check=False
    )
    assert found.stdout == b""
    assert json.dumps(kimi.stored())

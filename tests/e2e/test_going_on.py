"""Going on with a session that is chosen or copied; totals over its runs; compacting it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kimi_cli.store.events_file import read_events
from tests.e2e.helpers import RESULT_FIELDS, check_events, result_of
from tests.e2e.stored import DAY, begun, held, ids
from tests.e2e.test_sessions import extends, work
from tests.support.program import Kimi
from tests.support.recorded import Recorded
from tests.support.replies import http_error, text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.terminal import Terminal

Serve = Callable[..., ScriptedServer]
EDIT = tool_calls([("edit", {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})])
NOTE = "The sum in calc.py was wrong and is mended; nothing else is left to do."


def goes_on(new: Recorded, old: Recorded) -> bool:
    """Whether the new request has all messages of the old one, and more; its body differs before
    them: it names another session to the server's cache."""
    before, after = old.messages, new.messages
    return after[: len(before)] == before and len(after) > len(before)


def test_fork_goes_its_own_way(kimi: Kimi, serve: Serve) -> None:
    server = serve([EDIT, text("first"), text("second"), text("fork"), text("early")])
    session = work(kimi, server)
    work(kimi, server, "-c")
    before = (kimi.sessions()[-1] / "events.jsonl").read_bytes()
    made = kimi("sessions", "fork")
    assert made.code == 0
    copy = made.out.strip()
    assert made.err == f'kimi -r {copy} -p "..."\n' and copy != session
    assert work(kimi, server, "-r", copy) == copy
    assert goes_on(server.requests[3], server.requests[2])
    check_events(kimi.stored())
    early = kimi("sessions", "fork", session, "--at-turn", "1").out.strip()
    assert work(kimi, server, "-r", early) == early
    assert len(server.requests[4].messages) == len(server.requests[2].messages)
    assert kimi("sessions", "fork", session, "--at-turn", "3").code == 2
    rows = {row["id"]: row for row in kimi("sessions", "list", "--json").json()}
    assert {key: row["forked_from"] for key, row in rows.items()} == {
        session: None, copy: session, early: session
    }  # fmt: skip
    assert {key: row["turn_count"] for key, row in rows.items()} == {
        session: 2, copy: 3, early: 2
    }  # fmt: skip
    (original,) = [folder for folder in kimi.sessions() if folder.name == session]
    assert (original / "events.jsonl").read_bytes() == before


def test_the_second_on_a_session_is_told_of_fork(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok"), text("begun and stalled", stall_after=2)] + [text("copy")] * 2)
    session = work(kimi, server)
    with held(kimi, session, server):
        told = kimi("-p", "x", "-r", session, server=server)
        assert (told.code, told.out) == (2, "")
        assert "--fork" in told.err
        copies = [
            work(kimi, server, "--fork", "-r", session[:-1]),
            kimi("--fork", "-c", "-p", "x", server=server).err.split()[-3],
        ]
        assert session not in copies
    assert ids(kimi) == sorted([session, *copies])
    assert goes_on(server.requests[2], server.requests[0])


def test_fork_that_leads_nowhere(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")])
    run = kimi("-p", "x", "--fork", server=server)
    assert (run.code, run.out) == (2, "") and "--resume" in run.err
    assert kimi("-p", "x", "--fork", "-c", server=server).code == 2
    session = work(kimi, server)
    assert kimi("-p", "x", "--fork", "-r", "zzzz", server=server).code == 2
    keyless = {"KIMI_API_KEY": ""}
    address = ("--base-url", "https://api.moonshot.ai/v1")
    assert kimi("-p", "x", "--fork", "-r", session, *address, env=keyless).code == 30
    assert ids(kimi) == [session]


def test_resume_without_an_id_and_a_terminal(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")] * 4)
    made = begun(kimi, server, "one", "two", "three", "four")
    for args in (["-r", "-p", "x"], ["-p", "x", "-r"], ["-p", "x", "--resume", "--max-steps", "3"]):
        run = kimi(*args, server=server)
        assert (run.code, run.out) == (2, "")
        assert [session in run.err for session in made] == [False, True, True, True]
    failed = kimi("-r", "-p", "x", "--output-format", "json", server=server)
    assert made[3] in result_of(failed)["detail"] and len(server.requests) == 4


def test_resume_without_an_id_in_a_project_without_sessions(kimi: Kimi) -> None:
    run = kimi("-p", "x", "-r")
    assert (run.code, len(run.err.splitlines())) == (2, 1)
    assert "no session" in run.err


def test_choosing_a_session(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")] * 6)
    made = begun(kimi, server, "one", "two 文字", "three")
    terminal = Terminal(kimi, "-p", "more", "-r", server=server)
    terminal.until("go on with")
    listed = [line for line in terminal.screen.splitlines() if re.match(r" +\d  ", line)]
    assert [line.split()[1] for line in listed] == made[::-1]
    assert "two 文字" in listed[1]
    terminal.type("7\n")
    terminal.until("no '7'")
    terminal.type("2\n")
    assert terminal.end() == 0
    assert f"kimi -r {made[1]}" in terminal.screen
    assert extends(server.requests[3], server.requests[1])
    terminal = Terminal(kimi, "--resume", "-p", "more", "--fork", server=server, columns=40)
    terminal.until("go on with")
    terminal.type(f"{made[0]}\n")
    assert terminal.end() == 0
    assert goes_on(server.requests[4], server.requests[0])
    for answer in ("\n", "\x04"):
        terminal = Terminal(kimi, "-p", "more", "-r", server=server)
        terminal.until("go on with")
        terminal.type(answer)
        assert terminal.end() == 2
        assert "no session was chosen" in terminal.screen
    assert len(server.requests) == 5


# What a run leaves.


def test_totals_of_a_session_over_its_runs(kimi: Kimi, serve: Serve) -> None:
    server = serve([EDIT, text("ok"), text("again")])
    first = result_of(kimi("-p", "x", "--output-format", "json", server=server))
    assert first["session_usage"] == first["usage"]
    assert first["session_cost"] == pytest.approx(first["cost"], abs=2e-6)
    (turn,) = first["turns"]
    assert (turn["turn"], turn["stop_reason"], turn["steps"]) == (1, "done", 2)
    assert (turn["usage"], turn["cost"]) == (first["usage"], first["cost"])
    run = kimi("-p", "x", "-c", "--output-format", "json", server=server)
    second = result_of(run)
    assert [turn["turn"] for turn in second["turns"]] == [2]
    for name in ("input_tokens", "cached_tokens", "output_tokens", "total_tokens"):
        whole = first["usage"][name] + second["usage"][name]
        assert second["session_usage"][name] == whole > second["usage"][name] > 0
    assert second["session_cost"] == pytest.approx(first["cost"] + second["cost"], abs=2e-6)
    closing = run.err.splitlines()[-2]
    pattern = r"  1 step · .+ tokens, \d+ % cached · <?\$\S+( · .+ s)? · session .+ tokens, <?\$\S+"
    assert re.fullmatch(pattern, closing), closing
    assert RESULT_FIELDS.keys() == second.keys()


def test_a_fork_counts_what_it_copied(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok"), text("again")])
    first = result_of(kimi("-p", "x", "--output-format", "json", server=server))
    forked = kimi("-p", "x", "-c", "--fork", "--output-format", "json", server=server)
    used = result_of(forked)
    both = first["usage"]["total_tokens"] + used["usage"]["total_tokens"]
    assert used["session_usage"]["total_tokens"] == both


def test_a_run_ends_with_what_it_took(kimi: Kimi, serve: Serve) -> None:
    server = serve([EDIT, text("ok"), text("ok")])
    run = kimi("-p", "x", server=server)
    closing, last = run.err.splitlines()[-2:]
    assert re.match(r"  2 steps · .+ tokens, \d+ % cached · <?\$", closing)
    assert "session" not in closing and last.startswith("kimi -r ")
    unkept = kimi("-p", "x", "--no-session", server=server)
    assert unkept.err.splitlines()[-1].startswith("  1 step · ")


def test_old_outputs_go_at_the_end_of_a_run(kimi: Kimi, serve: Serve) -> None:
    long = tool_calls([("shell", {"command": "seq 1 20000"})])
    server = serve([long, text("ok"), text("ok"), text("ok")])
    work(kimi, server, "--yolo")
    (output,) = (kimi.sessions()[-1] / "outputs").iterdir()
    now = time.time()
    os.utime(output, (now - 31 * DAY, now - 31 * DAY))
    # It is looked for once a day.
    os.utime(kimi.home / "sessions" / ".expired", (now - 2 * DAY, now - 2 * DAY))
    kimi.configure({"session": {"outputs_days": 0}})
    work(kimi, server)
    assert output.exists()
    kimi.configure({"session": {"outputs_days": 30}})
    work(kimi, server)
    assert not output.exists()


# Compacting.


def test_compact_over_stdin_is_in_order(kimi: Kimi, serve: Serve) -> None:
    kimi.configure({"context": {"recent_tokens": 0}})
    server = serve([text("one"), text(NOTE), text("two")])
    lines = [
        {"type": "user_message", "text": "first"},
        {"type": "user_message", "text": "second"},
    ]
    alone = kimi(
        "--input-format", "stream-json", "--output-format", "json",
        stdin=json.dumps({"type": "compact"}) + "\n", server=server,
    )  # fmt: skip
    result = result_of(alone)
    assert (alone.code, result["stop_reason"], result["compactions"]) == (0, "done", 0)
    assert (result["cost"], result["currency"]) == (None, "USD")
    assert "nothing to compact" in alone.err and server.requests == []
    reader, writer = os.pipe()
    running = kimi.start(
        "--input-format", "stream-json", "--output-format", "stream-json",
        stdin=reader, server=server,
    )  # fmt: skip
    os.close(reader)
    with open(writer, "w") as stdin:
        print(json.dumps(lines[0]), file=stdin, flush=True)
        running.until(lambda: '"turn_ended"' in running.out, "end of the turn")
        print(json.dumps({"type": "compact", "focus": "the sums"}), file=stdin)
        print(json.dumps(lines[1]), file=stdin)
    run = running.end()
    assert run.code == 0, run.err
    *events, last = run.events()
    kinds = [e["type"] for e in events if e["type"] in ("turn_ended", "compaction", "turn_started")]
    assert kinds == ["turn_started", "turn_ended", "compaction", "turn_started", "turn_ended"]
    compaction = next(e for e in events if e["type"] == "compaction")
    assert (compaction["reason"], compaction["focus"]) == ("manual", "the sums")
    assert last["compactions"] == 1
    assert last["usage"]["total_tokens"] == last["session_usage"]["total_tokens"]
    assert "compacting the context" in run.err
    assert re.search(r"  .*compacted .* · took .+ tokens, \d+ % cached · <?\$0\.\d{3}\n", run.err)


def test_compact_in_a_turn_comes_after_its_step(kimi: Kimi, serve: Serve) -> None:
    kimi.configure({"context": {"recent_tokens": 0}})
    wait = tool_calls([("shell", {"command": "until [ -e go ]; do sleep 0.02; done"})])
    server = serve([EDIT, wait, text(NOTE), text("done")])
    reader, writer = os.pipe()
    running = kimi.start(
        "--input-format", "stream-json", "--output-format", "stream-json", "--yolo",
        stdin=reader, server=server,
    )  # fmt: skip
    os.close(reader)
    with open(writer, "w") as stdin:
        print(json.dumps({"type": "user_message", "text": "go"}), file=stdin, flush=True)
        running.until(lambda: running.out.count('"tool_started"') == 2, "second call")
        print(json.dumps({"type": "compact"}), file=stdin)
        print("nonsense", file=stdin, flush=True)
        running.until(lambda: "not an operation" in running.err, "both lines read")
        (kimi.cwd / "go").touch()
    run = running.end()
    assert run.code == 2, run.err  # For the line that was only a mark.
    *events, result = run.events()
    kinds = [event["type"] for event in events]
    assert kinds.count("compaction") == 1
    assert kinds.index("compaction") > kinds.index("tool_result")
    (turn,) = result["turns"]
    answers = [e["usage"] for e in events if e["type"] == "assistant_message"]
    compaction = next(e for e in events if e["type"] == "compaction")
    whole = sum(
        usage["input_tokens"] + usage["output_tokens"] for usage in (*answers, compaction["usage"])
    )
    assert turn["usage"]["total_tokens"] == result["usage"]["total_tokens"] == whole


def test_kimi_compact(kimi: Kimi, serve: Serve) -> None:
    nothing = kimi("compact")
    assert (nothing.code, nothing.out) == (2, "")
    kimi.configure({"context": {"recent_tokens": 0}})
    server = serve([EDIT, text("one"), text(NOTE), text("two")])
    session = work(kimi, server)
    run = kimi("compact", session[:-1], "--focus", "the sums", server=server)
    assert run.code == 0, run.err
    (line,) = run.out.splitlines()
    assert "compacted" in line and "tokens" in line
    shown = kimi("sessions", "show", "--json").json()
    (compacted,) = shown["compacted"]
    assert (compacted["focus"], compacted["reason"]) == ("the sums", "manual")
    assert shown["compactions"] == 1
    assert line in kimi("sessions", "show").out
    assert re.search(r" · took [\d.]+k? tokens, \d+ % cached · <?\$0\.\d{3}$", line)
    assert work(kimi, server, "-c") == session
    address = {"KIMI_API_KEY": "", "KIMI_BASE_URL": "https://api.moonshot.ai/v1"}
    assert kimi("compact", session, env=address).code == 30
    assert kimi("compact", "zzzz", server=server).code == 2


def files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file below the folder, with its time and content."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


def test_a_session_with_nothing_to_compact_stays_as_it_is(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok"), text("ok"), text("more")])
    older, newer = begun(kimi, server, "one", "two")
    (folder,) = [folder for folder in kimi.sessions() if folder.name == older]
    before = files(folder)
    # News of the opening are kept back with it.
    (kimi.cwd / "AGENTS.md").write_text("Be brief.\n")
    run = kimi("compact", older, server=server)
    assert (run.code, run.out, run.err) == (0, "there is nothing to compact\n", "")
    assert files(folder) == before
    assert [row["id"] for row in kimi("sessions", "list", "--json").json()] == [newer, older]
    assert len(server.requests) == 2
    work(kimi, server, "-r", older)
    kinds = [event.type for event in read_events(folder).events]
    assert kinds[kinds.index("turn_ended") + 1 :][:3] == [
        "session_resumed", "instructions", "turn_started"
    ]  # fmt: skip


def test_a_killed_session_with_nothing_to_compact_stays_as_it_is(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([("shell", {"command": "touch begun; sleep 60"})])])
    running = kimi.start("-p", "go", "--yolo", server=server)
    running.until(lambda: (kimi.cwd / "begun").exists(), "command")
    running.kill()
    before = files(kimi.sessions()[-1])
    run = kimi("compact", server=server)
    assert (run.code, run.out) == (0, "there is nothing to compact\n")
    assert files(kimi.sessions()[-1]) == before


def test_a_refused_note_leaves_the_session_as_it_is(kimi: Kimi, serve: Serve) -> None:
    kimi.configure({"context": {"recent_tokens": 0}})
    server = serve([EDIT, text("one"), http_error(401, "no such key")])
    session = work(kimi, server)
    before = files(kimi.sessions()[-1])
    run = kimi("compact", "--json", server=server)
    document = run.json()
    assert run.code == document["exit_code"] == 30
    assert (document["session_id"], document["compacted"]) == (session, False)
    assert document["why"] in run.err and document["why"]
    assert files(kimi.sessions()[-1]) == before


def test_compact_as_json(kimi: Kimi, serve: Serve) -> None:
    kimi.configure({"context": {"recent_tokens": 0}})
    server = serve([EDIT, text("one"), text(NOTE)])
    session = work(kimi, server)
    elsewhere = {"KIMI_BASE_URL": "http://127.0.0.1:9/v1"}
    run = kimi("compact", "--json", "--base-url", server.base_url, env=elsewhere)
    assert run.code == 0, run.err
    document = run.json()
    (stored,) = kimi("sessions", "show", "--json").json()["compacted"]
    assert document == {
        "session_id": session, "compacted": True, "why": "", "mechanical": False, "failure": "",
        "tokens_before": stored["tokens_before"], "tokens_after": stored["tokens_after"],
        "usage": stored["usage"], "cost": pytest.approx(stored["cost"], abs=1e-6),
        "currency": "USD", "exit_code": 0,
    }  # fmt: skip
    assert document["usage"]["total_tokens"] > 0 and document["cost"] > 0
    again = kimi("compact", "--json", server=server).json()
    assert (again["compacted"], again["why"]) == (False, "there is nothing to compact")
    assert (again["tokens_before"], again["usage"]["total_tokens"], again["cost"]) == (None, 0, 0)
    wrong = kimi("compact", "--base-url", "nonsense")
    assert (wrong.code, wrong.out) == (2, "") and "--base-url" in wrong.err
    unknown = kimi("compact", "zzzz", "--json", server=server)
    assert unknown.code == unknown.json()["exit_code"] == 2
    assert unknown.json()["session_id"] is None

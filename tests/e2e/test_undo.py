"""`kimi undo`, `redo` and `rewind`, through the installed program."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import git
from tests.e2e.helpers import check_events
from tests.e2e.stored import held
from tests.e2e.test_going_on import goes_on
from tests.e2e.test_sessions import work
from tests.support.program import Kimi, Run
from tests.support.replies import Reply, text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.terminal import Terminal

pytestmark = pytest.mark.long

Serve = Callable[..., ScriptedServer]
BROKEN = "def add(a, b):\n    return a - b\n"
MENDED = "def add(a, b):\n    return a + b\n"
EDIT = tool_calls([("edit", {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})])
MAKE = tool_calls([("write", {"path": "made.txt", "content": "one\ntwo\n"})])


def two_turns(kimi: Kimi, serve: Serve, *more: Reply) -> tuple[ScriptedServer, str]:
    """A session that mended calc.py and then made a file."""
    server = serve([EDIT, text("one"), MAKE, text("two"), *more])
    assert kimi("-p", "mend it", server=server).code == 0
    run = kimi("-p", "make it", "-c", server=server)
    assert run.code == 0, run.err
    return server, run.err.split()[-3]


def state(kimi: Kimi) -> tuple[str, bool]:
    return (kimi.cwd / "calc.py").read_text(), (kimi.cwd / "made.txt").exists()


def done(run: Run) -> Run:
    assert run.code == 0, run.err
    return run


def log(kimi: Kimi) -> Path:
    return kimi.sessions()[-1] / "events.jsonl"


def test_undo_and_redo(kimi: Kimi, serve: Serve) -> None:
    server, session = two_turns(kimi, serve, text("three"))
    before = log(kimi).read_bytes()
    keyless = {"KIMI_API_KEY": "", "KIMI_BASE_URL": "https://api.moonshot.invalid/v1"}
    refused = kimi("undo", env=keyless)
    assert (refused.code, refused.out) == (2, "")
    assert "made.txt  +0 -2" in refused.err and "--yes" in refused.err
    assert log(kimi).read_bytes() == before and state(kimi) == (MENDED, True)
    first = done(kimi("undo", "--yes", env=keyless))
    assert first.out == "undone: turn 2 · 1 file restored · kimi redo brings it back\n"
    assert state(kimi) == (MENDED, False)
    done(kimi("undo", "--yes", "--session", session[:-1]))
    assert state(kimi) == (BROKEN, False)
    assert kimi("undo", "--yes").code == 2
    done(kimi("redo", "--yes"))
    assert state(kimi) == (MENDED, False)
    work(kimi, server, "-c")
    assert goes_on(server.requests[4], server.requests[1])
    assert "make it" not in json.dumps(server.requests[4].messages)
    late = kimi("redo", "--yes")
    assert late.code == 2 and "nothing to redo" in late.err
    check_events(kimi.stored())
    # The user's own git knows nothing of it all.
    git(kimi.cwd, "diff", "--cached", "--exit-code")
    git(kimi.cwd, "fsck", "--strict")


def test_undo_asks_on_a_terminal(kimi: Kimi, serve: Serve) -> None:
    two_turns(kimi, serve)
    for answer in ("\n", "n\n", "\x04"):
        terminal = Terminal(kimi, "undo")
        terminal.until("[y/N]")
        terminal.type(answer)
        assert terminal.end() == 2
        assert "nothing was changed" in terminal.screen and state(kimi) == (MENDED, True)
    terminal = Terminal(kimi, "undo", columns=50)
    terminal.until("[y/N]")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert "undone: turn 2" in terminal.screen and state(kimi) == (MENDED, False)


def test_rewind_lists_and_goes_back(kimi: Kimi, serve: Serve) -> None:
    _, session = two_turns(kimi, serve)
    listed = done(kimi("rewind")).out.splitlines()
    assert [line.split()[:3] for line in listed] == [["1", "mend", "it"], ["2", "make", "it"]]
    assert all("1 file" in line for line in listed)
    rows = done(kimi("rewind", "--json")).json()
    assert [(row["turn"], row["text"], row["stop_reason"]) for row in rows] == [
        (1, "mend it", "done"), (2, "make it", "done")
    ]  # fmt: skip
    assert [row["files"] for row in rows] == [
        [str(kimi.cwd / "calc.py")], [str(kimi.cwd / "made.txt")]
    ]  # fmt: skip
    missing = kimi("rewind", "7", "--yes")
    assert missing.code == 2 and "1 to 2" in missing.err
    only = done(kimi("rewind", "1", "--files", "--yes", "--json")).json()
    assert only["done"] and not only["conversation"] and state(kimi) == (BROKEN, False)
    assert {Path(file["path"]).name: file["action"] for file in only["files"]} == {
        "calc.py": "modified", "made.txt": "deleted"
    }  # fmt: skip
    assert len(done(kimi("rewind", "--json")).json()) == 2
    done(kimi("redo", "--yes"))
    assert state(kimi) == (MENDED, True)
    done(kimi("rewind", "2", "--conversation", "--yes"))
    assert state(kimi) == (MENDED, True) and len(done(kimi("rewind", "--json")).json()) == 1
    done(kimi("redo", "--yes"))
    whole = kimi("rewind", "1", "--json")
    assert whole.code == 2 and whole.json()["done"] is False and state(kimi) == (MENDED, True)
    done(kimi("rewind", "1", "--both", "--yes", "--session", session))
    assert kimi("rewind", "1", "--files", "--yes").code == 2
    assert state(kimi) == (BROKEN, False)
    assert done(kimi("rewind")).out == ""


def test_hand_edits_need_force(kimi: Kimi, serve: Serve) -> None:
    two_turns(kimi, serve)
    (kimi.cwd / "made.txt").write_text("mine\n")
    (kimi.cwd / "notes").write_text("mine too\n")
    refused = kimi("undo", "--yes")
    assert refused.code == 2 and "--force" in refused.err
    assert "made.txt" in refused.err.split("edits would be lost:")[1]
    assert "notes" not in refused.err and state(kimi) == (MENDED, True)
    fields = kimi("undo", "--yes", "--json").json()
    assert fields["edited"] == [str(kimi.cwd / "made.txt")] and not fields["done"]
    done(kimi("undo", "--yes", "--force"))
    assert state(kimi) == (MENDED, False) and (kimi.cwd / "notes").exists()
    done(kimi("redo", "--yes"))
    assert (kimi.cwd / "made.txt").read_text() == "mine\n"


def test_a_session_that_runs_is_left_alone(kimi: Kimi, serve: Serve) -> None:
    server, session = two_turns(kimi, serve, text("stalled", stall_after=2))
    with held(kimi, session, server):
        before = log(kimi).read_bytes()
        refused = kimi("undo", "--yes")
        assert refused.code == 2 and "nothing was changed" in refused.err
        assert (state(kimi), log(kimi).read_bytes()) == ((MENDED, True), before)
        assert len(done(kimi("rewind", "--json")).json()) == 3


def test_what_can_t_be_undone_is_said(kimi: Kimi, serve: Serve) -> None:
    (kimi.cwd / ".gitignore").write_text("ignored\n")
    command = "echo x > ignored; echo y > made.txt; chmod +x calc.py"
    server = serve([tool_calls([("shell", {"command": command})]), text("ok"), text("ok")])
    assert kimi("-p", "x", "--yolo", server=server).code == 0
    assert kimi("-p", "nothing to change", "-c", server=server).code == 0
    plain = done(kimi("undo", "--yes"))
    assert "files: stay as they are" in plain.err and "not undone" not in plain.err
    assert plain.out.startswith("undone: turn 2 · kimi redo")
    fields = done(kimi("undo", "--yes", "--json")).json()
    assert {Path(file["path"]).name: file["action"] for file in fields["files"]} == {
        "calc.py": "mode", "made.txt": "deleted"
    }  # fmt: skip
    said = " ".join(fields["not_undone"])
    assert "command that ran" in said and "git ignores" in said and "commits" in said
    assert (kimi.cwd / "ignored").exists() and not os.access(kimi.cwd / "calc.py", os.X_OK)


@pytest.mark.parametrize(("by", "files_done"), [("undo", True), ("undo", False), ("run", False)])
def test_an_undo_that_was_cut_short_is_completed(
    kimi: Kimi, serve: Serve, files_done: bool, by: str
) -> None:
    server, _ = two_turns(kimi, serve, text("three"))
    done(kimi("undo", "--yes"))
    lines = log(kimi).read_bytes().splitlines(keepends=True)
    begun = next(i for i, line in enumerate(lines) if b'"rewind_started"' in line)
    # As a process leaves it that is killed before the log says that the files are done.
    log(kimi).write_bytes(b"".join(lines[: begun + 1]))
    if not files_done:
        (kimi.cwd / "made.txt").write_text("one\ntwo\n")
    if by == "undo":
        run = done(kimi("undo", "--yes"))
    else:
        run = kimi("-p", "x", "-c", server=server)
        assert goes_on(server.requests[-1], server.requests[1])
        assert "make it" not in json.dumps(server.requests[-1].messages)
    assert "was cut short before, and is complete now" in run.err
    # Once, and no turn more.
    assert state(kimi) == (MENDED, False)
    assert [row["text"] for row in done(kimi("rewind", "--json")).json()][:1] == ["mend it"]
    check_events(kimi.stored())
    if by == "undo":
        done(kimi("redo", "--yes"))
        assert state(kimi) == (MENDED, True)


def test_what_was_edited_since_the_undo_was_cut_short_stays(kimi: Kimi, serve: Serve) -> None:
    two_turns(kimi, serve)
    done(kimi("rewind", "1", "--yes"))
    lines = log(kimi).read_bytes().splitlines(keepends=True)
    begun = next(i for i, line in enumerate(lines) if b'"rewind_started"' in line)
    log(kimi).write_bytes(b"".join(lines[: begun + 1]))
    (kimi.cwd / "calc.py").write_text("mine\n")
    (kimi.cwd / "made.txt").write_text("one\ntwo\n")
    run = done(kimi("undo", "--yes"))
    assert str(kimi.cwd / "calc.py") in run.err
    assert state(kimi) == ("mine\n", False)
    assert done(kimi("rewind", "--json")).json() == []


def test_killed_while_files_are_restored(kimi: Kimi, serve: Serve) -> None:
    many = "mkdir many; for i in $(seq 2000); do echo old > many/$i; done"
    change = "for i in $(seq 2000); do echo new > many/$i; done"
    calls = [tool_calls([("shell", {"command": command})]) for command in (many, change)]
    server = serve([calls[0], text("one"), calls[1], text("two"), text("three")])
    for prompt in ("make", "change"):
        assert kimi("-p", prompt, "--yolo", *["-c"] * (prompt == "change"), server=server).code == 0
    folder = kimi.cwd / "many"

    def restored() -> int:
        return sum(path.read_text() == "old\n" for path in folder.iterdir())

    running = kimi.start("undo", "--yes")
    running.until(lambda: (folder / "1").read_text() == "old\n", "restored file")
    running.signal(signal.SIGKILL)
    running.end()
    assert restored() < 2000
    run = kimi("-p", "go on", "-c", server=server)
    assert run.code == 0 and "complete now" in run.err, run.err
    assert restored() == 2000 and len(list(folder.iterdir())) == 2000
    assert goes_on(server.requests[4], server.requests[1])
    check_events(kimi.stored())


def test_documents_and_lists_of_a_session_that_was_rewound(kimi: Kimi, serve: Serve) -> None:
    server, session = two_turns(kimi, serve, text("three"))
    done(kimi("rewind", "1", "--yes"))
    assert kimi("-p", "begin anew", "-c", server=server).code == 0
    shown = done(kimi("sessions", "show", "--json")).json()
    assert [turn["taken_back"] for turn in shown["turns"]] == [True, True, False]
    assert shown["changed_files"] == [] and shown["title"] == "begin anew"
    assert shown["usage"]["total_tokens"] == sum(
        turn["usage"]["total_tokens"] for turn in shown["turns"]
    )
    assert done(kimi("sessions", "show")).out.count("taken back") == 2
    messages = done(kimi("sessions", "export", "--format", "openai")).json()["messages"]
    assert [m["content"] for m in messages[1:]] == ["begin anew", "three"]
    document = done(kimi("sessions", "export")).out
    assert document.count("*taken back later*") == 2 and "2 files restored" in document
    assert "checkpoint" not in document
    assert "back before turn 1" in done(kimi("replay", session)).out
    copy = done(kimi("sessions", "fork")).out.strip()
    assert [row["text"] for row in kimi("rewind", "--json", "--session", copy).json()] == [
        "begin anew"
    ]
    # Of what was taken back nothing is sent.
    shares = done(kimi("context", "--json")).json()["shares"]
    assert shares["calls"] == shares["results"] == 0 < shares["answers"]


def test_a_check_runs_what_is_still_in_the_files(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    read = tool_calls([("read", {"path": "calc.py"})])
    server = serve([EDIT, text("one"), read, text("two")])
    assert kimi("-p", "mend it", server=server).code == 0
    done(kimi("undo", "--yes"))
    run = kimi("-p", "look", "-c", server=server)
    assert run.code == 0
    checked = kimi("replay", run.err.split()[-3], "--check")
    assert checked.code == 0, checked.out
    assert "1 of 1 tool call" in checked.out


def test_usage_errors(kimi: Kimi, serve: Serve) -> None:
    for command in ("undo", "redo", "rewind"):
        empty = kimi(command)
        assert (empty.code, empty.out) == (2, "") and "no session" in empty.err
    two_turns(kimi, serve)
    assert kimi("undo", "--session", "zzzz").code == 2
    assert kimi("rewind", "x").code == 2
    kimi.configure({"undo": {"max_files": 0}})
    assert kimi("undo", "--yes").code == 2

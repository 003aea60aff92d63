"""`kimi context`: what fills the window of a stored session."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.program import Kimi, Run
from tests.support.replies import Reply, text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tokenizers import write_tokenizer

Serve = Callable[..., ScriptedServer]
MODEL = "kimi-k2-0905-preview"
NOTE = "Goal: count to the end. State: I have counted some. Next: count on from where I was."


def report(kimi: Kimi, *args: str, **options: Any) -> dict[str, Any]:
    run = kimi("context", *args, "--json", **options)
    assert run.code == 0, run.err
    document: dict[str, Any] = run.json()
    return document


def shown(kimi: Kimi, *args: str, **options: Any) -> list[str]:
    """The lines for people, which fit a terminal of 80 columns."""
    run = kimi("context", *args, **options)
    assert (run.code, run.err) == (0, "")
    lines = run.out.splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def row(lines: list[str], name: str) -> list[str]:
    [found] = [line for line in lines if line.strip().startswith(name)]
    return found.strip().removeprefix(name).split()


def work(kimi: Kimi, server: ScriptedServer, *args: str) -> str:
    """Run to the end; returns the session's id."""
    run = kimi("-p", "go", "--yolo", *args, server=server)
    assert run.code == 0, run.err
    return kimi.sessions()[-1].name


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below the folder, with its time and content."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_a_session_is_made_of(kimi: Kimi, serve: Serve, project: Path) -> None:
    (project / "AGENTS.md").write_text("# Rules\n\nAlways be brief.\n")
    (project / "long.txt").write_text("a line of it\n" * 400)
    server = serve(
        [
            tool_calls(
                [("read", {"path": "long.txt"}), ("read", {"path": "calc.py"})], thinking="Hm."
            ),
            text("It adds numbers, or so it says."),
        ]
    )
    session = work(kimi, server)
    server.close()
    before = snapshot(kimi.home)
    found = report(kimi)
    assert found["session"] == session
    assert (found["model"], found["dialect"], found["window"]) == ("kimi-k2.5", "moonshot", 262_144)
    usage = found["measured"]
    assert found["tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert found["since"] == 0
    assert found["tokens"] == sum(found["shares"].values())
    shares = found["shares"]
    for kind in ("system", "tools", "instructions", "user", "thinking", "answers", "calls"):
        assert shares[kind] > 0, kind
    assert shares["pinned"] == shares["media"] == 0
    assert shares["results"] > 1_000
    assert [one["name"] for one in found["largest_results"]] == ["read long.txt", "read calc.py"]
    assert found["compactions"] == []

    lines = shown(kimi, session[:6])
    assert lines[0].startswith(f"{session} · kimi-k2.5 · ")
    assert " of 262k tokens · " in lines[0]
    assert row(lines, "tool results")[0] == f"{shares['results']:,}"
    assert row(lines, "read long.txt")
    assert any("measured by the server" in line for line in lines)
    assert any("of the last request came from the server's cache" in line for line in lines)
    assert not any("compacted" in line for line in lines)
    # Read only, and offline: nothing was written, nobody was asked.
    assert snapshot(kimi.home) == before


def test_a_session_that_is_in_use(kimi: Kimi, serve: Serve) -> None:
    server = serve(
        [tool_calls([("shell", {"command": "echo 1"})]), text("x", stall_after="headers")]
    )
    running = kimi.start("-p", "go", "--yolo", server=server)
    running.until(lambda: len(server.requests) == 2, "second request")
    found = report(kimi)
    assert found["shares"]["results"] > 0
    assert found["since"] > 0
    assert running.process.poll() is None
    running.kill()


def test_compactions_are_told(kimi: Kimi, serve: Serve) -> None:
    kimi.configure({"models": {MODEL: {"context": 12_000, "max_output_tokens": 2000}}})
    steps = 0

    def answer(index: int, request: Any) -> Reply:
        nonlocal steps
        if "hand-off note" in json.dumps(request.messages[-1]):
            return text(NOTE)
        steps += 1
        if steps > 14:
            return text("Counted to the end.")
        command = f"echo {steps} $(yes word | head -n 400)"
        return tool_calls([("shell", {"command": command})])

    session = work(kimi, serve(answer), "--model", MODEL)
    found = report(kimi)
    assert found["compactions"]
    first = found["compactions"][0]
    assert (first["note"], first["reason"], first["mechanical"]) == (NOTE, "window", False)
    assert first["tokens_after"] < first["tokens_before"] < 12_000
    assert first["kept"]["user_messages"] == 1
    assert found["shares"]["pinned"] > 0
    assert found["window"] == 12_000 and found["tokens"] < 12_000
    lines = shown(kimi)
    assert row(lines, "kept by compaction")
    told = [line for line in lines if "compacted, window nearly full" in line]
    assert len(told) == len(found["compactions"])
    assert any("kept 1 message · 0 todos" in line for line in lines)
    assert any("the model's own note" in line for line in lines)
    assert lines[-1].strip() == f"the whole history: kimi sessions export {session}"


def test_the_model_s_tokenizer_counts(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    kimi.configure({"models": {"kimi-k2.5": {"tokenizer": str(tmp_path / "model")}}})
    work(kimi, serve([text("Done.")]))
    assert report(kimi)["counted_by"] == "estimate"
    path = write_tokenizer(tmp_path / "model")
    assert report(kimi)["counted_by"] == "tokenizer"
    assert any("counted with the model's tokenizer" in line for line in shown(kimi))
    path.write_bytes(b"nonsense")
    assert report(kimi)["counted_by"] == "estimate"


def test_the_hugging_face_cache_is_found(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    work(kimi, serve([text("Done.")]))
    snapshot = tmp_path / "hub" / "models--moonshotai--Kimi-K2.5" / "snapshots" / "c1"
    write_tokenizer(snapshot)
    env = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    assert report(kimi, env=env)["counted_by"] == "tokenizer"


def failure(run: Run) -> str:
    assert run.out == ""
    assert run.err.startswith("kimi: ") and run.err.count("\n") == 1
    return run.err


def test_what_can_not_be_shown(kimi: Kimi, serve: Serve) -> None:
    run = kimi("context")
    assert run.code == 2
    assert "no session of this project" in failure(run)
    server = serve([text("a"), text("b")])
    one = work(kimi, server)
    other = work(kimi, server)
    # An id begins with the time.
    assert one[:3] == other[:3]
    run = kimi("context", one[:3], "--json")
    assert run.code == 2 and "fits 2 sessions" in failure(run)
    run = kimi("context", "zzzzzz")
    assert run.code == 2 and "no session" in failure(run)
    events = kimi.sessions()[-1] / "events.jsonl"
    events.write_text(events.read_text().replace('"v":2', '"v":99'))
    run = kimi("context")
    assert run.code == 2 and "newer version" in failure(run)


def test_a_terminal_that_has_no_unicode(kimi: Kimi, serve: Serve) -> None:
    work(kimi, serve([text("Done.")]))
    run = kimi("context", env={"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert run.code == 0
    assert run.out.isascii() and "tools" in run.out

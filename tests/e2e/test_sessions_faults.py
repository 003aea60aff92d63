"""`kimi sessions` and its like where the output, the folder or a log is not as it should be."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.helpers import result_of
from tests.e2e.stored import begun, ids
from tests.support.program import Kimi
from tests.support.replies import http_error, text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.terminal import Terminal

pytestmark = pytest.mark.long

Serve = Callable[..., ScriptedServer]
READING = [
    ("--help",), ("sessions", "-h"), ("sessions", "list"), ("sessions", "export"), ("context",),
]  # fmt: skip
# What a terminal obeys, what reorders a line, what breaks it where nobody expects it.
EVIL = "\x1b[31mE\x1b]0;title\x07\u202eX\nY\u2028Z\x9b5n"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


# Standard output and error.


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_left(unbuffered: str, kimi: Kimi, serve: Serve) -> None:
    begun(kimi, serve([text("ok")]), "one")
    for args in READING:
        reader, writer = os.pipe()
        os.close(reader)
        running = kimi.start(*args, stdout=writer, env={"PYTHONUNBUFFERED": unbuffered})
        os.close(writer)
        run = running.end()
        assert (run.code, run.err) == (143, ""), args


def test_output_that_cannot_be_written(kimi: Kimi, serve: Serve) -> None:
    begun(kimi, serve([text("ok")]), "one")
    for args in READING:
        with open("/dev/full", "wb") as full:
            run = kimi.start(*args, stdout=full).end()
        assert (run.code, len(run.err.splitlines())) == (74, 1), args
        assert "No space left" in run.err
        closed = kimi(*args, wrap=["bash", "-c", 'exec "$@" >&-', "bash"])
        assert (closed.code, closed.out, len(closed.err.splitlines())) == (74, "", 1), args


def test_an_error_does_not_turn_up_on_stdout(kimi: Kimi) -> None:
    for args in (("sessions", "show", "zzzz"), ("context", "zzzz"), ("-p", "x", "-r", "zzzz")):
        run = kimi(*args, wrap=["bash", "-c", 'exec "$@" 2>&-', "bash"])
        assert (run.code, run.out, run.err) == (2, "", ""), args


# The place.


def test_a_working_directory_that_is_gone(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    (session,) = begun(kimi, serve([text("ok")]), "one")
    wrap = ["bash", "-c", 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"', str(tmp_path / "no")]
    for args in (
        ("sessions", "list"), ("sessions", "show", session), ("context",), ("compact",),
        ("config", "show"), ("trust", "add"), ("models",), ("-p", "x", "-r"),
        ("-p", "x", "-c", "--fork"),
    ):  # fmt: skip
        run = kimi(*args, wrap=wrap)
        assert (run.code, run.err) == (2, "kimi: the working directory no longer exists\n"), args
    run = kimi("sessions", "list", "--all", wrap=wrap)
    assert run.code == 0 and session in run.out


def test_choosing_from_sessions_that_cannot_be_read(kimi: Kimi, serve: Serve) -> None:
    begun(kimi, serve([text("ok")]), "one")
    project = kimi.sessions()[0].parent
    project.rename(kimi.home / "away")
    project.symlink_to(project)
    run = kimi("-p", "x", "-r", "--output-format", "json")
    assert run.code == 74 and "cannot be read" in result_of(run)["detail"]
    assert len(run.err.splitlines()) == 1


def test_an_export_that_does_not_fit_leaves_nothing(
    kimi: Kimi, serve: Serve, tmp_path: Path
) -> None:
    begun(kimi, serve([text("ok " * 2000)]), "one")
    file = tmp_path / "out.md"
    limit = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash"]
    run = kimi("sessions", "export", "-o", file, wrap=limit)
    assert run.code == 74 and "File too large" in run.err
    assert not file.exists()
    assert kimi("sessions", "export", "-o", file).code == 0


def test_what_is_made_for_a_debug_log_is_private(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    home = tmp_path / "new"
    run = kimi(
        "-p", "x", "--debug", "--no-session", server=serve([text("ok")]),
        env={"KIMI_HOME": str(home)}, wrap=["bash", "-c", 'umask 022; exec "$@"', "bash"],
    )  # fmt: skip
    assert run.code == 0
    made = [home, *home.rglob("*")]
    assert len(made) == 3
    assert [path.stat().st_mode & 0o077 for path in made] == [0, 0, 0]


# What a session holds.


def changed(kimi: Kimi, **changes: dict[str, object]) -> None:
    """Put other fields into the events of these types of the only session."""
    (folder,) = kimi.sessions()
    lines = (folder / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    for event in events:
        event.update(changes.get(event["type"], {}))
    lines = [json.dumps(event, separators=(",", ":")) for event in events]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


def test_a_session_can_do_nothing_to_the_terminal(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([("read", {"path": "calc.py"})]), text("ok")])
    (session,) = begun(kimi, server, "one")
    changed(
        kimi,
        session_started={"cwd": f"/{EVIL}", "model": EVIL, "forked_from": EVIL},
        user_message={"parts": [{"type": "text", "text": EVIL}]},
        tool_result={
            "name": EVIL, "summary": EVIL, "display": EVIL,
            "files": [{"path": f"/x/{EVIL}", "action": "created"}],
        },
        turn_ended={"currency": EVIL, "detail": EVIL},
    )  # fmt: skip
    for args in (
        ("sessions", "list", "--all"), ("sessions", "list", "--json"), ("sessions", "show"),
        ("sessions", "show", "--json"), ("sessions", "export"), ("context",), ("replay", session),
    ):  # fmt: skip
        run = kimi(*args)
        assert run.code == 0, run.err
        assert "E" in run.out and not OBEYED.search(run.out + run.err), args
    (row,) = kimi("sessions", "list", "--json").json()
    assert row["folder"] == f"/{EVIL}", "programs get it as it is"


def test_an_answer_can_do_nothing_to_the_terminal(kimi: Kimi, serve: Serve) -> None:
    server = serve([text(EVIL)] * 2)
    terminal = Terminal(kimi, "-p", "x", server=server)
    assert terminal.end() == 0
    # Our own lines are dim.
    shown = re.sub(r"\x1b\[[02]m", "", terminal.screen)
    assert "EX\nYZ" in shown and "title" not in shown and not OBEYED.search(shown)
    assert kimi("-p", "x", server=server).out == f"{EVIL}\n", "a program gets it as it is"


def test_what_a_server_says_can_do_nothing_to_the_terminal(kimi: Kimi, serve: Serve) -> None:
    run = kimi("-p", "x", server=serve([http_error(400, "invalid_request_error", EVIL)]))
    assert run.code != 0 and "EX" in run.err and "title" not in run.err
    assert not OBEYED.search(run.err)


def test_a_name_that_is_not_utf_8_spoils_no_json(kimi: Kimi, serve: Serve) -> None:
    begun(kimi, serve([text("ok")]), "one")
    changed(kimi, session_started={"cwd": "/caf\udce9", "model": "k2 – \udce9"})
    for args in (("sessions", "list"), ("sessions", "show"), ("context",)):
        run = kimi(*args, "--json", env={"PYTHONIOENCODING": "ascii"})
        assert run.code == 0 and "k2 – ?" in str(run.json())
        assert run.out.isascii() and "\\ud" not in run.out


def test_an_impossible_time_is_no_time(kimi: Kimi, serve: Serve) -> None:
    begun(kimi, serve([text("ok")]), "one")
    changed(kimi, session_started={"time": 1e300}, turn_ended={"seconds": 1e300})
    for args in (("list",), ("show",), ("export",)):
        run = kimi("sessions", *args)
        assert run.code == 0 and "one" in run.out, run.err


def test_a_title_is_no_command_of_the_shell(kimi: Kimi, serve: Serve) -> None:
    begun(kimi, serve([text("ok")]), "look at \\$(touch made) `touch made` '\"x")
    for shell in ("zsh", "fish"):
        asked = {
            "_KIMI_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_ARGS": "kimi sessions show ",
        }  # fmt: skip
        offered = kimi(env=asked).out
        title = offered[offered.index("look at") :].split("))'")[0].strip().removesuffix('"')
        assert "touch made" in title and not set(title) & set("\\$`'\""), offered


# What was used.


def test_the_figures_of_a_session_are_those_of_its_turns(kimi: Kimi, serve: Serve) -> None:
    """Also of a turn that was interrupted, and where the endpoint gives no usage."""
    stalls = text("begun and then nothing any more", stall_after=3)
    server = serve([text("ok", usage_at="absent"), stalls, text("ok")])
    assert kimi("-p", "one", server=server).code == 0
    running = kimi.start("-p", "two", "-c", "--output-format", "stream-json", server=server)
    running.until(lambda: "text_delta" in running.out, "text")
    running.signal(signal.SIGINT)
    assert running.end().code == 130
    assert kimi("-p", "three", "-c", server=server).code == 0
    shown = kimi("sessions", "show", "--json").json()
    (row,) = kimi("sessions", "list", "--json").json()
    assert len(ids(kimi)) == 1 and len(shown["turns"]) == 3
    for name in ("input_tokens", "output_tokens", "cached_tokens", "total_tokens"):
        assert row["usage"][name] == sum(turn["usage"][name] for turn in shown["turns"])
    assert all(turn["usage"]["total_tokens"] and turn["cost"] for turn in shown["turns"])
    assert row["cost"] == pytest.approx(sum(turn["cost"] for turn in shown["turns"]), abs=3e-6)
    assert row["steps"] == sum(turn["steps"] for turn in shown["turns"])

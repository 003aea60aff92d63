"""`kimi sessions`: the list, one session, deleting, exports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from tests.e2e.helpers import result_of
from tests.e2e.stored import aged, begun, held, ids
from tests.e2e.test_sessions import extends, work
from tests.support.program import PROGRAM, Kimi
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.terminal import Terminal

pytestmark = pytest.mark.long

Serve = Callable[..., ScriptedServer]
EDIT = tool_calls([("edit", {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})])


# The list.


def test_list_is_about_this_project_newest_first(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    server = serve([EDIT, text("ok"), text("ok"), text("ok")])
    first = work(kimi, server)
    (second,) = begun(kimi, server, "second task\nwith more")
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = kimi("-p", "elsewhere", server=server, cwd=other).err.split()[-3]
    aged(kimi, first, 2)
    run = kimi("sessions", "list")
    assert (run.code, run.err) == (0, "")
    heading, *lines = run.out.splitlines()
    assert heading.split() == ["id", "when", "title", "turns/steps", "tokens", "cost", "model"]
    assert [line.split()[0] for line in lines] == [second, first]
    assert "second task" in lines[0] and "just now" in lines[0] and " 1/1 " in lines[0]
    assert "2 d ago" in lines[1] and " 1/2 " in lines[1] and "kimi-k2.5" in lines[1]
    assert kimi("sessions").out == run.out
    assert kimi("sessions", "list", "-n", "1").out.splitlines()[1:] == lines[:1]
    rows = kimi("sessions", "list", "--all", "--json").json()
    assert {row["id"] for row in rows} == {first, second, elsewhere}
    row = next(row for row in rows if row["id"] == first)
    assert row["folder"] == str(kimi.cwd)
    assert (row["turn_count"], row["steps"], row["stop_reason"]) == (1, 2, "done")
    assert row["usage"]["total_tokens"] > 0 and row["cost"] > 0 and row["currency"] == "USD"


def test_list_of_nothing_says_so(kimi: Kimi) -> None:
    for args in ((), ("--all",)):
        run = kimi("sessions", "list", *args)
        assert (run.code, run.out) == (0, "")
        assert "no session" in run.err
    run = kimi("sessions", "list", "--json")
    assert (run.code, run.out, run.err) == (0, "[]\n", "")


def test_list_fits_the_terminal(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")] * 2)
    begun(kimi, server, "修复购物车里优惠券被计算两次的问题，并且补上测试用例" * 3, "x" * 300)
    terminal = Terminal(kimi, "sessions", "list", columns=60)
    assert terminal.end() == 0
    lines = terminal.screen.splitlines()
    assert len(lines) == 3
    assert max(map(cell_len, lines)) <= 60
    assert "修复购物车" in lines[2] and "…" in lines[2]


def imported(kimi: Kimi, *args: str, server: ScriptedServer | None = None) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", str(PROGRAM), *args],
        capture_output=True, text=True, check=True, timeout=60, stdin=subprocess.DEVNULL,
        cwd=kimi.cwd, env=kimi.environment(server),
    )  # fmt: skip
    return {line.rsplit("|", 1)[1].strip() for line in run.stderr.splitlines() if "|" in line}


def test_a_run_imports_nothing_of_the_other_commands(kimi: Kimi, serve: Serve) -> None:
    names = imported(kimi, "-p", "x", server=serve([text("ok")]))
    assert "kimi_cli.store.log" in names
    others = {f"kimi_cli.store.{name}" for name in ("fork", "manage", "summary", "titles")}
    others |= {"kimi_cli.cli.resume", "kimi_cli.cli.sessions", "kimi_cli.frontends.export"}
    assert not others & names


def test_list_imports_little(kimi: Kimi) -> None:
    names = imported(kimi, "sessions", "list")
    assert "kimi_cli.store.summary" in names
    heavy = {"openai", "httpx", "jsonschema", "git", "asyncio", "tomlkit", "kimi_cli.agent"}
    heavy |= {"kimi_cli.settings.schema", "kimi_cli.protocol.events"}
    assert not heavy & names
    assert not [n for n in names if n.startswith(("kimi_cli.model", "kimi_cli.tools."))]


# One session.


def test_show_has_every_turn(kimi: Kimi, serve: Serve) -> None:
    server = serve([EDIT, text("ok"), text("again")])
    first = result_of(kimi("-p", "fix the sum", "--output-format", "json", server=server))
    session = first["session_id"]
    then = result_of(kimi("-p", "and now?", "-c", "--output-format", "json", server=server))
    shown = kimi("sessions", "show", "--json").json()
    assert shown == kimi("sessions", "show", session[:-1], "--json").json()
    assert [turn.pop("text") for turn in shown["turns"]] == ["fix the sum", "and now?"]
    assert not any(turn.pop("taken_back") for turn in shown["turns"])
    assert shown["turns"] == first["turns"] + then["turns"]
    assert shown["changed_files"] == first["changed_files"]
    assert shown["usage"] == then["session_usage"]
    assert shown["cost"] == pytest.approx(then["session_cost"])
    assert (shown["title"], shown["compacted"], shown["compactions"]) == ("fix the sum", [], 0)
    run = kimi("sessions", "show", session)
    assert run.code == 0
    assert session in run.out and str(kimi.cwd) in run.out and "calc.py" in run.out
    turns = [line for line in run.out.splitlines() if re.match(r" +\d  ", line)]
    assert re.match(r" +1  fix the sum  done · 2 steps · .+ tokens, \d+ % cached · <?\$", turns[0])
    assert re.match(r" +2  and now\?  done · 1 step · ", turns[1])
    terminal = Terminal(kimi, "sessions", "show", columns=70)
    assert terminal.end() == 0
    on_terminal = [line for line in terminal.screen.splitlines() if re.match(r" +\d  ", line)]
    assert len(on_terminal) == 2 and max(map(cell_len, on_terminal)) <= 70


def test_show_a_turn_that_never_ended(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok"), text("begun and stalled", stall_after=2)])
    session = work(kimi, server)
    assert "state" not in kimi("sessions").out.splitlines()[0]
    for running, word in ((True, "running"), (False, "not ended")):
        if running:
            with held(kimi, session, server):
                looked = looks(kimi)
        else:
            looked = looks(kimi)
        shown, details, rows, table = looked
        assert [turn["stop_reason"] for turn in shown["turns"]] == ["done", None]
        assert shown["running"] is running and rows[0]["running"] is running
        states = [w for w in ("running", "not ended") if w in details]
        assert states == [word]
        heading, line = table.splitlines()
        assert heading.split()[:3] == ["id", "when", "state"]
        assert f"  {word}  " in line


def looks(kimi: Kimi) -> tuple[dict[str, Any], str, list[dict[str, Any]], str]:
    """The last session, and the list, for programs and for people."""
    shown = kimi("sessions", "show", "--json").json()
    rows = kimi("sessions", "list", "--json").json()
    return shown, kimi("sessions", "show").out, rows, kimi("sessions", "list").out


def test_a_killed_session_says_in_which_currency(kimi: Kimi, serve: Serve) -> None:
    kimi.configure({"prices": {"kimi-k2.5": {"input": 4.0, "output": 21.0, "currency": "CNY"}}})
    server = serve([EDIT, text("begun and stalled", stall_after=2)])
    running = kimi.start("-p", "go", server=server)
    running.until(lambda: len(server.requests) == 2, "second request")
    running.kill()
    shown, details, rows, table = looks(kimi)
    assert (shown["cost"] > 0, shown["currency"], rows[0]["currency"]) == (True, "CNY", "CNY")
    assert details.count("¥0.") == 2 and "¥0." in table


@pytest.mark.parametrize("command", ["show", "export", "fork"])
def test_no_session_to_mean(command: str, kimi: Kimi) -> None:
    run = kimi("sessions", command)
    assert (run.code, run.out) == (2, "")
    assert "no session" in run.err
    assert kimi("sessions", command, "zzzz").code == 2


def test_rename(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok"), text("more")])
    (session,) = begun(kimi, server, "the first words")
    before = kimi("sessions", "list", "--json").json()
    run = kimi("sessions", "rename", session[:-1], "the\x1b[31m cart\n totals")
    assert run.code == 0 and session in run.out
    (row,) = kimi("sessions", "list", "--json").json()
    assert row["title"].split() == ["the", "cart", "totals"]
    assert row["updated"] == before[0]["updated"]
    work(kimi, server, "-c")
    assert kimi("sessions", "list", "--json").json()[0]["title"] == row["title"]
    assert extends(server.requests[1], server.requests[0])


# Deleting.


def test_delete_asks_or_wants_to_be_told(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")] * 3)
    first, second, third = begun(kimi, server, "one", "two", "three")
    run = kimi("sessions", "delete", first, second)
    assert (run.code, run.out) == (2, "")
    assert first in run.err and second in run.err and third not in run.err and "--yes" in run.err
    for answer in ("n\n", "\n", "\x04"):
        terminal = Terminal(kimi, "sessions", "delete", first, second)
        terminal.until("[y/N]")
        terminal.type(answer)
        assert terminal.end() == 2
    assert ids(kimi) == sorted([first, second, third])
    terminal = Terminal(kimi, "sessions", "delete", first, stdout=False)
    terminal.until("one")
    terminal.until("[y/N]")
    terminal.type("y\n")
    assert terminal.end() == 0
    assert ids(kimi) == sorted([second, third])
    run = kimi("sessions", "delete", second, third, second, "--yes")
    assert (run.code, run.out) == (0, f"deleted: {second}\ndeleted: {third}\n")
    assert ids(kimi) == []


def test_delete_of_an_unknown_id_deletes_nothing(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")])
    (session,) = begun(kimi, server, "one")
    assert kimi("sessions", "delete", session, "zzzz", "--yes").code == 2
    for args in ((), (session, "--older-than", "30d")):
        assert kimi("sessions", "delete", *args).code == 2
    for age in ("soon", "d", "-1d", "9" * 5000 + "d"):
        assert kimi("sessions", "delete", "--older-than", age, "--yes").code == 2
    assert ids(kimi) == [session]


def test_an_open_session_is_not_deleted(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok"), text("ok"), text("begun and stalled", stall_after=2)])
    first, second = begun(kimi, server, "one", "two")
    with held(kimi, first, server):
        run = kimi("sessions", "delete", first, second, "--yes")
    assert run.code == 2
    assert run.out == f"deleted: {second}\n"
    assert f"{first} is open" in run.err
    assert ids(kimi) == [first]


def test_delete_what_is_old(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    server = serve([text("ok")] * 4)
    new, old, older = begun(kimi, server, "one", "two", "three")
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = kimi("-p", "elsewhere", server=server, cwd=other).err.split()[-3]
    aged(kimi, old, 31)
    aged(kimi, older, 400)
    aged(kimi, elsewhere, 31)
    run = kimi("sessions", "delete", "--older-than", "30d")
    assert run.code == 2
    assert old in run.err and older in run.err and new not in run.err
    assert kimi("sessions", "delete", "--older-than", "30d", "--yes").code == 0
    assert ids(kimi) == sorted([new, elsewhere])
    run = kimi("sessions", "delete", "--older-than", "4w", "--yes")
    assert (run.code, run.out) == (0, "")
    assert kimi("sessions", "delete", "--older-than", "4w", "--all", "--yes").code == 0
    assert ids(kimi) == [new]


# Exports.


@pytest.mark.parametrize(
    ("form", "suffix", "holds"),
    [("md", "md", "add things up"), ("openai", "json", '"role"'), ("html", "html", "<html")],
)
def test_export(
    form: str, suffix: str, holds: str, kimi: Kimi, serve: Serve, tmp_path: Path
) -> None:
    server = serve([text("Done — 好了.")])
    (session,) = begun(kimi, server, "add things up")
    run = kimi("sessions", "export", "--format", form, env={"PYTHONIOENCODING": "ascii"})
    assert run.code == 0
    assert holds in run.out and "好了" in run.out
    out = tmp_path / "out"
    out.mkdir()
    args = ("sessions", "export", session[:-1], "--format", form, "-o", out)
    written = kimi(*args)
    file = out / f"kimi-{session}.{suffix}"
    assert (written.code, written.out) == (0, f"{file}\n")
    assert file.read_text().rstrip("\n") == run.out.rstrip("\n")
    assert file.stat().st_mode & 0o077 == 0
    file.write_text("mine")
    refused = kimi(*args)
    assert refused.code == 2 and "--force" in refused.err and file.read_text() == "mine"
    assert kimi(*args, "--force").code == 0
    assert file.read_text().rstrip("\n") == run.out.rstrip("\n")
    nowhere = kimi("sessions", "export", "-o", out / "no" / "where.md")
    assert nowhere.code == 74 and "where.md" in nowhere.err


def test_a_reader_that_leaves_is_no_drama(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok " * 50_000)])
    begun(kimi, server, "one")
    reader, writer = os.pipe()
    running = kimi.start("sessions", "export", stdout=writer)
    os.close(writer)
    os.close(reader)
    run = running.end()
    assert (run.code, run.err) == (143, "")


def test_completion_offers_ids(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    server = serve([text("ok")] * 2)
    made = begun(kimi, server, "one", "two")
    script = kimi(env={"_KIMI_COMPLETE": "source_bash"}).out
    (tmp_path / "completion.sh").write_text(script)
    for words in (["kimi", "-r", made[0][:5]], ["kimi", "sessions", "show", made[0][:5]]):
        ask = (
            f'source "{tmp_path}/completion.sh"; COMP_WORDS=({" ".join(words)}); '
            f"COMP_CWORD={len(words) - 1}; _kimi_completion kimi; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        run = subprocess.run(
            ["bash", "-c", ask], env=kimi.environment(), cwd=kimi.cwd,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert set(run.stdout.split()) == set(made)

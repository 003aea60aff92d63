"""What the scrollback says: of long outputs, of what was stopped, of failures, of foreign text."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.support.program import Kimi
from tests.support.replies import http_error, text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

Start = Callable[..., Tty]
Serve = Callable[..., ScriptedServer]
SLOW = tool_calls([("shell", {"command": "printf be; echo gun; sleep 30"})])


def test_a_line_of_twenty_megabytes_takes_a_few_rows(start: Start) -> None:
    terminal = start()
    terminal.submit("!head -c 20000000 /dev/zero | tr '\\0' x")
    terminal.wait("… the end of 20 MB · ctrl-o shows all")
    terminal.wait_shown("the output goes with your next message")
    assert sum("xxxx" in row for row in terminal.scrollback) == 30


def test_of_millions_of_lines_the_end_is_shown_and_the_rest_measured(start: Start) -> None:
    terminal = start()
    terminal.submit("!yes | head -c 30000000")
    terminal.wait("… the end of 30 MB · ctrl-o shows all")
    terminal.wait_shown("the output goes with your next message")
    assert terminal.scrollback.count("    y") == 30


def test_what_a_command_of_the_user_printed_is_offered_at_once(start: Start) -> None:
    terminal = start()
    terminal.submit("!echo one")
    terminal.wait_shown("the output goes with your next message")
    assert "    one" in terminal.scrollback


def test_a_question_that_was_left_open_was_not_answered(start: Start, serve: Serve) -> None:
    ask = tool_calls([("shell", {"command": "touch one"}), ("shell", {"command": "touch two"})])
    terminal = start(serve([ask]), "--mode", "ask")
    terminal.submit("go")
    terminal.wait_shown("1 once")
    terminal.press("esc")
    terminal.wait("stopped by you")
    assert "! not answered: shell touch one" in terminal.scrollback
    assert "● shell touch one · interrupted" in terminal.scrollback
    assert "● shell touch two · interrupted" in terminal.scrollback
    assert "the policy" not in terminal.text


def test_a_stopped_call_keeps_its_command_also_when_resumed(start: Start, serve: Serve) -> None:
    server = serve([SLOW])
    terminal = start(server)
    terminal.submit("go")
    terminal.wait_shown("begun")
    terminal.press("esc")
    terminal.wait("stopped by you")
    stopped = "● shell printf be; echo gun; sleep 30 · interrupted"
    assert stopped in terminal.text
    terminal.kill(signal.SIGKILL)
    terminal.end()
    again = start(server, "-c", ready="stopped by you")
    assert stopped in again.text
    assert "kimi ended in the middle" not in again.text


def test_a_session_killed_in_a_turn_says_so_when_resumed(start: Start, serve: Serve) -> None:
    server = serve([SLOW])
    terminal = start(server)
    terminal.submit("go")
    terminal.wait_shown("begun")
    terminal.kill(signal.SIGKILL)
    terminal.end()
    again = start(server, "-c", ready="›")
    again.wait("kimi ended in the middle of this turn, while this ran: shell printf be")


def test_the_instruction_of_init_is_folded(start: Start, serve: Serve) -> None:
    terminal = start(serve([text("Written.")]), rows=50)
    terminal.submit("/init")
    terminal.wait("Written.")
    shown = terminal.scrollback
    first = next(n for n, row in enumerate(shown) if row.startswith("› ") and "AGENTS.md" in row)
    folded = next(n for n, row in enumerate(shown) if " more lines · ctrl-o shows all" in row)
    assert folded - first == 12


def test_an_overload_is_told_once(start: Start, serve: Serve, kimi: Kimi) -> None:
    words = ("The engine is overloaded", "The engine is overloaded, try later")
    busy = [http_error(429, "engine_overloaded_error", words[n % 2]) for n in range(40)]
    terminal = start(serve(busy))
    terminal.submit("go")
    terminal.wait("the model's server failed")
    terminal.wait_gone("next try")
    assert terminal.text.count("The engine is overloaded") == 1


def test_an_overload_that_passed_leaves_one_line(start: Start, serve: Serve) -> None:
    busy = http_error(429, "engine_overloaded_error", "The engine is overloaded")
    terminal = start(serve([busy, busy, text("Here I am.")]))
    terminal.submit("go")
    terminal.wait("Here I am.")
    terminal.wait("1 step")
    assert [row for row in terminal.scrollback if "overloaded" in row] == [
        "  The engine is overloaded · 2 tries failed"
    ]


def test_titles_and_links_of_the_model_leave_no_text(start: Start, serve: Serve) -> None:
    link = "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\"
    odd = f"before \x1b]0;pwned\x07after\n\n{link} \x1bPpwned"
    terminal = start(serve([text(odd, text_fragments=len(odd))]))
    terminal.submit("go")
    terminal.wait("1 step")
    assert "  before after" in terminal.scrollback
    assert "  link" in terminal.scrollback
    assert "pwned" not in terminal.text
    assert b"pwned" not in terminal.raw


def test_a_thought_that_took_no_time(start: Start, serve: Serve) -> None:
    terminal = start(serve([text("Done.", thinking="Hm.")]))
    terminal.submit("go")
    terminal.wait("1 step")
    terminal.press("ctrl-t")
    terminal.until(lambda: any(row.strip() == "Hm." for row in terminal.scrollback), "no thought")
    assert "thought for\n" not in terminal.text
    assert "thought for ·" not in terminal.text

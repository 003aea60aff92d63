"""Questions of the policy: what is shown, and each way to answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.program import Kimi
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty


def told(server: ScriptedServer) -> list[str]:
    return [str(m.get("content")) for m in server.requests[-1].messages if m["role"] == "tool"]


def write_outside(outside: Path) -> Any:
    return tool_calls([("write", {"path": str(outside / "made"), "content": "one\ntwo\n"})])


def test_once_lets_it_happen_once(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], outside: Path
) -> None:
    again = tool_calls([("write", {"path": str(outside / "more"), "content": "x"})])
    server = serve([write_outside(outside), again, text("Done.")])
    terminal = start(server)
    terminal.submit("go")
    terminal.wait_shown("1 once")
    assert "+one" in terminal.shown, "the whole change is there before the answer"
    assert not (outside / "made").exists()
    terminal.until(lambda: "2 this session" in terminal.shown, "no second answer")
    answer(terminal, "1")
    terminal.wait("allowed once")
    terminal.until((outside / "made").exists, "it is not written")
    assert (outside / "made").read_text() == "one\ntwo\n"
    terminal.wait_shown("1 once")
    answer(terminal, "4")
    terminal.wait("Done.")
    assert not (outside / "more").exists()


def answer(terminal: Tty, digit: str) -> None:
    """Answer as soon as a digit counts: one typed at once is not taken for an answer."""
    question = terminal.shown

    def gone() -> bool:
        if "1 once" in terminal.shown and terminal.shown == question:
            terminal.press(digit)
            terminal.nap()
        return terminal.shown != question

    terminal.until(gone, "the answer is not taken")


def test_a_digit_typed_too_soon_or_within_words_is_no_answer(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], outside: Path
) -> None:
    server = serve([write_outside(outside), text("Done.")])
    terminal = start(server)
    terminal.submit("go")
    terminal.type("there are ")
    terminal.wait_shown("1 once")
    terminal.type("1 2 3")
    terminal.wait_shown("there are 1 2 3")
    assert not (outside / "made").exists()
    assert "1 once" in terminal.shown
    # Alt and the digit answer beside the words.
    terminal.type("\x1b1")
    terminal.wait("allowed once")
    assert "there are 1 2 3" in terminal.shown


def test_no_with_a_comment_reaches_the_model(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], outside: Path
) -> None:
    server = serve([write_outside(outside), text("Understood.")])
    terminal = start(server)
    terminal.submit("go")
    terminal.wait_shown("5 no, and say why")
    answer(terminal, "5")
    terminal.wait_shown("say why ›")
    terminal.submit("use the workspace")
    terminal.wait("Understood.")
    assert "use the workspace" in told(server)[-1]
    assert not (outside / "made").exists()


def test_always_here_holds_from_now_on(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], kimi: Kimi, outside: Path
) -> None:
    again = tool_calls([("write", {"path": str(outside / "made"), "content": "three\n"})])
    server = serve([write_outside(outside), again, text("Done.")])
    terminal = start(server)
    terminal.submit("go")
    terminal.wait_shown(f"3 always here: write({outside}/made)")
    answer(terminal, "3")
    terminal.wait("Done.")
    assert (outside / "made").read_text() == "three\n", "nobody was asked again"
    assert f"write({outside}/made)" in kimi("policy", "list").out


def test_the_network_is_asked_for_with_the_part_marked(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer]
) -> None:
    server = serve([text("I am the internet.")])
    command = f"echo a && curl -sS {server.root_url}/v1/models && echo b"
    model = serve([tool_calls([("shell", {"command": command})]), text("Fetched.")])
    terminal = start(model)
    terminal.submit("go")
    terminal.wait_shown("1 once")
    shown = terminal.lines
    row = next(n for n, line in enumerate(shown) if "curl -sS" in line)
    marked = shown[row][: len(shown[row + 1])][len(shown[row + 1].rstrip("─")) :]
    assert marked.startswith("curl -sS"), terminal.shown
    answer(terminal, "1")
    terminal.wait("Fetched.")
    assert "with network access, as allowed" in told(model)[-1]


def test_interrupting_a_question_is_a_no(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], outside: Path
) -> None:
    server = serve([write_outside(outside), text("Later.")])
    terminal = start(server)
    terminal.submit("go")
    terminal.wait_shown("1 once")
    terminal.press("esc")
    terminal.wait("stopped by you")
    assert not (outside / "made").exists()
    terminal.submit("and now?")
    terminal.wait("Later.")


def test_mode_ask_shows_the_diff_of_an_edit(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], project: Path
) -> None:
    edit = [("edit", {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})]
    read = [("read", {"path": "calc.py"})]
    server = serve([tool_calls(read), tool_calls(edit), text("Mended.")])
    terminal = start(server)
    terminal.submit("/mode ask")
    terminal.wait_shown("· ask ·")
    terminal.submit("mend it")
    terminal.wait_shown("1 once")
    assert "-    return a - b" in terminal.shown
    assert "+    return a + b" in terminal.shown
    answer(terminal, "1")
    terminal.wait("Mended.")
    assert "a + b" in (project / "calc.py").read_text()


def test_plan_mode_changes_nothing_and_ends_in_a_plan_to_approve(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], project: Path
) -> None:
    edit = [("edit", {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})]
    read = [("read", {"path": "calc.py"})]
    server = serve(
        [
            tool_calls(read),
            tool_calls(edit),
            text("The plan: swap the sign."),
            tool_calls(edit),
            text("Mended."),
        ]
    )
    terminal = start(server)
    terminal.press("shift-tab")
    terminal.wait_shown("· plan ·")
    terminal.submit("mend it")
    terminal.wait("The plan: swap the sign.")
    terminal.wait_shown("the plan is ready")
    assert "a - b" in (project / "calc.py").read_text()
    assert any("plan" in one for one in told(server))
    terminal.until(lambda: carried_out(terminal), "it is not carried out")
    terminal.wait("Mended.")
    assert "a + b" in (project / "calc.py").read_text()
    assert "· auto ·" in terminal.shown


def carried_out(terminal: Tty) -> bool:
    """Approve the plan, as soon as a digit counts."""
    if "the plan is ready" in terminal.shown:
        terminal.press("1")
        terminal.nap()
    return "the plan is ready" not in terminal.shown

"""/export, /diff and /init."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import git
from tests.support.program import Kimi
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

Start = Callable[..., Tty]
Serve = Callable[..., ScriptedServer]
WRITE = tool_calls([("write", {"path": "new.txt", "content": "mine\n"})])
LONG = "".join(f"line {number}\n" for number in range(200))


def test_the_session_as_a_document(start: Start, kimi: Kimi, project: Path) -> None:
    terminal = start([text("the key is sk-abcdefghijklmnopqrstuvwxyz0123456789abcdef")])
    terminal.submit("hello there")
    terminal.wait("1 step")
    name = kimi.sessions()[0].name
    terminal.submit("/export")
    terminal.wait(f"written: kimi-{name}.md")
    file = project / f"kimi-{name}.md"
    assert "hello there" in file.read_text()
    assert "sk-abcdef" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    terminal.submit("/export")
    terminal.wait(f"written: kimi-{name}-2.md")
    terminal.submit("/export out.json")
    terminal.wait("written: out.json")
    assert json.loads((project / "out.json").read_text())
    terminal.submit("/export out.html")
    terminal.wait("written: out.html")
    assert "hello there" in (project / "out.html").read_text()
    terminal.submit("/export out.pdf")
    terminal.wait("does not say what it is to be")
    assert not (project / "out.pdf").exists()


def test_a_file_that_is_there_is_replaced_only_if_asked(start: Start, project: Path) -> None:
    (project / "notes.md").write_text("mine\n")
    terminal = start([text("one")])
    terminal.submit("hello there")
    terminal.wait("1 step")
    terminal.submit("/export notes.md")
    terminal.answer("notes.md exists: replace it?", "1")
    terminal.wait("nothing was written")
    assert (project / "notes.md").read_text() == "mine\n"
    terminal.submit("/export notes.md")
    terminal.answer("notes.md exists: replace it?", "2")
    terminal.wait("written: ")
    assert "hello there" in (project / "notes.md").read_text()


def test_what_the_session_changed(start: Start, project: Path) -> None:
    (project / "calc.py").write_text("def add(a, b):\n    return b - a\n")
    edit = tool_calls(
        [("edit", {"path": "calc.py", "edits": [{"old": "b - a", "new": "a + b"}]})],
    )
    terminal = start([tool_calls([("read", {"path": "calc.py"})]), WRITE, edit, text("done")])
    terminal.submit("/diff")
    terminal.wait("this session has changed no file")
    terminal.submit("mend it")
    terminal.wait("4 steps")
    terminal.submit("/diff")
    terminal.wait("2 files +2 −1 since this session's first change")
    shown = terminal.text.partition("since this session's")[2]
    assert "calc.py  +1 −1" in shown
    assert "2 -     return b - a" in shown
    assert "2 +     return a + b" in shown
    assert "new.txt  +1 −0" in shown


def test_what_differs_from_git(start: Start, project: Path) -> None:
    (project / "calc.py").write_text("def add(a, b):\n    return a + b\n")
    (project / "my notes.txt").write_text(LONG)
    git(project, "config", "diff.external", "false")
    terminal = start(rows=60)
    terminal.submit("/diff head")
    terminal.wait("2 files +201 −1 since git's HEAD")
    assert "calc.py  +1 −1" in terminal.text
    assert "my notes.txt  +200 −0" in terminal.text
    terminal.wait("180 more lines · ctrl-o shows all")
    assert "line 199" not in terminal.text
    terminal.press("ctrl-o")
    terminal.wait("line 199")


def test_without_a_difference(start: Start, project: Path) -> None:
    terminal = start()
    terminal.submit("/diff head")
    terminal.wait("nothing differs from git's HEAD")
    terminal.submit("/diff something")
    terminal.wait("/diff head with git")


def test_the_instructions_are_asked_for(start: Start, serve: Serve, project: Path) -> None:
    server = serve([text("written"), text("checked")])
    terminal = start(server)
    terminal.submit("/init in French")
    terminal.wait("1 step")
    asked = server.requests[0].messages[-1]["content"]
    assert "Write an AGENTS.md" in str(asked)
    assert "in French" in str(asked)
    (project / "AGENTS.md").write_text("Use tabs.\n")
    terminal.submit("/init")
    terminal.until(lambda: terminal.text.count("1 step") == 2, "no second turn")
    assert "Bring it up to date" in str(server.requests[1].messages[-1]["content"])

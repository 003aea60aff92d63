"""/clear, /resume, /sessions, /fork and /rename."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.support.program import Kimi
from tests.support.replies import text
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

Start = Callable[..., Tty]
Serve = Callable[..., ScriptedServer]


def names(kimi: Kimi) -> list[str]:
    return [path.name for path in kimi.sessions()]


def sent(server: ScriptedServer, number: int) -> str:
    return server.requests[number].raw.decode()


def test_a_new_session_knows_nothing_of_the_former(start: Start, serve: Serve, kimi: Kimi) -> None:
    server = serve([text("one"), text("two")])
    terminal = start(server)
    terminal.submit("the word is heron")
    terminal.wait("1 step")
    former = names(kimi)[0]
    terminal.submit("/clear")
    terminal.wait(f"a new session; the former one is kept: /resume {former}")
    terminal.submit("which word?")
    terminal.until(lambda: terminal.text.count("1 step") == 2, "no second turn")
    assert "heron" not in sent(server, 1)


def test_an_unused_session_is_not_spoken_of(start: Start) -> None:
    terminal = start()
    terminal.submit("/clear")
    terminal.wait("  a new session\n")


def test_a_model_chosen_here_outlives_the_session(start: Start, serve: Serve) -> None:
    server = serve([text("one")])
    terminal = start(server)
    terminal.submit("/model kimi-k3")
    terminal.wait_gone("› /model")
    terminal.submit("/clear")
    terminal.wait("a new session")
    terminal.submit("hello")
    terminal.wait("1 step")
    assert '"model":"kimi-k3"' in sent(server, 0).replace(" ", "")


def test_going_on_with_another_session(start: Start, serve: Serve, kimi: Kimi) -> None:
    server = serve([text("one"), text("two"), text("three")])
    terminal = start(server)
    terminal.submit("the word is heron")
    terminal.wait("1 step")
    first = names(kimi)[0]
    terminal.submit("/clear")
    terminal.wait("a new session")
    terminal.submit("the word is crane")
    terminal.until(lambda: terminal.text.count("1 step") == 2, "no second turn")
    terminal.submit("/resume")
    terminal.wait_shown("go on with")
    assert "the word is heron" in terminal.shown
    assert "the word is crane  just" not in terminal.shown
    terminal.type("heron")
    terminal.press("enter")
    terminal.wait_gone("go on with")
    terminal.submit("which word?")
    terminal.wait("three")
    assert "heron" in sent(server, 2)
    assert "crane" not in sent(server, 2)
    terminal.submit(f"/resume {first}")
    terminal.wait(f"this is session {first}")
    terminal.submit("/resume zzzz")
    terminal.wait("no session 'zzzz'")


def test_without_another_session(start: Start) -> None:
    terminal = start()
    terminal.submit("/resume")
    terminal.wait("there is no other session of this project")
    terminal.submit("/sessions")
    terminal.wait("there is no stored session of this project")


def test_the_list_shows_the_title(start: Start, kimi: Kimi) -> None:
    terminal = start([text("one")])
    terminal.submit("hello there")
    terminal.wait("1 step")
    terminal.submit("/rename")
    terminal.wait("/rename TITLE")
    terminal.submit("/rename Birds of passage")
    terminal.wait("this session is called 'Birds of passage'")
    terminal.submit("/sessions")
    terminal.wait("/resume goes on with one")
    row = next(line for line in terminal.lines if re.match(rf"  {names(kimi)[0]} ", line))
    assert "Birds of passage" in row


def test_a_copy_of_the_first_turns(start: Start, serve: Serve, kimi: Kimi) -> None:
    server = serve([text("one"), text("two"), text("three")])
    terminal = start(server)
    terminal.submit("the word is heron")
    terminal.wait("1 step")
    terminal.submit("the word is crane")
    terminal.until(lambda: terminal.text.count("1 step") == 2, "no second turn")
    source = names(kimi)[0]
    terminal.submit("/fork 7")
    terminal.wait("turn 7")
    terminal.submit("/fork 1")
    terminal.wait(f"a copy of {source} up to turn 1")
    terminal.submit("which word?")
    terminal.wait("three")
    assert "heron" in sent(server, 2)
    assert "crane" not in sent(server, 2)
    assert len(names(kimi)) == 2

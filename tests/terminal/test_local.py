"""Local servers in the terminal: chosen in the middle of a session, left again, gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from kimi_cli.serve.running import Checked, Trouble
from tests.support.local_servers import KEY, LocalServer
from tests.support.program import Kimi
from tests.support.replies import text
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

Start = Callable[..., Tty]
Serve = Callable[..., ScriptedServer]
Make = Callable[..., LocalServer]


@pytest.fixture
def local(kimi: Kimi) -> Iterator[Make]:
    """Puts servers into KIMI_HOME: `local(server, name)`."""
    with ExitStack() as stack:

        def make(server: ScriptedServer, name: str = "tiny", **more: object) -> LocalServer:
            made = LocalServer(kimi.home, server.port, name, **more)  # type: ignore[arg-type]
            return stack.enter_context(made)

        yield make


def scripted(serve: Serve, *replies: object, model: str = "tiny") -> ScriptedServer:
    """A server as vLLM would be, with the key of the local one."""
    return serve(list(replies), flavour="vllm", api_key=KEY, models=[model])


def chosen(terminal: Tty, typed: str, row: str) -> None:
    """Choose a model in the menu."""
    terminal.submit("/model")
    terminal.wait_shown("model, now ")
    terminal.type(typed)
    terminal.until(lambda: any(row in line and "›" in line for line in terminal.lines), row)
    terminal.press("enter")


def test_a_session_goes_to_a_local_server_and_back(
    start: Start, serve: Serve, local: Make, kimi: Kimi
) -> None:
    hosted = serve([text("from afar"), text("afar again")])
    server = scripted(serve, text("from here"))
    local(server)
    terminal = start(hosted)
    terminal.submit("one")
    terminal.wait("from afar")
    terminal.wait("1 step")
    terminal.submit("/model")
    terminal.wait_shown("local: tiny")
    terminal.wait_shown(f"http://127.0.0.1:{server.port} · 40k")
    terminal.press("esc")
    terminal.wait_gone("model, now")
    chosen(terminal, "local", "local: tiny")
    terminal.wait("model tiny")
    terminal.submit("two")
    terminal.wait("from here")
    # What was said goes along; keys do not.
    (request,) = server.requests
    assert "from afar" in str(request.messages) and request.body["model"] == "tiny"
    assert "sk-test-key" not in str(request.headers)
    terminal.submit("/model local:tiny")
    terminal.wait("the model is that of tiny already")
    terminal.submit("/config endpoint.base_url")
    terminal.wait(f"http://127.0.0.1:{server.port}/v1")
    chosen(terminal, "kimi-k3", "kimi-k3")
    terminal.wait("model kimi-k3")
    terminal.submit("three")
    terminal.wait("afar again")
    assert "from here" in str(hosted.requests[1].messages)
    assert hosted.requests[1].body["model"] == "kimi-k3"
    assert KEY not in str(hosted.requests[1].headers) + terminal.text
    changed = [event for event in kimi.stored() if event["type"] == "model_changed"]
    assert [one["model"] for one in changed] == ["tiny", "kimi-k3"]
    assert changed[0]["dialect"] == "vllm"
    assert [one["window"] for one in changed] == [40_960, 1_048_576]
    assert (kimi.home / "config.toml").read_text().find("127.0.0.1") == -1


def test_begun_there_and_a_new_session_stays(start: Start, serve: Serve, local: Make) -> None:
    hosted = serve([text("afar")])
    server = scripted(serve, text("first"), text("second"))
    checks = (Checked("tool call", False, "raw markers"),)
    local(server, stage="limited", checks=checks)
    terminal = start(hosted, "--local", "say one thing")
    terminal.wait("tiny is limited: tool call: raw markers")
    terminal.wait("first")
    terminal.wait("1 step")
    terminal.submit("/clear")
    terminal.wait("a new session")
    terminal.submit("again")
    terminal.wait("second")
    assert "first" not in str(server.requests[1].messages)
    chosen(terminal, "k2.5", "kimi-k2.5")
    terminal.wait("model kimi-k2.5")
    terminal.submit("and there")
    terminal.wait("afar")
    assert "second" in str(hosted.requests[0].messages)


def test_of_several_the_newest_is_taken_and_named(start: Start, serve: Serve, local: Make) -> None:
    old, new = scripted(serve), scripted(serve, text("it is me"), model="other")
    local(old, started=1.0)
    local(new, "other", started=2.0)
    terminal = start(serve(), "--local")
    terminal.wait("of several local servers this is other")
    terminal.submit("hello")
    terminal.wait("it is me")
    assert len(new.requests) == 1 and not old.requests


def test_one_that_has_ended_is_told_and_another_taken(
    start: Start, serve: Serve, local: Make
) -> None:
    hosted = serve([text("still here")])
    server = scripted(serve, text("first"))
    made = local(server)
    terminal = start(hosted, "--local")
    terminal.submit("one")
    terminal.wait("first")
    terminal.wait("1 step")
    made.put("failed", trouble=Trouble("oom", "the GPU's memory is full", "use less"))
    made.die()
    server.close()
    terminal.submit("two")
    terminal.wait("the local server tiny has ended")
    terminal.wait("kimi serve restart tiny")
    chosen(terminal, "k2.5", "kimi-k2.5")
    terminal.wait("model kimi-k2.5")
    terminal.submit("three")
    terminal.wait("still here")


def test_the_first_run_knows_its_key(kimi: Kimi, serve: Serve, local: Make) -> None:
    server = scripted(serve, text("hello"), text("at work"))
    local(server)
    with Tty(kimi, "login", env={"KIMI_API_KEY": "", "TERM": "xterm-256color"}) as terminal:
        terminal.wait_shown(f"this machine, vLLM on port {server.port}")
        terminal.press("up", "enter")
        terminal.wait("it works")
        assert terminal.end() == 0
        assert KEY not in terminal.text
    assert KEY not in (kimi.home / "config.toml").read_text()
    run = kimi("-p", "hi", env={"KIMI_API_KEY": None})
    assert (run.code, run.out) == (0, "at work\n"), run.err

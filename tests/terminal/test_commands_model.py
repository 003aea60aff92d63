"""/model and /thinking."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.replies import http_error, text
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

Start = Callable[..., Tty]
Serve = Callable[..., ScriptedServer]


def test_a_model_is_chosen_from_those_of_the_endpoint(start: Start, serve: Serve) -> None:
    server = serve([text("here")])
    terminal = start(server)
    terminal.submit("/model")
    terminal.wait_shown("model, now kimi-k2.5")
    assert "256k" in terminal.shown
    terminal.type("k2.6")
    terminal.wait_gone("kimi-k1.5-preview")
    terminal.press("enter")
    terminal.wait("model kimi-k2.6")
    terminal.submit("hello")
    terminal.wait("1 step")
    assert server.requests[0].body["model"] == "kimi-k2.6"


def test_a_model_by_its_name_and_one_that_is_not_there(start: Start, serve: Serve) -> None:
    server = serve([text("here")])
    terminal = start(server)
    terminal.submit("/model kimi-k9")
    terminal.wait("has no model 'kimi-k9'")
    terminal.submit("/model kimi-k2.5")
    terminal.wait("the model is kimi-k2.5 already")
    terminal.submit("/model kimi-k3")
    terminal.submit("hello")
    terminal.wait("1 step")
    assert [one.body["model"] for one in server.requests] == ["kimi-k3"]
    terminal.wait_shown("kimi-k3 ·")


def test_without_a_list_there_is_the_catalogue(start: Start, serve: Serve) -> None:
    server = serve()
    server.overrides["GET /v1/models"] = http_error(404, message="no list here")
    terminal = start(server)
    terminal.submit("/model")
    terminal.wait("the endpoint lists no models")
    terminal.wait_shown("kimi-k2-thinking")
    terminal.press("esc")
    terminal.wait_gone("arrows")


def test_thinking_is_switched_off(start: Start, serve: Serve) -> None:
    server = serve([text("quick")])
    terminal = start(server)
    terminal.submit("/thinking off")
    terminal.wait("· thinking off")
    terminal.submit("/thinking off")
    terminal.wait("thinking is off already")
    terminal.submit("hello")
    terminal.wait("1 step")
    sent = server.requests[0].body
    assert sent["thinking"] == {"type": "disabled"}


def test_the_ways_to_think_are_a_menu(start: Start) -> None:
    terminal = start()
    terminal.submit("/thinking")
    terminal.wait_shown("thinking of kimi-k2.5, now on")
    terminal.type("off")
    terminal.press("enter")
    terminal.wait("thinking off")
    terminal.submit("/thinking sideways")
    terminal.wait("sideways")
    terminal.wait_shown("no thinking")

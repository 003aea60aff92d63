"""/policy and /config."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.program import Kimi
from tests.support.tty import Tty

Start = Callable[..., Tty]


def test_rules_are_shown_added_and_removed(start: Start, kimi: Kimi) -> None:
    kimi.configure({"policy": {"deny": ["shell(git push)"]}})
    terminal = start(columns=120)
    terminal.submit("/policy")
    terminal.wait("deny   shell(git push)  # user")
    terminal.submit("/policy allow shell(npm run *) +network")
    terminal.wait("allow: shell(npm run *) +network, in ")
    terminal.submit("/policy list")
    terminal.wait("allow  shell(npm run *) +network  # kept for")
    assert "npm run" in kimi("policy", "list").out
    terminal.submit("/policy remove shell(npm run *) +network")
    terminal.wait("removed: allow shell(npm run *) +network")
    assert "npm run" not in kimi("policy", "list").out
    terminal.submit("/policy remove shell(git push)")
    terminal.wait("no such rule was added for this project")
    terminal.submit("/policy allow")
    terminal.wait("/policy [explain COMMAND")
    terminal.submit("/policy deny shell(")
    terminal.wait_gone("› /policy")
    assert "shell(\n" not in kimi("policy", "list").out


def test_a_command_is_explained(start: Start, kimi: Kimi) -> None:
    kimi.configure({"policy": {"deny": ["shell(git push)"]}})
    terminal = start(columns=120)
    terminal.submit("/policy explain git push && ls")
    terminal.wait("deny")
    assert "shell(git push)" in terminal.text.partition("explain")[2]


def test_settings_are_shown_with_their_source(start: Start, kimi: Kimi) -> None:
    kimi.configure({"budget": {"max_steps": 77}})
    terminal = start(columns=120)
    terminal.submit("/config")
    terminal.wait("budget.max_steps = 77  # user")
    terminal.wait("have their defaults: /config all shows them")
    assert "sk-test-key" not in terminal.text
    assert "undo.enabled" not in terminal.text
    terminal.submit("/config undo")
    terminal.wait("undo.enabled = true  # default")
    terminal.submit("/config nonsense")
    terminal.wait("there is no setting 'nonsense'")


def test_a_setting_is_set(start: Start, kimi: Kimi) -> None:
    terminal = start(columns=120)
    terminal.submit("/config budget.max_steps 55")
    terminal.wait("budget.max_steps is set in ")
    terminal.wait("it holds from the next session on")
    assert "budget.max_steps = 55" in kimi("config", "show").out
    terminal.submit("/config budget.max_steps many")
    terminal.wait("must be a whole number")
    terminal.submit("/config endpoint.base_url http://127.0.0.1:9/v1")
    terminal.wait("has another value, and wins")
    terminal.submit("/config model kimi-k3")
    terminal.wait("/model changes this one")
    terminal.submit("/config endpoint.api_key sk-abcdefghijklmnop")
    terminal.wait("kimi login takes one")
    assert "sk-abcdefghijklmnop" not in (kimi.home / "config.toml").read_text()


def test_a_new_session_has_what_was_set(start: Start, kimi: Kimi) -> None:
    terminal = start(columns=120)
    terminal.submit("/config model kimi-k3")
    terminal.wait("/model changes this one")
    terminal.submit("/clear")
    terminal.wait("a new session")
    terminal.wait_shown("  kimi-k3 ·")

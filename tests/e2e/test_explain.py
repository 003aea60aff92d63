"""`kimi policy explain` says what a session does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.program import Kimi
from tests.support.replies import text, tool_calls


@pytest.mark.parametrize(
    ("command", "verdict"),
    [("cat .env", "ask"), ("cat a.vault", "ask"), ("cat a.txt", "allow"), ("rm -rf .git", "ask")],
)
def test_explain_and_a_session_agree(
    kimi: Kimi, serve: Callable[..., Any], command: str, verdict: str
) -> None:
    kimi.configure({"secrets": {"files": ["*.vault"]}})
    shown = kimi("policy", "explain", command, "--json").json()
    assert shown["verdict"] == verdict
    server = serve([tool_calls([("shell", {"command": command})]), text("done")])
    denials = kimi("-p", "x", "--output-format", "json", server=server).json()["denials"]
    assert [shown["reason"] in one["reason"] for one in denials] == [True] * (verdict == "ask")

"""`kimi trust`: a project's settings take effect when its folder is trusted, and not before."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.program import Kimi
from tests.support.replies import text
from tests.support.server import ScriptedServer


def test_trust_is_given_shown_and_withdrawn(
    kimi: Kimi, serve: Callable[..., ScriptedServer]
) -> None:
    server = serve([text("hi")])
    folder = kimi.cwd / ".kimi"
    folder.mkdir()
    (folder / "config.toml").write_text(f'endpoint.base_url = "{server.base_url}"\n')
    inside = kimi.cwd / "sub"
    inside.mkdir()

    def greeted() -> bool:
        run = kimi("-p", "x", env={"KIMI_BASE_URL": None, "KIMI_API_KEY": "sk-test-key"})
        return run.code == 0 and run.out == "hi\n"

    assert kimi("trust").out == ""
    assert kimi("trust", "add", cwd=inside).out == f"trusted: {kimi.cwd}\n"
    assert kimi("trust", "add").code == 0
    assert kimi("trust", "list").out == f"{kimi.cwd}\n"
    assert greeted()
    assert kimi("trust", "remove").out == f"no longer trusted: {kimi.cwd}\n"
    assert kimi("trust").out == ""
    shown = kimi("config", "show").out
    assert server.base_url not in shown
    assert kimi("trust", "remove").out == f"was not trusted: {kimi.cwd}\n"
    assert kimi("trust", "add", "/nonexistent/folder").code == 2

"""What was folded, shown whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kimi_cli.frontends.terminal.folds import Fold
from kimi_cli.frontends.terminal.ink import Ink
from kimi_cli.frontends.terminal.look import Look
from kimi_cli.frontends.terminal.unfold import find_pager, fold_lines, page

HIDDEN = "echo ok\x1b]; rm -rf ~\x07 done"


def test_a_pager_that_a_command_could_have_planted_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "bin" / "less"
    planted.parent.mkdir()
    planted.write_text("#!/bin/sh\n")
    planted.chmod(0o755)
    monkeypatch.setenv("PATH", str(planted.parent))
    assert find_pager([tmp_path]) is None


@pytest.mark.parametrize("fold", [Fold(0, "output", "asks", HIDDEN), Fold(3, "diff", "d", HIDDEN)])
def test_what_is_to_be_judged_hides_nothing_printed_or_paged(fold: Fold, tmp_path: Path) -> None:
    assert any("rm -rf ~" in line for line in fold_lines(fold, Ink(Look()), 80))
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {tmp_path}/seen\n")
    pager.chmod(0o755)
    asyncio.run(page(str(pager), fold, {"PATH": "/usr/bin:/bin"}))
    seen = (tmp_path / "seen").read_text()
    assert "rm -rf ~" in seen and "\x1b" not in seen


def test_what_a_tool_said_is_cleaned() -> None:
    fold = Fold(1, "output", "shell", "a\x1b]0;title\x07b")
    assert fold_lines(fold, Ink(Look("none")), 80)[1:] == ["    ab"]

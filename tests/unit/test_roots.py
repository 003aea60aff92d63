"""Which folder is the project."""

from pathlib import Path

import pytest

from kimi_cli.workspace.roots import project_root


def test_the_top_of_the_work_tree(tmp_path: Path) -> None:
    (tmp_path / "repo/a/b").mkdir(parents=True)
    (tmp_path / "repo/.git").mkdir()
    assert project_root(tmp_path / "repo/a/b") == tmp_path / "repo"
    assert project_root(tmp_path) == tmp_path


def test_a_versioned_home_is_not_the_project_of_what_lies_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".git").mkdir()
    (tmp_path / "notes").mkdir()
    assert project_root(tmp_path / "notes") == tmp_path / "notes"
    assert project_root(tmp_path) == tmp_path

"""Where git keeps what makes it run programs, in repositories that git itself made."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.workspace.git_config import read_config
from kimi_cli.workspace.git_layout import find_layout, is_git_dir, nested_repositories


def git(folder: Path, *words: str) -> str:
    env = os.environ | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    words = ("-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", *words)
    done = subprocess.run(
        ["git", *words], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "a").write_text("a")
    git(folder, "add", "a")
    git(folder, "commit", "-qm", "a")
    return folder.resolve()


def test_an_ordinary_repository(tmp_path: Path) -> None:
    top = repository(tmp_path / "r")
    layout = find_layout(top)
    assert layout is not None
    assert layout.git_dir == layout.common_dir == top / ".git"
    assert layout.pointer is None
    names = {"config", "hooks", "commondir", "config.worktree"}
    assert {top / ".git" / name for name in names} <= set(layout.guarded)


def test_no_repository(tmp_path: Path) -> None:
    assert find_layout(tmp_path) is None
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    assert find_layout(tmp_path) is None
    (tmp_path / ".git").write_bytes(b"\xff\x00")
    assert find_layout(tmp_path) is None


def test_a_linked_worktree(tmp_path: Path) -> None:
    top = repository(tmp_path / "r")
    git(top, "worktree", "add", "-q", str(tmp_path / "w"))
    tree = (tmp_path / "w").resolve()
    layout = find_layout(tree)
    assert layout is not None
    assert layout.pointer == tree / ".git"
    assert layout.git_dir == top / ".git/worktrees/w"
    assert layout.common_dir == top / ".git"
    # What git itself says.
    said = git(tree, "rev-parse", "--absolute-git-dir").strip()
    assert Path(said) == layout.git_dir
    assert layout.git_dir / "commondir" in layout.guarded
    assert top / ".git/config" in layout.guarded
    # Of the other side, where it would lead to another configuration.
    main = find_layout(top)
    assert main is not None
    assert top / ".git/worktrees/w/commondir" in main.pointers
    assert top / ".git/worktrees/w/commondir" not in layout.pointers


def test_submodules_of_submodules_with_names_of_several_parts(tmp_path: Path) -> None:
    inner = repository(tmp_path / "inner")
    outer = repository(tmp_path / "outer")
    git(outer, "submodule", "--quiet", "add", str(inner), "deep/inner")
    git(outer, "commit", "-qm", "s")
    top = repository(tmp_path / "r")
    git(top, "submodule", "--quiet", "add", str(outer), "libs/outer")
    git(top, "submodule", "--quiet", "update", "--init", "--recursive")
    layout = find_layout(top)
    assert layout is not None
    modules = top / ".git/modules"
    for module in (modules / "libs/outer", modules / "libs/outer/modules/deep/inner"):
        assert is_git_dir(module)
        assert {module / "hooks", module / "config"} <= set(layout.guarded)
    assert set(layout.pointers) >= {
        top / "libs/outer/.git",
        top / "libs/outer/deep/inner/.git",
    }
    sub = find_layout(top / "libs/outer")
    assert sub is not None
    assert sub.common_dir == modules / "libs/outer"


def test_very_many_submodules_are_taken_as_one(tmp_path: Path) -> None:
    top = repository(tmp_path / "r")
    for number in range(150):
        module = top / f".git/modules/m{number}"
        module.mkdir(parents=True)
        (module / "HEAD").write_text("ref: refs/heads/main\n")
    layout = find_layout(top)
    assert layout is not None
    assert top / ".git/modules" in layout.guarded
    assert len(layout.guarded) < 50


@pytest.mark.parametrize("how", ["local", "included", "user"])
def test_a_folder_of_hooks_in_the_work_tree(tmp_path: Path, how: str) -> None:
    top = repository(tmp_path / "r")
    user = tmp_path / "gitconfig"
    user.write_text("")
    if how == "local":
        git(top, "config", "core.hooksPath", ".husky/_")
    elif how == "included":
        (top / "team.conf").write_text("[Core]\n\thookspath = .husky/_\n")
        git(top, "config", "include.path", "../team.conf")
    else:
        user.write_text("[core] hooksPath = .husky/_ ; everywhere\n")
    layout = find_layout(top, [user])
    assert layout is not None
    assert top / ".husky/_" in layout.guarded
    assert (top / "team.conf" in layout.guarded) == (how == "included")
    assert user not in layout.guarded


def test_hooks_in_the_top_itself_do_not_protect_the_whole_work_tree(tmp_path: Path) -> None:
    top = repository(tmp_path / "r")
    git(top, "config", "core.hooksPath", ".")
    layout = find_layout(top)
    assert layout is not None
    assert top not in layout.guarded


def test_a_bare_repository_and_a_separate_git_folder(tmp_path: Path) -> None:
    bare = tmp_path / "b.git"
    bare.mkdir()
    git(bare, "init", "-q", "--bare")
    layout = find_layout(bare.resolve())
    assert layout is not None
    assert layout.common_dir == bare.resolve()
    git(tmp_path, "init", "-q", "--separate-git-dir", str(tmp_path / "kept"), "work")
    layout = find_layout((tmp_path / "work").resolve())
    assert layout is not None
    assert layout.common_dir == (tmp_path / "kept").resolve()


def test_a_git_folder_that_is_a_symlink(tmp_path: Path) -> None:
    top = repository(tmp_path / "r")
    (top / ".git").rename(tmp_path / "moved")
    (top / ".git").symlink_to(tmp_path / "moved")
    layout = find_layout(top)
    assert layout is not None
    assert layout.pointer == top / ".git"
    assert layout.common_dir == (tmp_path / "moved").resolve()


def test_nested_repositories_are_found_within_limits(tmp_path: Path) -> None:
    repository(tmp_path / "a")
    repository(tmp_path / "b/c")
    repository(tmp_path / "b/c/d/e")
    repository(tmp_path / "node_modules/x")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert set(nested_repositories(tmp_path)) == {tmp_path / "a", tmp_path / "b/c"}
    for number in range(30):
        (tmp_path / f"many{number}").mkdir()
    assert nested_repositories(tmp_path, most=1) == [tmp_path / "a"]


_VALUES = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], whitelist_characters="\t"), max_size=20
)


@given(values=st.lists(_VALUES, min_size=1, max_size=3), sub=st.text("a\\\"'.] #", max_size=6))
def test_configuration_is_read_as_git_reads_it(
    tmp_path_factory: pytest.TempPathFactory, values: list[str], sub: str
) -> None:
    folder = tmp_path_factory.mktemp("config")
    file = folder / "config"
    quoted = sub.replace("\\", "\\\\").replace('"', '\\"')
    lines = [f'[Sec "{quoted}"]']
    for number, value in enumerate(values):
        text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
        lines.append(f'  Key{number} = "{text}" tail ; comment')
        # Without quotes git has read a tab as a space, and later as itself.
        bare = value.translate(dict.fromkeys(map(ord, '\\"\t')))
        lines.append(f"  bare{number}=  {bare}  # x")
    file.write_text("\n".join([*lines, "[other] on", "x = a\\", 'b "c  ;d" e  ', ""]))
    said = git(folder, "config", "-f", str(file), "-l", "-z").split("\0")[:-1]
    theirs = [tuple(row.partition("\n")[::2]) for row in said]
    theirs = [(k, "true" if k == "other.on" else v) for k, v in theirs]
    assert list(read_config(file).values) == theirs


def test_settings_that_run_programs_are_told_from_others(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text(
        "[core]\n\tfsmonitor = ./x\n\tbare = false\n[user]\n\tname = a\n"
        '[filter "lfs"]\n\tclean = git-lfs clean\n[remote "o"]\n\turl = x\n[alias]\n\tst = !rm\n'
    )
    assert read_config(file).programs() == ["core.fsmonitor", "filter.lfs.clean", "alias.st"]

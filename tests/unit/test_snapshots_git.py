"""Snapshots of git repositories: the user's git is untouched, and nothing of it is run."""

from __future__ import annotations

import os
import stat
from hashlib import sha1
from pathlib import Path

import pytest

from kimi_cli.workspace.snapshots import HeadMoved, Snapshots
from tests.support.trees import git, git_state, repository, state, write


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return repository(tmp_path / "work")


def covered(home: Path, root: Path) -> set[str]:
    """The files in a snapshot of the present state, as git shows that."""
    taken = Snapshots(home, [root]).take()
    found = (home / "snapshots").glob("*/folder")
    place = next(note.parent for note in found if note.read_bytes() == os.fsencode(root))
    listed = git(
        place / "git", "--git-dir=.", "ls-tree", "-rz", "--name-only", f"refs/snapshots/{taken.id}"
    )
    return {name.partition("/")[2] for name in listed.split("\0")[:-1]}


def spoil(root: Path) -> None:
    for path in root.rglob("*"):
        if ".git" not in path.relative_to(root).parts and path.is_file():
            path.write_bytes(b"spoilt")


def test_the_users_git_is_not_touched(home: Path, root: Path) -> None:
    write(root / ".git" / "hooks" / "post-checkout", "#!/bin/sh\n", 0o755)
    before, status = state(root), git(root, "status", "--porcelain")
    was = git_state(root / ".git")
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    spoil(root)
    write(root / "new", "")
    after = state(root)
    done = snapshots.restore(taken.id)
    assert state(root) == before
    snapshots.restore(done.before)
    assert state(root) == after
    snapshots.restore(taken.id)
    snapshots.expire(0, 1)
    assert git_state(root / ".git") == was
    assert git(root, "status", "--porcelain") == status


def test_a_tracked_file_is_covered_also_when_ignored(home: Path, root: Path) -> None:
    write(root / "tracked.ign", "1")
    git(root, "add", "-f", "tracked.ign")
    write(root / "other.ign", "1")
    (root / ".git" / "info").mkdir(exist_ok=True)
    write(root / ".git" / "info" / "exclude", "local\n!kept.ign\n")
    write(root / "local", "1")
    names = covered(home, root)
    assert "tracked.ign" in names and not names & {"other.ign", "local"}
    assert all(name.split("/")[0] != ".git" for name in names)


def test_the_users_own_excludes_count(
    home: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / "mine.swp", "")
    write(root / "mine.bak", "")
    user = tmp_path / "user"
    write(user / "git" / "ignore", "*.swp\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(user))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(user / "config"))
    names = covered(home, root)
    assert "mine.bak" in names and "mine.swp" not in names
    write(user / "config", f"[core]\n\texcludesFile = {write(tmp_path / 'ex', '*.bak')}\n")
    names = covered(home, root)
    assert "mine.bak" not in names and "mine.swp" in names


def test_the_environment_of_a_hook_leads_nowhere(
    home: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = repository(tmp_path / "other")
    was = git_state(other / ".git")
    expected = covered(home, root)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / ".git" / "objects"))
    monkeypatch.setenv("GIT_COMMON_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.bare")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    monkeypatch.setenv("GIT_GLOB_PATHSPECS", "1")
    assert covered(tmp_path / "fresh", root) == expected
    assert git_state(other / ".git") == was


def test_repositories_inside(home: Path, root: Path, tmp_path: Path) -> None:
    library = repository(tmp_path / "library")
    git(root, "-c", "protocol.file.allow=always", "submodule", "-q", "add", str(library), "sub")
    repository(root / "vendor" / "nested")
    repository(root / "vendor" / "nested" / "inner")
    repository(root / "out" / "ignored")
    git(root, "worktree", "add", "-q", "tree")
    write(root / "sub" / "untracked\n\udcff", "x")
    write(root / "sub" / "x.ign", "x")
    before = state(root)
    gits = {
        path: git_state(path)
        for path in (root / ".git", root / "vendor/nested/.git", root / "vendor/nested/inner/.git")
    }
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    names = covered(home, root)
    assert {"sub/kept.py", "sub/untracked\n\udcff", "vendor/nested/untracked.py"} <= names
    assert {"vendor/nested/inner/staged.py", "tree/kept.py", ".gitmodules"} <= names
    assert "sub/x.ign" not in names and not any(name.startswith("out/") for name in names)
    spoil(root / "sub")
    spoil(root / "vendor")
    spoil(root / "tree")
    write(root / "vendor" / "nested" / "new", "")
    (root / "sub" / "x.ign").write_bytes(b"x")
    done = snapshots.restore(taken.id)
    assert not done.failed and state(root) == before
    assert {path: git_state(path) for path in gits} == gits


def test_a_worktree_and_a_folder_below_the_top(home: Path, root: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    git(root, "worktree", "add", "-q", str(tree))
    write(tree / "x.ign", "")
    git(tree, "add", "-f", "x.ign")
    write(root / ".git" / "info" / "exclude", "local\n")
    write(tree / "local", "")
    write(tree / "new", "")
    names = covered(home, tree)
    assert names == {".gitignore", "kept.py", "src/deep/a.txt", "x.ign", "new"}
    write(root / "src" / "[x]" / "b.ign", "")
    write(root / "src" / "[x]" / "c", "")
    write(root / "src" / "x", "")
    folder = root / "src" / "[x]"
    assert covered(home, folder) == {"c"}


@pytest.mark.parametrize("kind", ["split", "sparse", "sha256", "garbage", "fifo", "folder"])
def test_an_index_that_cannot_be_read_costs_only_the_ignored(
    home: Path, tmp_path: Path, kind: str
) -> None:
    root = tmp_path / "odd"
    if kind == "sha256":
        root.mkdir()
        git(root, "init", "-q", "--object-format=sha256")
        write(root / "a", "1")
        git(root, "add", "-A")
    else:
        repository(root)
    index = root / ".git" / "index"
    if kind == "split":
        git(root, "update-index", "--split-index")
    elif kind == "sparse":
        git(root, "stash", "-q", "-u")
        git(root, "sparse-checkout", "set", "--cone", "--sparse-index", "nothing")
    elif kind != "sha256":
        index.unlink()
        if kind == "garbage":
            index.write_bytes(os.urandom(400))
        elif kind == "fifo":
            os.mkfifo(index)
        else:
            index.mkdir()
    was = {p: c for p, c in git_state(root / ".git").items() if p != b"index"}
    write(root / "mine", "1")
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    assert "mine" in covered(home, root)
    write(root / "mine", "2")
    snapshots.restore(taken.id)
    assert (root / "mine").read_text() == "1"
    assert {p: c for p, c in git_state(root / ".git").items() if p != b"index"} == was


def test_an_index_cannot_name_what_is_gits_own_or_outside(home: Path, root: Path) -> None:
    """A crafted index may hold any name; no git command writes one like that."""
    write(root / ".gix" / "config", "x")
    write(root / "..x" / "y", "x")
    git(root, "add", "-A")
    index = root / ".git" / "index"
    content = index.read_bytes().replace(b".gix/config", b".git/config")
    content = content.replace(b"..x/y\0", b"../xy\0")[:-20]
    index.write_bytes(content + sha1(content).digest())
    config = (root / ".git" / "config").read_bytes()
    write(root.parent / "xy", "outside")
    assert ".git/config" in git(root, "ls-files") and "../xy" in git(root, "ls-files")
    names = covered(home, root)
    assert {"kept.py", ".gix/config", "..x/y"} <= names
    assert not any(name.startswith((".git/", "../")) for name in names)
    assert (root / ".git" / "config").read_bytes() == config


def test_bytes_in_the_work_tree_are_what_counts(home: Path, root: Path) -> None:
    git(root, "config", "core.autocrlf", "true")
    git(root, "config", "core.fileMode", "false")
    git(root, "config", "filter.lfs.clean", "tr a-z A-Z")
    git(root, "config", "filter.lfs.smudge", "tr A-Z a-z")
    write(
        root / ".gitattributes",
        "* text=auto eol=lf\n*.bin filter=lfs -text\n"
        "*.u working-tree-encoding=UTF-16 text\n*.i ident\n",
    )
    write(root / "mixed.txt", b"a\r\nb\nc\r\n")
    write(root / "large.bin", b"MiXeD\r\n\0")
    write(root / "wide.u", "ä\n".encode("utf-16"))
    write(root / "i.i", "$Id$\n")
    write(root / "tool", "x", 0o755)
    before = state(root)
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    spoil(root)
    (root / "tool").chmod(0o644)
    snapshots.restore(taken.id)
    assert state(root) == before


def test_a_hostile_repository_runs_nothing(home: Path, root: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    evil = write(tmp_path / "evil", f"#!/bin/sh\necho $0 >> {mark}\n", 0o755)
    hooks = root / ".git" / "hooks"
    for hook in ("post-index-change", "pre-commit", "reference-transaction", "post-checkout"):
        write(hooks / hook, evil.read_bytes(), 0o755)
    settings = {
        "core.fsmonitor": str(evil),
        "core.fsmonitorHookVersion": "1",
        "core.hooksPath": str(hooks),
        "core.sshCommand": str(evil),
        "core.gitProxy": str(evil),
        "core.pager": str(evil),
        "core.editor": str(evil),
        "core.askPass": str(evil),
        "core.alternateRefsCommand": str(evil),
        "core.untrackedCache": "true",
        "core.worktree": "/",
        "core.excludesFile": "/dev/zero",
        "filter.x.clean": str(evil),
        "filter.x.smudge": str(evil),
        "filter.x.process": str(evil),
        "diff.x.textconv": str(evil),
        "diff.x.command": str(evil),
        "diff.external": str(evil),
        "merge.x.driver": str(evil),
        "credential.helper": f"!{evil}",
        "alias.ls-files": f"!{evil}",
        "gc.recentObjectsHook": str(evil),
        "uploadpack.packObjectsHook": str(evil),
        "remote.o.url": f"ext::{evil}",
        "remote.o.promisor": "true",
        "remote.o.uploadpack": str(evil),
        "extensions.partialClone": "o",
        "protocol.allow": "always",
    }
    for key, value in settings.items():
        git(root, "config", "-f", str(root / ".git" / "config"), key, value)
    write(root / ".gitattributes", "* filter=x diff=x merge=x\n")
    before, was = state(root), git_state(root / ".git")
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    assert taken.covered == len(before) and not taken.left_out
    spoil(root)
    write(root / ".gitignore", "x")
    changes = snapshots.plan(taken.id).changes
    assert snapshots.diffs(changes)
    snapshots.restore(taken.id)
    snapshots.expire(0, 1)
    assert state(root) == before and git_state(root / ".git") == was
    assert not mark.exists(), mark.read_text()


def test_the_trap_of_that_test_works(root: Path, tmp_path: Path) -> None:
    """Git itself, in such a repository, does run what its configuration names."""
    mark = tmp_path / "ran"
    evil = write(tmp_path / "evil", f"#!/bin/sh\necho $0 >> {mark}\n", 0o755)
    git(root, "config", "core.fsmonitor", str(evil))
    git(root, "status")
    assert mark.exists()


def test_a_commit_made_since_is_said(home: Path, root: Path) -> None:
    snapshots = Snapshots(home, [root])
    first = git(root, "rev-parse", "HEAD").strip()
    taken = snapshots.take()
    assert snapshots.plan(taken.id).heads == ()
    git(root, "commit", "-qam", "two")
    second = git(root, "rev-parse", "HEAD").strip()
    assert snapshots.plan(taken.id).heads == (HeadMoved(root, first, second),)
    git(root, "pack-refs", "--all")
    git(root, "checkout", "-q", "--detach")
    assert snapshots.plan(taken.id).heads == (HeadMoved(root, first, second),)
    snapshots.restore(taken.id)
    assert git(root, "rev-parse", "HEAD").strip() == second


def test_rules_of_another_time_reach_into_folders(home: Path, root: Path) -> None:
    write(root / "pkg" / ".gitignore", "/cache/\n*.tmp\n")
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    write(root / "pkg" / ".gitignore", "")
    write(root / ".gitignore", "")
    for name in ("pkg/cache/x", "pkg/y.tmp", "out/z", "w.ign"):
        write(root / name, "")
    write(root / "other" / "cache" / "new", "")
    plan = snapshots.plan(taken.id)
    kept = {str(k.path.relative_to(root)) for k in plan.kept}
    assert kept == {"pkg/cache/x", "pkg/y.tmp", "out/z", "w.ign"}
    assert [c.path.name for c in plan.changes if c.kind == "deleted"] == ["new"]


def test_names_git_would_refuse(home: Path, root: Path) -> None:
    for name in ("git~1", "a\\b", 'q"uote', "new\nline", " lead", "-dash", ":(top)x", "é", "*"):
        write(root / "odd" / name, name)
    os.symlink("x", root / "odd" / ".gitmodules")
    deep = root / "/".join(["d" * 200] * 12)
    write(deep / "f", "deep")
    before = state(root)
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    for path in (root / "odd").iterdir():
        path.unlink()
    done = snapshots.restore(taken.id)
    assert state(root) == before and len(done.created) == 10
    assert all(stat.S_ISREG(mode) or stat.S_ISLNK(mode) for mode, _ in state(root).values())

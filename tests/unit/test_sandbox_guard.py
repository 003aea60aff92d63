"""What a command did to files that decide which programs run is undone, and only that."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kimi_cli.workspace.git_layout import find_layout
from kimi_cli.workspace.guard import Guard, Watch


class Place:
    """A folder with a repository in it, guarded as where the kernel holds nothing."""

    def __init__(self, folder: Path) -> None:
        self.top = (folder / "ws").resolve()
        self.top.mkdir()
        self.run("git init -q . && git config user.name n && git config user.email e")
        self.run("git commit -q --allow-empty -m x")
        self.hook = self.top / ".git/hooks/pre-commit"
        self.hook.write_text("#!/bin/sh\nexit 0\n")
        self.hook.chmod(0o755)
        self.config = self.top / ".git/config"
        self.aside = folder / "aside"
        self.guard = Guard(self.aside, [self.top])

    def run(self, command: str) -> None:
        subprocess.run(["/bin/sh", "-c", command], cwd=self.top, check=True, capture_output=True)

    def watch(self) -> Watch:
        layout = find_layout(self.top)
        assert layout is not None
        known = frozenset({layout.common_dir})
        return Watch([*layout.guarded, self.top / ".kimi"], layout.pointers, known)

    def made(self) -> list[str]:
        found = [find_layout(p.parent) for p in self.top.glob("*/.git")]
        return self.guard.after(1, [layout for layout in found if layout])

    def after(self, command: str) -> list[str]:
        self.guard.before(1, self.watch())
        self.run(command)
        return self.made()

    def state(self) -> dict[str, bytes]:
        hooks = self.top.glob(".git/hooks/**/*")
        paths = [p for p in hooks if p.suffix != ".sample"] + [self.config]
        paths += self.top.glob(".kimi/**/*")
        return {str(p): p.read_bytes() + bytes([p.stat().st_mode & 1]) for p in paths}

    def set_aside(self) -> list[str]:
        return sorted(p.name.split("-", 1)[1] for p in self.aside.glob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


ATTACKS = [
    "echo evil > .git/hooks/post-commit && chmod +x .git/hooks/post-commit",
    "echo evil >> .git/hooks/pre-commit",
    "rm .git/hooks/pre-commit",
    "chmod -x .git/hooks/pre-commit",
    "mv .git/hooks/pre-commit .git/hooks/pre-push",
    "rm .git/hooks/pre-commit && ln -s ../../evil .git/hooks/pre-commit && echo > evil",
    "mv .git/hooks h && mkdir .git/hooks && echo evil > .git/hooks/pre-commit",
    "cp -r .git/hooks h && rm -r .git/hooks && ln -s ../h .git/hooks && echo x >> h/pre-commit",
    "mkdir .git/hooks/sub && echo evil > .git/hooks/sub/x",
    "git config core.fsmonitor ./evil",
    "rm .git/config && mkdir .git/config",
    "cp .git/config c && rm .git/config && ln -s ../c .git/config && echo '[alias]' >> c",
    "echo /tmp > .git/commondir",
    "echo '[core]' > .git/config.worktree",
    "mkdir .kimi && echo > .kimi/config.toml",
    "ln -s /tmp .kimi",
    "mv .git g && cp -r g .git && echo evil > .git/hooks/pre-commit",
]


@pytest.mark.parametrize("command", ATTACKS)
def test_what_runs_programs_is_put_back(place: Place, command: str) -> None:
    before = place.state()
    said = place.after(command)
    assert said
    assert place.state() == before
    # git agrees that the repository is whole, and runs nothing but the old hook.
    place.run("git status && git commit -q --allow-empty -m y")
    assert not (place.top / ".git/commondir").exists()
    assert not (place.top / ".git/hooks").is_symlink()


@pytest.mark.parametrize("command", ATTACKS)
def test_what_was_made_or_changed_is_kept_aside(place: Place, command: str) -> None:
    said = place.after(command)
    gone = [line for line in said if str(place.aside) in line]
    assert len(gone) == len(place.set_aside())
    for line in gone:
        named = line.split(" to ")[1].split(": it decides")[0]
        assert os.path.lexists(named)


def test_a_git_folder_that_became_a_symlink_leads_nowhere(place: Place) -> None:
    before = place.state()
    outside = place.aside.parent / "outside"
    outside.mkdir()
    (outside / "config").write_text("mine")
    assert place.after(f"mv .git g && ln -s {outside} .git")
    assert not (place.top / ".git").is_symlink()
    assert place.state() == before
    assert [p.name for p in outside.iterdir()] == ["config"]
    assert (outside / "config").read_text() == "mine"


@pytest.mark.parametrize(
    "command",
    [
        "echo b > b && git add b && git commit -qm b && git switch -qc x && git stash list",
        "git gc -q && git tag t",
        "touch .git/hooks/pre-commit .git/config",
        "git init -q .",
        "git init -q new && cd new && git config user.name x",
        "git clone -q . copy",
        "git worktree add -q wt && cd wt && git commit -q --allow-empty -m y",
        "git worktree add -q wt && git worktree remove wt",
    ],
)
def test_ordinary_work_is_left_alone(place: Place, command: str) -> None:
    before = place.state()
    assert place.after(command) == []
    assert {k: v for k, v in place.state().items() if k in before} == before
    assert place.set_aside() == []


def test_hooks_of_a_new_repository_are_set_aside(place: Place) -> None:
    said = place.after(
        "git init -q new && echo evil > new/.git/hooks/post-checkout && git init -q b &&"
        "git -C b config core.fsmonitor ./evil"
    )
    assert place.set_aside() == ["post-checkout"]
    assert (place.top / "new/.git/hooks/pre-commit.sample").exists()
    assert sum("core.fsmonitor" in line for line in said) == 1
    # It is told once; a hook is moved each time.
    place.guard.before(1, place.watch())
    place.run("echo evil > new/.git/hooks/pre-commit")
    assert len(place.made()) == 1


def test_hooks_of_a_work_trees_repository_are_not_those_of_a_new_one(place: Place) -> None:
    place.after("git worktree add -q wt")
    assert place.hook.exists()


def test_a_repository_without_hooks_gets_samples_but_no_hooks(place: Place) -> None:
    place.run("rm -r .git/hooks")
    assert place.after("git init -q .") == []
    place.run("rm -r .git/hooks")
    assert place.after("git init -q . && echo evil > .git/hooks/pre-commit")
    assert place.set_aside() == ["pre-commit"]
    assert (place.top / ".git/hooks").is_dir()


def test_pointers_may_go_away_with_their_folder_but_not_lead_elsewhere(place: Place) -> None:
    place.run("git worktree add -q ../wt")
    pointer = place.top / ".git/worktrees/wt/commondir"
    before = pointer.read_bytes()
    assert place.after("echo /tmp > .git/worktrees/wt/commondir")
    assert pointer.read_bytes() == before
    assert place.after("git worktree remove ../wt") == []
    assert not pointer.exists()


def test_what_another_command_was_allowed_to_change_stays(place: Place) -> None:
    place.guard.before(1, place.watch())
    allowed = [path for path in place.watch().paths if path.name not in ("config", "hooks")]
    place.guard.before(2, Watch(allowed, (), place.watch().repositories))
    place.run("git remote add o x && rm .git/hooks/pre-commit && echo 1 > .git/hooks/post-merge")
    assert place.guard.after(2, []) == []
    changed = place.state()
    assert place.guard.after(1, []) == []
    assert place.state() == changed


def test_a_command_that_never_started_or_was_told_of_twice(place: Place) -> None:
    assert place.guard.after(7, []) == []
    place.guard.before(7, place.watch())
    assert place.guard.after(7, []) == []
    assert place.guard.after(7, []) == []


def test_what_cannot_be_put_back_is_said(place: Place) -> None:
    place.guard.before(1, place.watch())
    place.run("echo evil > .git/hooks/post-commit")
    place.aside.write_text("in the way")
    said = place.guard.after(1, [])
    assert any("could not be put back" in line for line in said)

"""What a command did to files that decide which programs run is undone, and only that."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
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
    "mv .git/hooks h && mkdir .git/hooks && echo evil > .git/hooks/x && chmod 0 .git/hooks",
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
    said = place.after("git init -q new && echo evil > new/.git/hooks/post-checkout")
    assert len(said) == 1
    assert place.set_aside() == ["post-checkout"]
    assert (place.top / "new/.git/hooks/pre-commit.sample").exists()
    # Each time again.
    place.guard.before(1, place.watch())
    place.run("echo evil > new/.git/hooks/pre-commit")
    assert len(place.made()) == 1


RUNS_PROGRAMS = [
    ("core.fsmonitor", "./evil", "status"),
    ("core.hooksPath", "hooks", "commit --allow-empty -m x"),
    ("filter.x.clean", "./evil", "add a"),
    ("filter.x.process", "./evil", "add a"),
    ("diff.x.textconv", "./evil", "diff --no-index a evil"),
    ("diff.external", "./evil", "diff --no-index a evil"),
    ("alias.st", "!./evil", "st"),
    ("core.sshCommand", "./evil", "ls-remote host:x"),
    ("include.path", "../more", "status"),
    ("protocol.allow", "always", "ls-remote ext::./evil"),
]


@pytest.mark.parametrize(("key", "value", "use"), RUNS_PROGRAMS)
def test_no_program_is_run_by_the_configuration_of_a_new_repository(
    place: Place, key: str, value: str, use: str
) -> None:
    place.run("git init -q new")
    new = place.top / "new"
    (new / "evil").write_text("#!/bin/sh\necho >> ../ran\nexit 1\n")
    (new / "evil").chmod(0o755)
    (new / "hooks").mkdir()
    (new / "hooks/pre-commit").symlink_to("../evil")
    (new / ".gitattributes").write_text("a filter=x diff=x\n")
    (new / "a").write_text("a")
    (new / "more").write_text("[core]\n\tfsmonitor = ./evil\n")
    run = f"cd new && git config user.name n && git config user.email e; git {use}; cd .. && test "
    command = f"git -C new config {key} '{value}'"
    place.run(f"{command}; {run} -e ran && rm ran")
    (said,) = place.after(command)
    assert key.lower() in said and "Git LFS" not in said
    assert place.set_aside() == ["config"]
    place.run(f"{run} ! -e ran && cd new && git config user.name && git status")
    # Nothing is left to say.
    assert place.after("true") == []


def test_what_stays_of_a_configuration_is_what_it_was(place: Place) -> None:
    strange = 'a"b\\c # d;\te\nf'
    command = (
        "git init -q new && cd new && git remote add o 'x;y' && git lfs >/dev/null 2>&1;"
        "git config filter.lfs.clean 'git-lfs clean' && git config filter.lfs.required true;"
        "git config core.fsmonitor true; git config pager.log false; git config a.b.c '';"
        "git config submodule.x.update rebase; printf '[s \"T x.y\"]\\n\\tOn\\n' >> .git/config"
    )
    place.run(command)
    file = place.top / "new/.git/config"
    subprocess.run(["git", "config", "-f", file, "v.w", strange], check=True)

    def listed() -> set[str]:
        done = subprocess.run(["git", "config", "-f", file, "-lz"], check=True, capture_output=True)
        return set(done.stdout.decode().split("\0"))

    before = listed()
    mode = file.stat().st_mode
    (said,) = place.after("true")
    assert "git lfs install" in said
    assert before - listed() == {
        "filter.lfs.clean\ngit-lfs clean",
        "filter.lfs.required\ntrue",
        # The same to git, written out.
        "s.T x.y.on",
    }
    assert "s.T x.y.on\ntrue" in listed() and f"v.w\n{strange}" in listed()
    assert file.stat().st_mode == mode


def test_configuration_that_is_no_file_of_the_repository(place: Place) -> None:
    outside = place.aside.parent / "outside"
    outside.write_text("[core]\n\tfsmonitor = ./evil\n")
    place.run("mkdir sub && cp ../outside sub/inside")
    for target in ("../../../outside", "../../sub/inside"):
        (said,) = place.after(f"git init -q new; ln -sf {target} new/.git/config")
        assert "moved" in said
        place.run("git -C new status && ! git -C new config core.fsmonitor && rm -r new")
    assert outside.read_text().endswith("evil\n")
    # Nobody will ever write to it.
    (said,) = place.after("git init -q new; cd new/.git && rm config && mkfifo config commondir")
    assert "no regular file" in said
    assert place.after("rm -r new") == []


def test_a_submodule_of_a_new_repository_runs_nothing_either(place: Place) -> None:
    module = "new/.git/modules/deep/down"
    said = place.after(
        f"git init -q new; mkdir -p {module} && git init -q --bare {module};"
        f"git -C {module} config core.fsmonitor ./evil; echo > {module}/hooks/post-checkout"
    )
    assert len(said) == 2
    assert place.set_aside() == ["config", "post-checkout"]


def test_a_new_work_tree_of_a_known_repository_has_no_programs_of_its_own(place: Place) -> None:
    place.run("git config extensions.worktreeConfig true")
    (said,) = place.after(
        "git worktree add -q wt && cd wt && git config --worktree core.fsmonitor x"
    )
    assert "core.fsmonitor" in said
    place.run("! git -C wt config core.fsmonitor && git -C wt status")


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


def test_rights_that_were_taken_away_do_not_keep_anything(place: Place) -> None:
    before = place.state()
    assert place.after(
        "cd .git/hooks && mkdir a b && echo > b/c && chmod 0 a b && rm pre-commit &&"
        "echo evil > pre-commit && chmod 555 ."
    )
    assert place.state() == before
    assert place.set_aside() == ["a", "b", "pre-commit"]


def test_one_that_cannot_be_moved_does_not_keep_the_others(place: Place) -> None:
    before = place.state()
    # No name is longer, and a number goes before it.
    place.after(f"cd .git/hooks && echo > {'a' * 255} && echo evil > pre-commit && mkdir b && cd b")
    assert place.state() == before
    assert len(place.set_aside()) == 3


def test_what_a_command_planted_is_not_what_another_found(place: Place) -> None:
    before = place.state()
    place.guard.before(1, place.watch())
    place.run("echo evil > .git/hooks/post-commit; rm .git/hooks/pre-commit")
    place.guard.before(2, place.watch())
    place.run("rm .git/hooks/post-commit")
    assert place.guard.after(1, [])
    assert place.state() == before
    assert place.guard.after(2, []) == []
    assert place.state() == before


def test_from_one_file_system_to_another(place: Place) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == place.top.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    place.aside = Path(tempfile.mkdtemp(prefix="kimi-guard-", dir=other))
    place.guard = Guard(place.aside, [place.top])
    try:
        place.after(
            "mkdir -p .kimi/a/b && echo x > .kimi/a/b/c && ln -s /etc .kimi/a/d && mkfifo .kimi/e;"
            "chmod 700 .kimi/a/b/c; echo evil > .git/hooks/post-commit; ln -s /etc .git/commondir"
        )
        assert not (place.top / ".kimi").exists()
        assert place.set_aside() == [".kimi", "commondir", "post-commit"]
        (kept,) = place.aside.glob("*-.kimi")
        assert sorted(p.name for p in kept.rglob("*")) == ["a", "b", "c", "d"]
        assert (kept / "a/b/c").read_text() == "x\n" and os.access(kept / "a/b/c", os.X_OK)
        assert os.readlink(kept / "a/d") == "/etc"
    finally:
        shutil.rmtree(place.aside)


@pytest.mark.parametrize("second", [False, True], ids=["one file system", "two"])
def test_folders_that_are_swapped_for_symlinks_meanwhile(place: Place, second: bool) -> None:
    """A command that still runs swaps .git and hooks for links to a folder outside and back."""
    outside = place.aside.parent / "outside"
    (outside / "hooks/sub").mkdir(parents=True)
    for name in ("config", "hooks/pre-commit", "hooks/post-commit", "hooks/sub/x", "commondir"):
        (outside / name).write_text("SECRET")
    rows = {p: (os.lstat(p).st_ino, os.lstat(p).st_mode) for p in outside.rglob("*")}
    if second and Path("/dev/shm").is_dir():
        place.aside = Path(tempfile.mkdtemp(prefix="kimi-guard-", dir="/dev/shm"))
        place.guard = Guard(place.aside, [place.top])
    git, hooks = place.top / ".git", place.top / ".git/hooks"
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            for path, target in ((git, outside), (hooks, outside / "hooks")):
                with contextlib.suppress(OSError):
                    os.rename(path, f"{path}.real")
                    os.symlink(target, path)
                    os.unlink(path)
                # The guard may have moved the link, or made the folder again.
                with contextlib.suppress(OSError):
                    os.rename(f"{path}.real", path)
                swaps += 1

    thread = threading.Thread(target=swap)
    watch = place.watch()
    place.guard.before(1, watch)
    thread.start()
    try:
        for number in range(2, 82):
            place.guard.before(number, watch)
            with contextlib.suppress(OSError):
                (hooks / "post-commit").write_text("evil")
            (place.top / ".kimi").mkdir(exist_ok=True)
            place.guard.after(number, [])
    finally:
        stop.set()
        thread.join()
    try:
        assert swaps > 80
        # The test itself writes through the links.
        (outside / "hooks/post-commit").write_text("SECRET")
        assert {p: (os.lstat(p).st_ino, os.lstat(p).st_mode) for p in outside.rglob("*")} == rows
        assert {p.read_text() for p in outside.rglob("*") if p.is_file()} == {"SECRET"}
        inside = [p for p in (*place.top.rglob("*"), *place.aside.rglob("*")) if p.is_file()]
        assert not [p for p in inside if not p.is_symlink() and p.read_bytes() == b"SECRET"]
    finally:
        if second:
            shutil.rmtree(place.aside, ignore_errors=True)

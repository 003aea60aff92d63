"""The copy of a project: complete, and with no way back to the original."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kimi_cli.agent.replay.consent import ALLOWED, OUTSIDE, AskEach
from kimi_cli.agent.replay.scratch import Scratch, ScratchError, remove, scratch_copy
from kimi_cli.protocol.sandbox import SandboxState
from kimi_cli.protocol.tools import Intent
from kimi_cli.safety.places import Places
from kimi_cli.safety.rules import RuleSet
from kimi_cli.safety.session_policy import SessionPolicy
from tests.e2e.conftest import git
from tests.e2e.test_replay_check import digest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("a\n")
    (root / "sub" / "b.txt").write_text("b\n")
    return root


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def in_copy(scratch: Scratch, command: str, cwd: str = ".") -> str:
    env = scratch.environment(os.environ)
    run = subprocess.run(
        ["bash", "-c", command],
        cwd=scratch.root / cwd, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return run.stdout


def test_everything_is_copied_and_removed(project: Path, temporary: Path) -> None:
    git(project, "init", "-q")
    (project / ".gitignore").write_text("ignored\n")
    (project / "ignored").write_bytes(b"\0\xff")
    (project / "run").write_text("#!/bin/sh\n")
    (project / "run").chmod(0o750)
    (project / "empty").mkdir()
    os.utime(project / "a.txt", (1, 1))
    (project / "sub").chmod(0o555)
    with scratch_copy(project, "then", keep=False) as scratch:
        assert scratch.root.name == "then"
        assert digest(scratch.root) == digest(project)
        assert (scratch.root / "a.txt").stat().st_mtime == 1
        (scratch.root / "a.txt").write_text("changed")
    assert (project / "a.txt").read_text() == "a\n"
    assert list(temporary.iterdir()) == []
    with scratch_copy(project, "then", keep=True) as scratch:
        pass
    assert scratch.root.is_dir()
    (project / "sub").chmod(0o755)
    remove(scratch.folder)


def test_write_protected_folders_are_removed_too() -> None:
    """By anybody but root, whom no protection holds up."""
    code = (
        "import os, sys; from pathlib import Path;"
        "from kimi_cli.agent.replay.scratch import remove; top = Path(sys.argv[1], 'top');"
        "os.getuid() or os.setuid(65534);"
        "(top / 'a' / 'b').mkdir(parents=True); (top / 'a' / 'b' / 'f').touch();"
        "(top / 'a' / 'b').chmod(0o500); (top / 'a').chmod(0o500);"
        "remove(top); sys.exit(top.exists())"
    )
    # Not below tmp_path, which another user may not enter.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o777)
        run = subprocess.run([sys.executable, "-c", code, folder], capture_output=True)
    assert run.returncode == 0, run.stderr


def test_links_lead_into_the_copy_or_where_they_led(project: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "way").symlink_to(project)
    links = {
        "sub/relative": "../a.txt",
        "absolute": str(project / "sub"),
        "around": "../project/a.txt",
        "by another way": str(tmp_path / "way" / "a.txt"),
        "out": "../outside",
        "out absolute": str(tmp_path / "outside"),
        "dangling": "nothing",
        "dots": "..dots",
    }
    for name, target in links.items():
        (project / name).symlink_to(target)
    with scratch_copy(project, "copy", keep=False) as scratch:
        led = {name: os.path.realpath(scratch.root / name) for name in links}
        root = scratch.root
        assert os.readlink(root / "sub" / "relative") == "../a.txt"
        assert os.readlink(root / "dangling") == "nothing"
    assert led == {
        "sub/relative": str(root / "a.txt"),
        "absolute": str(root / "sub"),
        "around": str(root / "a.txt"),
        "by another way": str(root / "a.txt"),
        "out": str(tmp_path / "outside"),
        "out absolute": str(tmp_path / "outside"),
        "dangling": str(root / "nothing"),
        "dots": str(root / "..dots"),
    }
    assert {name: os.readlink(project / name) for name in links} == links


def test_what_is_no_file_is_left_out(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(project / "fifo")
    monkeypatch.chdir(project)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with scratch_copy(project, "copy", keep=False) as scratch:
            names = sorted(path.name for path in scratch.root.iterdir())
    assert names == ["a.txt", "sub"]


def test_a_temporary_folder_in_the_project_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(project))
    before = digest(project)
    with (
        pytest.raises(ScratchError, match="TMPDIR"),
        scratch_copy(project, "copy", keep=True),
    ):
        pass
    assert digest(project) == before


def test_a_project_that_can_t_be_read_is_refused(project: Path, temporary: Path) -> None:
    with (
        pytest.raises(ScratchError, match=r"gone.*No such file"),
        scratch_copy(project / "gone", "copy", keep=True),
    ):
        pass
    assert list(temporary.iterdir()) == []


def test_a_virtual_environment_moves_along(project: Path) -> None:
    """Its scripts and its editable install would run the code of the original."""
    (project / "mod.py").write_text("print(__file__)\n")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", project / ".venv"], check=True, timeout=60
    )
    (site,) = (project / ".venv" / "lib").glob("python*/site-packages")
    (site / "mod.pth").write_text(f"{project}\n")
    script = project / ".venv" / "bin" / "mod"
    script.write_text(f"#!{project}/.venv/bin/python -B\nimport sys, mod; print(sys.prefix)\n")
    script.chmod(0o555)
    with scratch_copy(project, "copy", keep=False) as scratch:
        out = in_copy(scratch, "../.venv/bin/mod", "sub").splitlines()
        assert out == [str(scratch.root / "mod.py"), str(scratch.root / ".venv")]
        env = scratch.environment({"PATH": f"/bin:{project}/.venv/bin:{project}2", "X": "y"})
        assert env["PATH"] == f"/bin:{scratch.root}/.venv/bin:{project}2"
        assert env["X"] == "y"


def commit_in(scratch: Scratch, cwd: str = ".") -> str:
    identity = "git -c user.name=a -c user.email=b"
    command = f"echo x >> new && git add -A . && {identity} commit -qm new && git log --format=%s"
    return in_copy(scratch, command, cwd)


def test_a_submodule_and_a_worktree_become_repositories(project: Path, tmp_path: Path) -> None:
    """As the project itself, and in it."""
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q")
    git(library, "commit", "-q", "--allow-empty", "-m", "lib")
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(library), "lib")
    git(project, "commit", "-qm", "top")
    git(project, "worktree", "add", "-q", ".trees/one", "-b", "one")
    git(project, "worktree", "add", "-q", str(tmp_path / "gone"), "-b", "two")
    (project / "stale").mkdir()
    (project / "stale" / ".git").write_text("gitdir: /nowhere/.git/worktrees/x\n")
    before = digest(project)
    with scratch_copy(project, "copy", keep=False) as scratch:
        assert commit_in(scratch, "lib") == "new\nlib\n"
        assert commit_in(scratch, ".trees/one") == "new\ntop\n"
        assert in_copy(scratch, "git branch --show-current", ".trees/one") == "one\n"
        assert commit_in(scratch) == "new\ntop\n"
        assert in_copy(scratch, "git worktree prune -v; git worktree list | wc -l").strip() == "1"
    for folder in ("lib", ".trees/one"):
        with scratch_copy(project / folder, "copy", keep=False) as scratch:
            assert (scratch.root / ".git").is_dir()
            assert commit_in(scratch).startswith("new\n")
            assert in_copy(scratch, "git status --short") == ""
    assert digest(project) == before


def test_a_work_tree_elsewhere_is_the_copy_s_own(project: Path) -> None:
    git(project, "init", "-q")
    git(project, "config", "core.worktree", str(project))
    with scratch_copy(project, "copy", keep=False) as scratch:
        assert in_copy(scratch, "git rev-parse --show-toplevel").strip() == str(scratch.root)


def test_a_repository_made_of_links_is_refused(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(project, "init", "-q")
    (project / ".git" / "config").unlink()
    (project / ".git" / "config").symlink_to(other / ".git" / "config")
    with (
        pytest.raises(ScratchError, match="outside of the project"),
        scratch_copy(project, "copy", keep=True),
    ):
        pass
    # A link to a whole repository is a way to write the same as a worktree.
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".git").symlink_to(other / ".git")
    before = digest(other)
    with scratch_copy(tmp_path / "linked", "copy", keep=False) as scratch:
        assert commit_in(scratch) == "new\n"
    assert digest(other) == before


def unasked(root: Path, *, yolo: bool = False) -> SessionPolicy:
    """A policy where there is no sandbox."""
    return SessionPolicy(
        Places([root], protected=[".git"]),
        [root],
        RuleSet(),
        project=root,
        home=None,
        sandbox=SandboxState("off", "none"),
        keep=lambda rule: None,
        yolo=yolo,
    )


def test_consent_says_what_the_policy_thinks_and_where_it_ends(
    project: Path, tmp_path: Path, temporary: Path
) -> None:
    scratch = Scratch(temporary / "kimi-replay-x", temporary / "kimi-replay-x" / "copy", project)
    scratch.root.mkdir(parents=True)
    (scratch.root / "way-out").symlink_to(tmp_path)
    free = AskEach(unasked(scratch.root, yolo=True), scratch)

    def reason(policy: AskEach, kind: str, path: Path) -> str:
        decision = policy.decide("x", [Intent(kind, str(path))])  # type: ignore[arg-type]
        assert decision.verdict == "ask"
        return decision.reason

    for inside in (scratch.root / "new" / "x", temporary / "x"):
        assert reason(free, "write", inside) == ALLOWED
    for outside in (tmp_path / "x", scratch.root / "way-out" / "x", project / "a.txt"):
        assert reason(free, "write", outside) == f"{OUTSIDE}{outside}"
        assert reason(free, "read", outside) == ALLOWED
    inner = Scratch(tmp_path / "f", tmp_path / "f" / "copy", project)
    assert reason(
        AskEach(unasked(inner.root, yolo=True), inner), "write", project / "a"
    ).startswith(OUTSIDE)
    strict = AskEach(unasked(scratch.root), scratch)
    assert reason(strict, "execute", Path("make")).startswith("`make` needs approval")
    assert reason(strict, "execute", Path("ls")) == ALLOWED
    assert reason(strict, "read", scratch.root / "a") == ALLOWED


def test_git_is_not_one_that_the_project_could_have_planted(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(project, "init", "-q")
    (project / "git").write_text(f"#!/bin/sh\necho > {tmp_path}/ran\n")
    (project / "git").chmod(0o755)
    path = os.environ["PATH"]
    monkeypatch.chdir(project)
    for first in (str(project), "."):
        monkeypatch.setenv("PATH", f"{first}{os.pathsep}{path}")
        with (
            pytest.raises(ScratchError, match="any command can put a program"),
            scratch_copy(project, "x", keep=False),
        ):
            pass
    assert not (tmp_path / "ran").exists()

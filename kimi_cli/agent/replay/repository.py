"""Git in a copied work tree: a repository of the copy's own, whatever ``.git`` was before."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from kimi_cli.workspace.programs import find_trusted

# What belongs to one work tree and not to the repository; see gitrepository-layout(5).
_OF_ONE_TREE = ("*HEAD", "MERGE_*", "BISECT_*", "index", "rebase-*", "sequencer", "config.worktree")
_LINKS = ("commondir", "gitdir", "locked")


class SharedRepository(OSError):
    """Git in the copy would reach the repository of the original; ``strerror`` says how."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(0, why, str(path))


def detach(copy: Path, original: Path) -> None:
    """Make every repository below ``copy``, the copy of ``original``, independent: a ``.git`` that
    points elsewhere (that of a worktree or a submodule) becomes a folder that holds all of it.

    Raises OSError, also for a git that the project could have planted; SharedRepository when git
    would still reach outside.
    """
    for place in list(_repositories(copy)):
        inside = place.parent.relative_to(copy)
        pointed_to = _pointed_to(place, original / inside)
        if pointed_to is not None:
            place.unlink()
            _gather(pointed_to, place)
        # The other work trees are the original's: git must not tidy them up from here.
        shutil.rmtree(place / "worktrees", ignore_errors=True)
        _refuse_links(place, copy)
        git = _trusted_git([copy, original])
        if git is not None:
            _settle(git, place)
            _refuse_outside(git, place.parent, copy)


def _repositories(copy: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(copy):
        if ".git" in folders or ".git" in files:
            yield Path(folder, ".git")
        if ".git" in folders:
            folders.remove(".git")


def _pointed_to(place: Path, original: Path) -> Path | None:
    """The repository that a ``.git`` file or symlink names, as seen from the original; None for a
    folder, and for a file that names none that exists."""
    if place.is_symlink():
        named = Path(os.path.realpath(original / ".git"))
    elif place.is_dir():
        return None
    else:
        text = place.read_text("utf-8", "surrogateescape").strip()
        named = (original / text.removeprefix("gitdir:").strip()).resolve()
    return named if named.is_dir() and named != original else None


def _gather(gitdir: Path, place: Path) -> None:
    """Make one folder of a repository and of what it keeps for this work tree."""
    common = gitdir
    if (gitdir / "commondir").is_file():
        common = (gitdir / (gitdir / "commondir").read_text().strip()).resolve()
    others = shutil.ignore_patterns(*_OF_ONE_TREE)

    def left_out(folder: str, names: list[str]) -> set[str]:
        if Path(folder) != common or common == gitdir:
            return set()
        return {"worktrees", *others(folder, names)}

    shutil.copytree(common, place, symlinks=True, ignore=left_out)
    if common != gitdir:
        shutil.copytree(
            gitdir, place, symlinks=True, ignore=shutil.ignore_patterns(*_LINKS), dirs_exist_ok=True
        )


def _refuse_links(place: Path, copy: Path) -> None:
    """A work tree made of links into another repository (git-new-workdir) would write there."""
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(folder, name)
            leads_to = Path(os.path.realpath(path))
            if path.is_symlink() and not leads_to.is_relative_to(copy):
                raise SharedRepository(path, f"is a link to {leads_to}, outside of the project")


def _trusted_git(folders: Sequence[Path]) -> str | None:
    try:
        return find_trusted("git", folders)
    except PermissionError as error:
        raise OSError(errno.EACCES, str(error)) from None


def _settle(git: str, place: Path) -> None:
    """The repository's work tree is the folder it lies in."""
    config = place / "config"
    if not place.is_dir() or not config.is_file():
        return
    # From a place without a repository: one with a wrong work tree lets no git command start.
    top = Path("/")
    file = ("config", "--file", str(config))
    if _git(git, top, *file, "--get", "core.worktree"):
        _git(git, top, *file, "--unset-all", "core.worktree")
    if _git(git, top, *file, "--type=bool", "--get", "core.bare") == "true\n":
        _git(git, top, *file, "core.bare", "false")


def _refuse_outside(git: str, folder: Path, copy: Path) -> None:
    asked = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir")
    for line in _git(git, folder, "rev-parse", *asked).splitlines():
        used = Path(os.path.realpath(folder / line))
        if not used.is_relative_to(copy):
            raise SharedRepository(folder, f"git would work in {used}, outside of the copy")


def _git(git: str, folder: Path, *args: str) -> str:
    """What git prints; nothing when it fails, as it does where there is no sound repository."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CEILING_DIRECTORIES": str(folder.parent), "LC_ALL": "C"}
    run = subprocess.run(
        [git, *args], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True
    )
    return os.fsdecode(run.stdout) if run.returncode == 0 else ""

"""A copy of a project to work in, from which nothing leads back to the original."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.agent.replay.repository import detach

NO_PUSH = ("url.file:///dev/null/.pushInsteadOf", "")
# Where git is told to work, by a hook that runs us for one; `git rev-parse --local-env-vars`.
_GIT_PLACES = frozenset(
    {
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX"),
        *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE"),
        *("GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_IMPLICIT_WORK_TREE", "GIT_SHALLOW_FILE"),
    }
)
_ENVIRONMENT = (
    *("pyvenv.cfg", "bin/*", "lib/python*/site-packages/*.pth"),
    *("lib/python*/site-packages/__editable__*", "lib/python*/site-packages/*/direct_url.json"),
)
_TEXT_LIMIT = 1 << 20


class ScratchError(Exception):
    """The project can't be copied; the message is for people."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """``root`` is the copy, ``folder`` what holds it and everything else of this replay."""

    folder: Path
    root: Path
    project: Path

    @property
    def temporary(self) -> Path:
        """The folder for temporary files."""
        return self.folder.parent

    @property
    def home(self) -> Path:
        """Stands in for KIMI_HOME: no settings, no sessions."""
        return self.folder / "kimi-home"

    def environment(self, outside: Mapping[str, str]) -> dict[str, str]:
        """The caller's environment for work in the copy: what named the project names the copy,
        kimi's own settings and the places that git was told of have no part in it, and what is
        pushed goes nowhere."""
        env = {
            name: _renamed(value, self.project, self.root)
            for name, value in outside.items()
            if not name.startswith("KIMI_") and name not in _GIT_PLACES
        }
        count = int(env["GIT_CONFIG_COUNT"]) if env.get("GIT_CONFIG_COUNT", "").isdigit() else 0
        return {
            **env,
            "KIMI_HOME": str(self.home),
            "GIT_CEILING_DIRECTORIES": str(self.folder),
            "GIT_CONFIG_COUNT": str(count + 1),
            f"GIT_CONFIG_KEY_{count}": NO_PUSH[0],
            f"GIT_CONFIG_VALUE_{count}": NO_PUSH[1],
        }


@contextmanager
def scratch_copy(project: Path, name: str, *, keep: bool) -> Iterator[Scratch]:
    """A copy of ``project`` in a folder called ``name``, with everything in it, ignored and
    untracked files too; removed at the end unless ``keep``.

    Symlinks stay, but lead into the copy where they led into the project. What is no file (a
    socket, a FIFO) is left out. Raises ScratchError.
    """
    project = project.resolve()
    try:
        folder = Path(tempfile.mkdtemp(prefix="kimi-replay-")).resolve()
    except OSError as error:
        raise ScratchError(f"no temporary folder can be made: {error.strerror}") from error
    scratch = Scratch(folder, folder / name, project)
    done = False
    try:
        if folder.is_relative_to(project):
            raise ScratchError(
                f"the temporary folder {folder.parent} lies in the project: set TMPDIR to another"
            )
        scratch.home.mkdir(mode=0o700)
        _copy(project, scratch.root)
        detach(scratch.root, project)
        done = True
        yield scratch
    except shutil.Error as error:
        raise ScratchError(_first(error)) from None
    except OSError as error:
        if done:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise ScratchError(f"the project can't be copied: {where}{error.strerror}") from None
    finally:
        if not (keep and done):
            remove(folder)


def _first(error: shutil.Error) -> str:
    """What went wrong with the first file; the error itself lists each one."""
    problems = error.args[0]
    source, _, why = problems[0] if isinstance(problems, list) else ("", "", str(error))
    more = f" and {len(problems) - 1} more" if isinstance(problems, list) and problems[1:] else ""
    return f"the project can't be copied: {source}: {why}{more}"


def _copy(project: Path, copy: Path) -> None:
    shutil.copytree(project, copy, symlinks=True, copy_function=_copy_file)
    for folder, folders, files in os.walk(copy):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                _redirect(path, project, copy)
        if "pyvenv.cfg" in files:
            _move_environment(Path(folder), project, copy)


def _copy_file(source: str, target: str) -> None:
    if stat.S_ISREG(os.stat(source).st_mode):
        shutil.copy2(source, target)


def _redirect(link: Path, project: Path, copy: Path) -> None:
    """Make a copied symlink lead to the copy where it led into the project by another way than
    from within, and to where it led otherwise."""
    target = os.readlink(link)
    inside = link.relative_to(copy)
    if not os.path.isabs(target):
        from_top = os.path.normpath(inside.parent / target)
        if from_top != ".." and not from_top.startswith("../"):
            return
    led_to = os.path.normpath(os.path.join(project / inside.parent, target))
    real = os.path.realpath(led_to)
    into = copy / os.path.relpath(real, project) if Path(real).is_relative_to(project) else led_to
    link.unlink()
    link.symlink_to(into)


def _move_environment(folder: Path, project: Path, copy: Path) -> None:
    """Make a copied Python virtual environment one of its own: its scripts name their interpreter
    by an absolute path, and an editable install its sources."""
    named = re.compile(re.escape(os.fsencode(project)) + rb"(?![\w.-])")
    for path in (path for pattern in _ENVIRONMENT for path in folder.glob(pattern)):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _TEXT_LIMIT:
            continue
        content = path.read_bytes()
        changed = named.sub(lambda _: os.fsencode(copy), content)
        if changed == content or b"\0" in content:
            continue
        before = path.stat()
        path.unlink()  # it may be write-protected
        path.write_bytes(changed)
        path.chmod(stat.S_IMODE(before.st_mode))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _renamed(value: str, project: Path, copy: Path) -> str:
    return re.sub(rf"(?<![\w.-]){re.escape(str(project))}(?![\w.-])", lambda _: str(copy), value)


def remove(folder: Path) -> None:
    """Remove the folder, also where folders in it are write-protected; what can't be stays."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    for path, folders, _ in os.walk(folder):
        for name in folders:
            inner = os.path.join(path, name)
            if not os.path.islink(inner):
                with suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)

"""Which files a snapshot covers: what git tracks, and what it does not ignore.

``git ls-files`` does the matching, with the shadow as git's folder: the user's repository lends its
index (as the list of tracked files), its ``info/exclude`` and the ``.gitignore`` files. A
repository inside is listed by itself, with its own rules.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kimi_cli.workspace.roots import project_root
from kimi_cli.workspace.snapshots.model import Limits, SnapshotError
from kimi_cli.workspace.snapshots.places import git_folder, read_small
from kimi_cli.workspace.snapshots.shadow import Shadow, finish

GIT = b".git"
IGNORE = b".gitignore"

_UNREADABLE = re.compile(r"^warning: could not open directory '(.*)/': (.*)$", re.MULTILINE)


@dataclass(slots=True)
class Names:
    """Paths relative to the folder, not yet looked at: there may be duplicates, files that are
    gone, and folders. ``folders`` are repositories inside; ``left_out`` maps what can't be listed
    ("" is the folder itself) to the reason."""

    files: list[bytes] = field(default_factory=list)
    folders: list[bytes] = field(default_factory=list)
    left_out: dict[bytes, str] = field(default_factory=dict)


class Listing:
    """One listing, begun: git works while the caller does something else."""

    def __init__(self, shadow: Shadow, folder: Path, inside: bytes, limits: Limits) -> None:
        """List ``folder``, or the repository ``inside`` it. Raises SnapshotError."""
        self._shadow, self._limits, self._inside = shadow, limits, inside
        self._folder = Path(os.fsdecode(os.path.join(os.fsencode(folder), inside)))
        self._top = self._folder if inside else project_root(self._folder)
        self._under = os.fsencode(os.path.relpath(self._folder, self._top))
        self._git = git_folder(self._top)
        self._give_up = time.monotonic() + limits.listing
        index = self._git.index if self._git else None
        self._process: subprocess.Popen[bytes] = self._start(index)

    def finish(self) -> Names:
        """Wait for the result; never raises for what the folder holds."""
        try:
            output, said = self._wait()
        except TimeoutError:
            return Names(left_out={self._inside: f"listing took over {self._limits.listing:g} s"})
        except SnapshotError as error:
            return Names(left_out={self._inside: str(error)})
        return self._sorted(output, said)

    def abandon(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _wait(self) -> tuple[bytes, str]:
        try:
            return finish(self._process, timeout=max(self._give_up - time.monotonic(), 0))
        except SnapshotError:
            if self._git is None:
                raise
            # An index git can't read by itself (split, sparse, SHA-256): go without. What is
            # tracked although it is ignored is then not covered.
            self._process = self._start(None)
            output, said = finish(self._process, timeout=max(self._give_up - time.monotonic(), 0))
            return output, said + "\nunread index"

    def _start(self, index: Path | None) -> subprocess.Popen[bytes]:
        arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        if excludes := self._shadow.excludes():
            arguments = ["-c", f"core.excludesFile={excludes}", *arguments]
        if self._git is not None and _is_regular(self._git.exclude):
            # After --exclude-standard, so that it wins over the user's own, as in git.
            arguments.append(f"--exclude-from={self._git.exclude}")
        if self._under != b".":
            arguments += ["--", os.fsdecode(self._under)]
        env = {"GIT_WORK_TREE": os.fspath(self._top)}
        if index is not None and _is_regular(index):
            env["GIT_INDEX_FILE"] = os.fspath(index)
        return self._shadow.start(arguments, env=env)

    def _sorted(self, output: bytes, said: str) -> Names:
        names = Names()
        before = b"" if self._under == b"." else self._under + b"/"
        above = self._inside + b"/" if self._inside else b""
        found = output.split(b"\0")[:-1]
        if before:
            found = [name[len(before) :] for name in found if name.startswith(before)]
        if above:
            found = [above + name for name in found]
        names.folders = [name[:-1] for name in found if name.endswith(b"/")]
        names.files = (
            [name for name in found if not name.endswith(b"/")] if names.folders else found
        )
        for name, why in _UNREADABLE.findall(said):
            path = os.fsencode(name)
            if path.startswith(before):
                names.left_out[above + path[len(before) :]] = why
        if said.endswith("unread index"):
            path = above + GIT
            names.left_out[path] = "its index can't be read: tracked files that it ignores"
        return names


def ignored_by(
    shadow: Shadow, folder: Path, rules: Mapping[bytes, bytes], paths: Collection[bytes]
) -> set[bytes]:
    """Which of ``paths`` would be ignored with these ``.gitignore`` files (path to content) instead
    of the present ones. Raises SnapshotError, OSError."""
    top = project_root(folder)
    git = git_folder(top)
    under = os.fsencode(os.path.relpath(folder, top))
    before = b"" if under == b"." else under + b"/"
    with tempfile.TemporaryDirectory(prefix="kimi-ignore-") as scratch:
        work, excludes = os.path.join(scratch, "work"), os.path.join(scratch, "excludes")
        os.mkdir(work)
        for path, content in rules.items():
            target = os.path.join(os.fsencode(work), before + path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                file.write(content)
        with open(excludes, "wb") as file:
            file.write(read_small(Path(shadow.excludes() or _default_excludes())) + b"\n")
            file.write(read_small(git.exclude) if git else b"")
        output = shadow.run(
            ["-c", f"core.excludesFile={excludes}", "check-ignore", "--no-index", "-z", "--stdin"],
            given=b"".join(before + path + b"\0" for path in paths),
            # It takes no pathspec, and refuses to hear that they are literal.
            env={"GIT_WORK_TREE": work, "GIT_LITERAL_PATHSPECS": "0"},
            codes=(0, 1),
        )
    return {path[len(before) :] for path in output.split(b"\0")[:-1]}


def is_foreign(path: bytes) -> bool:
    """Whether a name is not one a snapshot may hold: git's own data, or a name out of a damaged
    index that leads elsewhere."""
    parts = path.lower().split(b"/")
    return GIT in parts or b".." in parts or b"." in parts or b"" in parts


def is_under(path: bytes, places: Iterable[bytes] | Mapping[bytes, str]) -> bool:
    """Whether the path is one of the places or lies below one; "" is the folder itself."""
    known = places if isinstance(places, (dict, set, frozenset)) else set(places)
    if not known:
        return False
    if b"" in known or path in known:
        return True
    while (cut := path.rfind(b"/")) > 0:
        path = path[:cut]
        if path in known:
            return True
    return False


def _default_excludes() -> str:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "git", "ignore")


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False

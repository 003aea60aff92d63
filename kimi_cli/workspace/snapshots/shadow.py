"""A git repository of our own that holds the snapshots of one folder.

It is driven by the git program through gitpython, and isolated: the user's and the machine's
configuration is not read, the shadow's own has no hooks, filters or attributes. The user's
repository lends only its index file, read with the shadow as git's folder, so nothing its
configuration names can run.

A snapshot is a commit without a parent, so that expiring one frees what only it holds. Its tree
has, at the top, a folder for each set of permission bits (octal; ``link`` for symlinks), because
git itself knows two: ``644/src/a.py``. All entries are plain blobs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from stat import S_IFREG, S_IMODE, S_ISLNK
from typing import TYPE_CHECKING

from kimi_cli.workspace.programs import find_trusted
from kimi_cli.workspace.snapshots.model import LINK, Entry, SnapshotError

if TYPE_CHECKING:
    from git.cmd import Git

REFS = "refs/snapshots/"

# Written last: without it the making was interrupted.
_COMPLETE = "kimi-complete"
_CONFIG = """\
[core]
\thooksPath = /dev/null
\tattributesFile = /dev/null
\tfsmonitor = false
\tuntrackedCache = false
\tautocrlf = false
\tprotectNTFS = false
\tprotectHFS = false
\tlogAllRefUpdates = false
\tcompression = 1
[gc]
\tauto = 0
\twriteCommitGraph = false
[maintenance]
\tauto = false
[pack]
\tcompression = 1
"""


class Shadow:
    """The repository at ``path``; it is made when first needed, in an isolated environment. A git
    program below ``folder``, whose files it keeps, is never run."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self._folder = folder
        self.lock: int | None = None
        """The descriptor of the lock while it is held. Commands that change the shadow inherit it:
        when kimi is killed, nobody else may begin before they have ended."""
        self._excludes: str | None = None

    def make(self) -> None:
        """See that the repository is there, whole. Raises SnapshotError, OSError."""
        if (self.path / _COMPLETE).exists():
            return
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(mode=0o700, parents=True)
        self.run(["init", "--quiet", "--template="], changes=True)
        # Git's own first lines tell what the file system can do.
        with (self.path / "config").open("a", encoding="utf-8") as config:
            config.write(_CONFIG)
        (self.path / _COMPLETE).touch()

    def start(
        self,
        arguments: Sequence[str],
        *,
        writes: bool = False,
        env: Mapping[str, str] | None = None,
        changes: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a git command on the shadow; ``writes`` gives it a pipe as input, ``changes`` is
        for one that changes the shadow. Raises SnapshotError when git can't be started."""
        keep = (self.lock,) if changes and self.lock is not None else ()
        return self._start(arguments, writes, {**self._isolated(), **(env or {})}, keep)

    def _start(
        self,
        arguments: Sequence[str],
        writes: bool,
        env: Mapping[str, str],
        keep: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        try:
            program = find_trusted("git", [self._folder])
        except PermissionError as error:
            raise SnapshotError(str(error)) from None
        # Its import runs git too.
        git = _gitpython()
        command = [program or "git", *arguments]
        try:
            # From a folder inside the work tree, git would list only that one. In a session of its
            # own it does not get the terminal's interrupts.
            wrapped = git(os.sep).execute(
                command,
                istream=subprocess.PIPE if writes else None,
                as_process=True,
                env=env,
                start_new_session=True,
                pass_fds=keep,
            )
        except Exception as error:
            raise SnapshotError(f"git can't be started: {error}") from error
        process = wrapped.proc
        assert process is not None
        # The wrapper would end the process when it is collected; ours have an owner.
        wrapped.proc = None
        return process

    def run(
        self,
        arguments: Sequence[str],
        *,
        given: bytes | None = None,
        env: Mapping[str, str] | None = None,
        codes: Sequence[int] = (0,),
        changes: bool = False,
    ) -> bytes:
        """Run a git command to its end; returns its output. ``codes`` are its good exit statuses.
        ``changes`` as for ``start``. Raises SnapshotError."""
        process = self.start(arguments, writes=given is not None, env=env, changes=changes)
        return finish(process, given=given, codes=codes)[0]

    def excludes(self) -> str:
        """The user's ``core.excludesFile``, or "" for git's default place, which is looked at
        anyway (gitignore(5)). Asked once; reading configuration runs nothing."""
        if self._excludes is None:
            # Whatever the environment says of a repository must not add that one's configuration.
            env = {"GIT_DIR": os.fspath(self.path), "GIT_COMMON_DIR": os.fspath(self.path)}
            arguments = ["config", "--type=path", "-z", "--get", "core.excludesFile"]
            output, _ = finish(self._start(arguments, False, env), codes=(0, 1, 128))
            self._excludes = os.fsdecode(output.rstrip(b"\0"))
        return self._excludes

    def tree(self, commit: str) -> dict[bytes, Entry]:
        """The files of a snapshot. Raises SnapshotError."""
        output = self.run(["ls-tree", "-r", "-z", "--full-tree", commit])
        files: dict[bytes, Entry] = {}
        modes: dict[bytes, int] = {}
        for line in output.split(b"\0")[:-1]:
            head, _, name = line.partition(b"\t")
            top, _, path = name.partition(b"/")
            mode = modes.get(top)
            if mode is None:
                mode = modes[top] = _mode(top)
            files[path] = Entry(mode, head[12:].decode())
        return files

    def refs(self, name: str = "") -> list[tuple[str, str, str]]:
        """Id, commit and message of each snapshot, or of the one called ``name``; oldest first.
        Raises SnapshotError."""
        form = "--format=%(refname)%00%(objectname)%00%(contents)%00"
        output = self.run(["for-each-ref", "--sort=refname", form, REFS + name])
        fields = output.decode("utf-8", errors="replace").split("\0")
        found = zip(fields[0::3], fields[1::3], fields[2::3], strict=False)
        return [(ref.strip().removeprefix(REFS), commit, text) for ref, commit, text in found]

    @contextlib.contextmanager
    def blobs(self) -> Iterator[Blobs]:
        """A reader of contents. Raises SnapshotError."""
        process = self.start(["cat-file", "--batch"], writes=True)
        try:
            yield Blobs(process)
        finally:
            process.kill()
            process.communicate()

    def _isolated(self) -> dict[str, str]:
        own = os.fspath(self.path)
        return {
            "GIT_DIR": own,
            "GIT_COMMON_DIR": own,
            "GIT_OBJECT_DIRECTORY": os.path.join(own, "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
            "GIT_WORK_TREE": own,
            "GIT_INDEX_FILE": os.path.join(own, "no-index"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "0",
            "GIT_CONFIG_PARAMETERS": "",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NAMESPACE": "",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_GLOB_PATHSPECS": "0",
            "GIT_NOGLOB_PATHSPECS": "0",
            "GIT_ICASE_PATHSPECS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_DEFAULT_HASH": "sha1",
            "GIT_DEFAULT_REF_FORMAT": "files",
        }


class Blobs:
    """Contents by name, one after the other."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def read(self, oid: str) -> bytes:
        """Raises SnapshotError when the content is not in the shadow."""
        given, output = self._process.stdin, self._process.stdout
        assert given is not None and output is not None
        try:
            given.write(oid.encode() + b"\n")
            given.flush()
        except OSError as error:
            raise SnapshotError(f"git cat-file ended: {error}") from error
        head = output.readline().split()
        if len(head) != 3 or head[1] != b"blob":
            raise SnapshotError(f"the content {oid} is missing from the snapshots")
        content = output.read(int(head[2]) + 1)
        if len(content) != int(head[2]) + 1:
            raise SnapshotError(f"the content {oid} can't be read from the snapshots")
        return content[:-1]


def finish(
    process: subprocess.Popen[bytes],
    *,
    given: bytes | None = None,
    codes: Sequence[int] = (0,),
    timeout: float | None = None,
) -> tuple[bytes, str]:
    """Wait for a command: its output, and what it said on stderr. Raises SnapshotError for an exit
    status not in ``codes``, TimeoutError after killing it."""
    try:
        output, errors = process.communicate(given, timeout=timeout)
    except BaseException as error:
        process.kill()
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise TimeoutError(f"git took longer than {timeout:g} s") from None
        raise
    said = os.fsdecode(errors).strip()
    if process.returncode not in codes:
        last = said.splitlines()[0] if said else f"exit status {process.returncode}"
        raise SnapshotError(f"git failed: {last}")
    return output, said


def stored(path: bytes, mode: int) -> bytes:
    """The path in a snapshot's tree of a file with this ``st_mode``."""
    top = b"link" if S_ISLNK(mode) else b"%o" % S_IMODE(mode)
    return top + b"/" + path


def _mode(top: bytes) -> int:
    return LINK if top == b"link" else S_IFREG | int(top, 8)


def _gitpython() -> type[Git]:
    try:
        # Takes 0.1 s, and fails where there is no git.
        from git.cmd import Git
    except ImportError as error:
        raise SnapshotError(f"git can't be used: {error}") from error
    return Git

"""What tools may ask of the place they work in: its files and its processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from kimi_cli.protocol.sandbox import NOTHING, Denial, Grant, SandboxState


class FileTouch(BaseModel):
    """A file that a tool call saw or changed.

    ``path`` is absolute. ``digest`` stands for the content afterwards, as :meth:`Files.saw` made
    it (None: deleted). ``partial`` marks a read that did not show the whole file. ``diff`` is a
    unified diff, ``preimage`` the name of the file under the session's folder that keeps the
    former bytes. ``note`` is what the model should hear about how the file was written.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    path: str
    action: Literal["read", "created", "modified", "deleted"]
    digest: str | None = None
    partial: bool = False
    added: int = 0
    removed: int = 0
    diff: str = ""
    preimage: str | None = None
    note: str = ""


class StaleFile(Exception):
    """The file changed since the model last saw it."""


WHOLE_LIMIT = 32 * 2**20
"""Bytes up to which a file is read whole, compared by its content, and can be edited."""


class Files(Protocol):
    """The user's files. Paths given by the model are resolved against the root first; all calls
    are synchronous and may block on a slow disk: tools run them in a thread.

    Symlinks may be changed by others at any moment. ``real`` is where ``path`` led when it was
    judged, as ``settle`` told: that place is worked on, or nothing, wherever the symlinks lead by
    then. Without it they are followed as they are now.
    """

    def resolve(self, path: str) -> Path:
        """Absolute, normalised path for what the model wrote (``~`` expanded, relative to the
        root); symlinks are not followed, the policy does that."""
        ...

    def show(self, path: Path) -> str:
        """The path as people and the model should see it: relative inside the root."""
        ...

    def settle(self, path: Path) -> Path:
        """Where an absolute path leads now, all symlinks followed; it need not exist."""
        ...

    def read(self, path: Path, *, real: Path | None = None) -> bytes:
        """The bytes of a regular file of at most ``WHOLE_LIMIT`` bytes. Raises OSError; a larger
        file, a device, a socket or a FIFO is an OSError too, never a hang."""
        ...

    def open(self, path: Path, *, real: Path | None = None) -> BinaryIO:
        """A regular file of any size, to read from; the caller closes it. Raises as ``read``."""
        ...

    def listing(self, path: Path, limit: int, *, real: Path | None = None) -> Sequence[str]:
        """At most ``limit`` names in a folder, sorted, those of folders with ``/`` at the end.
        Raises OSError."""
        ...

    def saw(self, path: Path, content: bytes | None) -> str:
        """Note that the model has now seen this content of the file (None: a file too large to
        compare, known by its size and time); returns its digest, a SHA-256 in hex, or for the
        large file a stamp of another form."""
        ...

    def seen(self, path: Path) -> bool:
        """Whether the model ever saw, or wrote, the file in this session."""
        ...

    def check_fresh(self, path: Path, content: bytes) -> None:
        """Raise StaleFile when the model saw another content than ``content`` last."""
        ...

    def diff(self, path: Path, before: bytes | None, after: bytes) -> str:
        """The unified diff that ``replace`` would make of the two contents."""
        ...

    def replace(
        self, path: Path, content: bytes, *, expected: bytes | None, real: Path | None = None
    ) -> FileTouch:
        """Write the file atomically: mode, owner and symlink survive, missing folders are made.

        ``expected`` is the content the caller based the new one on (None: the file must not
        exist). Keeps the former bytes as a pre-image, and notes the new content as seen.
        Raises StaleFile when the file is not ``expected`` any more, OSError when it can't be
        written. The touch carries line counts and a unified diff.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """A finished command: ``code`` is its exit status, or None when ``signal`` ended it or it
    was stopped. ``survivors`` are descendants that still run (``pid command``). ``reason`` says why
    it did not end by itself: "stopped", "output limit" (its output grew past it), "kimi ended", or
    "lost" (the process that watched over it was killed, and what was left of the command with it).
    """

    code: int | None
    signal: int | None
    seconds: float
    survivors: Sequence[str] = ()
    reason: str = ""


class Task(Protocol):
    """A command, running or ended. Its output (stdout and stderr together) goes to a file.

    ``shown`` belongs to the shell tool: how many bytes of the output the model was shown.
    ``movable`` is set by whoever waits for the end and can do without it: the user may move the
    command to the background then.
    """

    shown: int
    movable: bool

    @property
    def id(self) -> str: ...

    @property
    def command(self) -> str: ...

    @property
    def output_path(self) -> Path: ...

    @property
    def background(self) -> bool: ...

    @property
    def seconds(self) -> float:
        """How long it has run, or ran."""
        ...

    @property
    def result(self) -> ProcessResult | None:
        """None while it runs."""
        ...

    @property
    def put_back(self) -> Sequence[str]:
        """What was put back of what the command should not have changed, and what to look at of
        what it made: a sentence each, once nothing is left of it."""
        ...

    async def wait(self, timeout: float | None) -> ProcessResult | None:
        """Wait up to ``timeout`` seconds for the end; None when it still runs then, or, as long as
        it is ``movable``, was moved to the background."""
        ...

    async def stop(self, grace: float = 2.0) -> ProcessResult:
        """TERM, and KILL after ``grace`` seconds, to every descendant; returns when none is
        left."""
        ...

    def to_background(self) -> None:
        """From now on the command is listed among the background tasks."""
        ...


class Processes(Protocol):
    """Commands run for the model."""

    async def start(
        self,
        command: str,
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        background: bool = False,
        grant: Grant = NOTHING,
    ) -> Task:
        """Start a shell command, in the sandbox. ``env`` is added to the workspace's environment,
        ``grant`` is what the command may do beyond the sandbox's mode. Raises OSError when it
        can't be started."""
        ...

    @property
    def sandbox(self) -> SandboxState:
        """How commands are confined."""
        ...

    def denial(self, task: Task, output: str) -> Denial | None:
        """What the sandbox refused a command that has ended with a failure (or one that a pipe
        hides), as far as its ``output`` tells; None when the failure is its own."""
        ...

    async def run(
        self, argv: Sequence[str], *, cwd: Path, timeout: float, limit: int
    ) -> tuple[int, bytes, bytes]:
        """Run a program of our own choosing (ripgrep) to its end: exit status, at most ``limit``
        bytes of stdout (the program is stopped when there are more), and of stderr. Raises
        OSError when it can't be started, TimeoutError when it took too long."""
        ...

    def move_to_background(self) -> Sequence[Task]:
        """Make background tasks of the commands in the foreground that are ``movable``; their waits
        end. Returns those that were moved."""
        ...

    def task(self, task_id: str) -> Task | None: ...

    def tasks(self) -> Sequence[Task]:
        """The background tasks of this session, oldest first, ended ones included."""
        ...


class Workspace(Protocol):
    """One place to work in: a root folder, more folders the user added, files and processes."""

    @property
    def root(self) -> Path: ...

    @property
    def folders(self) -> Sequence[Path]:
        """The root and the folders added to it, resolved."""
        ...

    @property
    def files(self) -> Files: ...

    @property
    def processes(self) -> Processes: ...

    def spill(self, name: str, content: bytes) -> Path:
        """Keep a long output in the session's outputs folder under a name that starts with
        ``name``; returns its path."""
        ...

"""What a command may touch, as kimi tells the helper process; and who makes it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from kimi_cli.protocol.sandbox import Denial, Grant, SandboxMode, SandboxState, Way
from kimi_cli.protocol.workspace import Task


@dataclass(frozen=True, slots=True)
class Box:
    """The limits of one command. All paths are absolute, resolved (no symlinks), without a ``/``
    at the end; one that does not exist when the command starts is left out.

    ``write``: files and folders it may change, in the mode "read-only" too (temp, grants).
    ``pinned``: folders among them that it can't rename or replace. ``read_only``: what stays as it
    is inside ``write``. ``hidden``: files and folders that it sees empty, ``shown``: paths inside
    them that it may read all the same. ``overlays``: ``(target, upper, work)``: the folder
    ``target`` is seen with all changes going to the folder ``upper``, ``work`` being an empty one
    beside it. ``temp``: folders among ``write`` that other programs use too: it can't connect to
    the unix sockets they listen on there. ``session`` names those whose commands share a private
    network. Of several that hold for a path, the one named deepest in the tree does.
    """

    way: Way
    mode: SandboxMode
    network: bool = False
    write: tuple[bytes, ...] = ()
    pinned: tuple[bytes, ...] = ()
    read_only: tuple[bytes, ...] = ()
    hidden: tuple[bytes, ...] = ()
    shown: tuple[bytes, ...] = ()
    overlays: tuple[tuple[bytes, bytes, bytes], ...] = ()
    temp: tuple[bytes, ...] = ()
    session: bytes = b""

    def as_dict(self) -> dict[str, Any]:
        """The same of marshal's plain types, for the order to the helper."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Probe:
    """What this machine can enforce, found out by doing it.

    ``way`` is the best that works; ``lacks`` names in words what it can't hold, ``why`` what stood
    in the way of a better one. ``landlock_abi`` is 0 where the kernel has none. ``overlays`` tells
    whether private cache layers work, ``program`` is the path of bubblewrap, if that is the way.
    ``seconds`` is what finding out took.
    """

    way: Way
    lacks: tuple[str, ...] = ()
    why: str = ""
    landlock_abi: int = 0
    overlays: bool = False
    program: str = ""
    seconds: float = 0.0


Weaker = Literal["", "bubblewrap", "landlock", "none"]
"""The best way a probe may find; empty leaves it free."""


class Confinement(Protocol):
    """Makes the boxes of a session's commands, and knows what became of them."""

    @property
    def state(self) -> SandboxState: ...

    def box(self, cwd: Path, grant: Grant) -> Box | None:
        """The limits of a command about to start in ``cwd``; None to run it without any. Raises
        OSError when it can't be confined as it must."""
        ...

    def writable(self) -> Sequence[Path]:
        """Folders beside the workspace that every command may change."""
        ...

    def hidden(self) -> Sequence[Path]:
        """What commands see empty."""
        ...

    def guarded(self) -> Sequence[Path]:
        """What stays as it is although it lies in a folder they may change, whether it exists or
        not; resolved."""
        ...

    def close(self) -> None:
        """Give back what the boxes took on this machine."""
        ...

    def environment(self, grant: Grant) -> Mapping[str, str]:
        """Variables that a confined command gets beside its own."""
        ...

    def before(self, task_number: int, box: Box) -> None:
        """A command is about to start."""
        ...

    def after(self, task_number: int) -> Sequence[str]:
        """The command and all of its descendants have ended, or it never started. Returns what was
        put back of what it should not have changed, in words."""
        ...

    def denial(self, task: Task, box: Box, output: str) -> Denial | None:
        """What the box refused the command, as far as its ``output`` tells."""
        ...

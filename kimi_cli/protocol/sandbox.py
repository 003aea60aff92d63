"""What a command may do to the machine: the sandbox's modes, and what goes beyond them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SandboxMode = Literal["read-only", "workspace-write", "off"]
Way = Literal["namespaces", "bubblewrap", "landlock", "seatbelt", "none"]
"""How commands are confined; ``landlock`` alone is the degraded form, ``none`` is not at all."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one command may do beyond the sandbox's mode. ``write`` and ``read`` are absolute paths:
    folders with all below them, or single files; ``read`` shows what is hidden otherwise.
    ``unconfined`` runs it without a sandbox."""

    network: bool = False
    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    unconfined: bool = False

    def __or__(self, other: Grant) -> Grant:
        return Grant(
            self.network or other.network,
            tuple(dict.fromkeys((*self.write, *other.write))),
            tuple(dict.fromkeys((*self.read, *other.read))),
            self.unconfined or other.unconfined,
        )

    def __bool__(self) -> bool:
        return self != NOTHING

    def covers(self, other: Grant) -> bool:
        """Whether all that ``other`` allows is allowed already."""
        return self.unconfined or self | other == self

    def words(self) -> str:
        """For people and for the model, as in "with network access, writing to /opt/x"."""
        if self.unconfined:
            return "outside the sandbox"
        parts = ["with network access"] if self.network else []
        parts += [f"writing to {path}" for path in self.write]
        parts += [f"reading {path}" for path in self.read]
        return ", ".join(parts)


NOTHING = Grant()


@dataclass(frozen=True, slots=True)
class Denial:
    """A failure that the sandbox caused: ``reason`` says in a clause what it refused, ``grant`` is
    exactly what would have let it happen, None when nothing may (kimi's own folder)."""

    reason: str
    grant: Grant | None


@dataclass(frozen=True, slots=True)
class SandboxState:
    """What holds for the commands of a session. ``lacks`` names in words what this machine can't
    enforce (empty in the full form); ``why`` says what stood in the way of a better form."""

    mode: SandboxMode
    way: Way
    network: bool = False
    lacks: tuple[str, ...] = ()
    why: str = ""

    @property
    def degraded(self) -> bool:
        return self.mode != "off" and bool(self.lacks)


UNCONFINED = SandboxState("off", "none", network=True)

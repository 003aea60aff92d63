"""What a tool call may do: one decision for every tool, made before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Protocol

from kimi_cli.protocol.tools import Intent

Verdict = Literal["allow", "ask", "deny"]


@dataclass(frozen=True, slots=True)
class Decision:
    """``reason`` is written for the model and for people: what stands in the way, in a clause."""

    verdict: Verdict
    reason: str = ""


class Policy(Protocol):
    """Judges what a call wants; the strictest part decides."""

    def decide(self, tool: str, intents: Sequence[Intent]) -> Decision: ...


ALLOW = Decision("allow")
SECRETS = (
    *(".env", ".env.*", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".netrc", ".pgpass", ".npmrc", ".pypirc"),
    ".git-credentials",
)
"""As the search tools leave them out (tools/ripgrep.py)."""


class AllowAll:
    """``--yolo``: nothing is asked."""

    def decide(self, tool: str, intents: Sequence[Intent]) -> Decision:
        return ALLOW


class WorkspaceOnly:
    """Reading and editing inside the given folders is free; everything else asks.

    Paths are judged by where they really lead: symlinks are resolved first. ``protected`` are
    folders that may be read but not changed although they lie inside (``.git``, ``.kimi``), in
    any case of letters, since some file systems see none. ``private`` folders are outside
    wherever they lie, but for what is ``readable``.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        readable: Sequence[Path] = (),
        protected: Sequence[str],
        private: Sequence[Path] = (),
    ) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._readable = [folder.resolve() for folder in readable]
        self._protected = frozenset(name.casefold() for name in protected)
        self._private = [folder.resolve() for folder in private]

    def decide(self, tool: str, intents: Sequence[Intent]) -> Decision:
        for intent in intents:
            reason = self._objection(intent)
            if reason:
                return Decision("ask", reason)
        return ALLOW

    def _objection(self, intent: Intent) -> str:
        if intent.kind == "execute":
            return "shell commands need approval"
        path = Path(intent.target)
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:
            return f"{path} can't be resolved: {error}"
        home = next((f for f in self._folders if real.is_relative_to(f)), None)
        if intent.kind == "read" and any(real.is_relative_to(f) for f in self._readable):
            return ""
        if any(real.is_relative_to(f) for f in self._private):
            return f"{path} belongs to kimi itself"
        if home is None:
            return f"{path} is outside the workspace"
        if intent.kind == "read":
            return self._hides(path, real)
        if self._protected.intersection(p.casefold() for p in real.relative_to(home).parts):
            return f"{path} is protected"
        return ""

    def _hides(self, path: Path, real: Path) -> str:
        """Why reading (or searching) inside the workspace is no free matter."""
        if any(folder.is_relative_to(real) for folder in self._private):
            return f"{path} contains kimi's own folder: choose one below it"
        if is_secret(real.name):
            return f"{path} may hold secrets"
        return ""


def is_secret(name: str) -> bool:
    """Whether files of this name hold keys or passwords by custom; examples of them don't."""
    name = name.casefold()
    if name.endswith((".example", ".sample", ".template", ".pub")):
        return False
    return any(fnmatchcase(name, pattern) for pattern in SECRETS)

"""Which paths a call may read and change, before any rule of the user's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

SECRETS = (
    *(".env", ".env.*", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".netrc", ".pgpass", ".npmrc", ".pypirc"),
    ".git-credentials",
)
"""As the search tools leave them out (tools/ripgrep.py)."""
_PROCESS = re.compile(r"/proc/(\d+|self|thread-self)(/|$)")
EXAMPLES = (".example", ".sample", ".template", ".pub")


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a path is no free matter. ``never``: nobody can allow it. ``outside``: the sandbox would
    hold a command off it as well."""

    reason: str
    never: bool = False
    outside: bool = False


class Places:
    """Paths judged by where they really lead: symlinks are resolved first.

    ``folders`` are the workspace. ``writable`` may be changed beside them (temp). ``protected`` are
    names of folders that may be read but not changed although they lie inside (``.git``,
    ``.kimi``), in any case of letters, since some file systems see none; ``guarded`` tells of more
    files and folders that are (absolute, resolved), asked each time. ``private`` folders are
    kimi's own, wherever they lie, but for what is ``readable``. ``hidden`` is what commands in the
    sandbox don't see; None where there is no sandbox, and then all outside is asked for.
    ``secrets`` are patterns of names beside the built-in ones.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        writable: Sequence[Path] = (),
        readable: Sequence[Path] = (),
        protected: Sequence[str] = (),
        guarded: Callable[[], Sequence[Path]] = tuple,
        private: Sequence[Path] = (),
        hidden: Sequence[Path] | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._writable = [folder.resolve() for folder in writable]
        self._readable = [folder.resolve() for folder in readable]
        self._protected = frozenset(name.casefold() for name in protected)
        self._guarded = guarded
        self._private = [folder.resolve() for folder in private]
        self._hidden = None if hidden is None else [folder.resolve() for folder in hidden]
        self._secrets = tuple(secrets)

    def objection(
        self, kind: Literal["read", "write"], path: Path, real: Path | None = None
    ) -> Objection | None:
        """What stands in the way of reading, searching or changing ``path``; None: nothing.
        ``real`` is where it leads, if that is known."""
        try:
            real = real or path.resolve()
        except (OSError, RuntimeError) as error:
            return Objection(f"{path} can't be resolved: {error}", outside=True)
        if kind == "read" and _below(real, self._readable):
            return None
        if _below(real, self._private):
            return Objection(f"{path} belongs to kimi itself", never=True)
        home = next((folder for folder in self._folders if real.is_relative_to(folder)), None)
        if kind == "read":
            return self._reading(path, real, home)
        if home is None:
            if _below(real, self._writable):
                return None
            return Objection(f"{path} is outside the workspace", outside=True)
        if self._protected.intersection(p.casefold() for p in real.relative_to(home).parts):
            return Objection(f"{path} is protected", outside=True)
        if _below(real, self._hidden_from(home)):
            return Objection(f"{path} is where secrets are kept", outside=True)
        if any(_within(real, guarded) for guarded in self._guarded()):
            return Objection(f"{path} decides which programs run", outside=True)
        return None

    def is_secret(self, name: str) -> bool:
        """Whether files of this name hold keys or passwords by custom; examples of them don't."""
        name = name.casefold()
        if name.endswith(EXAMPLES):
            return False
        return any(fnmatchcase(name, pattern) for pattern in (*SECRETS, *self._secrets))

    def _hidden_from(self, home: Path | None) -> Sequence[Path]:
        """The hidden places; of those around a workspace it is not a part."""
        hidden = self._hidden or ()
        return [p for p in hidden if home is None or not home.is_relative_to(p)]

    def _reading(self, path: Path, real: Path, home: Path | None) -> Objection | None:
        if any(folder.is_relative_to(real) for folder in self._private):
            return Objection(f"{path} contains kimi's own folder: choose one below it")
        if _PROCESS.match(str(real)):
            return Objection(f"{path} shows what a process holds, keys too", outside=True)
        if home is None and self._hidden is None and not _below(real, self._writable):
            return Objection(f"{path} is outside the workspace")
        if _below(real, self._hidden_from(home)):
            return Objection(f"{path} is where secrets are kept", outside=True)
        if self.is_secret(real.name):
            return Objection(f"{path} may hold secrets")
        return None


def _below(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _within(path: Path, folder: Path) -> bool:
    """As ``is_relative_to``, in any case of letters."""
    inner, outer = str(path).casefold(), str(folder).casefold()
    return inner == outer or inner.startswith(outer + "/")

"""Which folders the user trusts: a list under KIMI_HOME, one JSON string a line."""

import os
from pathlib import Path

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.files import read_text, write_private

TRUSTED = "trusted-folders"


def is_trusted(home: Path, root: Path) -> bool:
    """Whether the user trusts exactly this folder, or it is a git worktree of a repository that
    the user trusts. Folders inside a trusted one are not: another repository may lie there."""
    trusted = _trusted(home)
    if not trusted:
        return False
    real = Path(os.path.realpath(root))
    if str(real) in trusted:
        return True
    repository = repository_of(real)
    return repository is not None and str(repository) in trusted


def trust(home: Path, root: Path) -> None:
    """Add the folder to the list. Raises OSError."""
    real = os.path.realpath(root)
    if real in _trusted(home):
        return
    import json

    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    # One appended line at a time: two processes can't lose each other's entry. The newline in
    # front guards against a hand-edited file that ends without one.
    descriptor = os.open(home / TRUSTED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, b"\n" + json.dumps(real).encode() + b"\n")
    finally:
        os.close(descriptor)


def distrust(home: Path, root: Path) -> bool:
    """Take the folder from the list; whether it was there. Raises OSError."""
    import json

    real = os.path.realpath(root)
    rest = sorted(_trusted(home) - {real})
    known = real in _trusted(home)
    if known:
        lines = "".join(json.dumps(folder) + "\n" for folder in rest)
        write_private(home / TRUSTED, lines.encode())
    return known


def trusted_folders(home: Path) -> list[str]:
    """The folders on the list, sorted."""
    return sorted(_trusted(home))


def _trusted(home: Path) -> set[str]:
    try:
        lines = (home / TRUSTED).read_bytes().splitlines()
    except OSError:
        return set()
    import json

    found = set()
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, str):
            found.add(entry)
    return found


def repository_of(root: Path) -> Path | None:
    """The work tree whose repository has registered ``root`` as one of its worktrees.

    A ``.git`` file can be forged; that the repository points back cannot, without write access
    to it (see gitrepository-layout(5): ``worktrees/<id>/gitdir``).
    """
    try:
        pointer = read_text(root / ".git") or ""
        if not pointer.startswith("gitdir:"):
            return None
        entry = Path(os.path.realpath(root / pointer.removeprefix("gitdir:").strip()))
        back = os.path.realpath(entry / (read_text(entry / "gitdir") or "").strip())
    except (SettingsError, ValueError):
        return None
    repository = entry.parent.parent
    registered = entry.parent.name == "worktrees" and repository.name == ".git"
    return repository.parent if registered and back == str(root / ".git") else None

"""Which folders the user trusts, and which not: lists under KIMI_HOME, one JSON string a line."""

import os
from pathlib import Path

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.files import read_text, write_private

TRUSTED = "trusted-folders"
DECLINED = "declined-folders"


def is_trusted(home: Path, root: Path) -> bool:
    """Whether the user trusts exactly this folder, or it is a git worktree of a repository that
    the user trusts. Folders inside a trusted one are not: another repository may lie there."""
    return _holds(_listed(home, TRUSTED), root)


def is_declined(home: Path, root: Path) -> bool:
    """Whether the user said not to trust this folder, and need not be asked again; for worktrees as
    in ``is_trusted``."""
    return _holds(_listed(home, DECLINED), root)


def trust(home: Path, root: Path) -> None:
    """Add the folder to the list; a former refusal is void. Raises OSError, SettingsError."""
    _remove(home, DECLINED, root)
    _add(home, TRUSTED, root)


def decline(home: Path, root: Path) -> None:
    """Keep that the user doesn't trust the folder. Raises OSError, SettingsError."""
    _remove(home, TRUSTED, root)
    _add(home, DECLINED, root)


def distrust(home: Path, root: Path) -> bool:
    """Take the folder from the list; whether it was there. A kept refusal goes as well, so that
    the user is asked again. Raises OSError, SettingsError."""
    _remove(home, DECLINED, root)
    return _remove(home, TRUSTED, root)


def trusted_folders(home: Path) -> list[str]:
    """The folders on the list, sorted."""
    return sorted(_listed(home, TRUSTED))


def declined_folders(home: Path) -> list[str]:
    """The folders that the user said not to trust, sorted."""
    return sorted(_listed(home, DECLINED))


def _holds(folders: set[str], root: Path) -> bool:
    if not folders:
        return False
    real = Path(os.path.realpath(root))
    if str(real) in folders:
        return True
    repository = repository_of(real)
    return repository is not None and str(repository) in folders


def _add(home: Path, name: str, root: Path) -> None:
    real = os.path.realpath(root)
    if real in _listed(home, name):
        return
    import json

    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    # One appended line at a time: two processes can't lose each other's entry. The newline in
    # front guards against a hand-edited file that ends without one.
    descriptor = os.open(home / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, b"\n" + json.dumps(real).encode() + b"\n")
    finally:
        os.close(descriptor)


def _remove(home: Path, name: str, root: Path) -> bool:
    import json

    real = os.path.realpath(root)
    folders = _listed(home, name)
    if real not in folders:
        return False
    lines = "".join(json.dumps(folder) + "\n" for folder in sorted(folders - {real}))
    write_private(home / name, lines.encode())
    return True


def _listed(home: Path, name: str) -> set[str]:
    try:
        lines = (home / name).read_bytes().splitlines()
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

"""Where settings files are, and reading and writing them safely."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from kimi_cli.settings.errors import SettingsError

CONFIG = "config.toml"
PROJECT_FOLDER = ".kimi"
MAX_BYTES = 1_000_000


def user_home(env: Mapping[str, str]) -> Path | None:
    """The user's home folder: $HOME, else the password database, else None."""
    if env.get("HOME"):
        return Path(env["HOME"])
    import pwd

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def kimi_home(env: Mapping[str, str]) -> Path:
    """Where `kimi` keeps its own files: $KIMI_HOME, else ~/.kimi-cli, else, for a user without a
    home, a private folder in the temporary folder. Only the last is created here."""
    home = user_home(env)
    if env.get("KIMI_HOME"):
        return expand(env["KIMI_HOME"], home).absolute()
    return (home / ".kimi-cli").absolute() if home else _private_temp()


def _private_temp() -> Path:
    import tempfile

    path = Path(tempfile.gettempdir()) / f"kimi-cli-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        # Somebody else could have put the folder there, with settings of theirs in it.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o22:
            return path
        return Path(tempfile.mkdtemp(prefix="kimi-cli-"))
    except OSError:
        return path


def expand(path: str, home: Path | None) -> Path:
    """``path`` with a leading ``~`` replaced."""
    if home and (path == "~" or path.startswith("~/")):
        return home / path[2:]
    return Path(path)


def user_file(env: Mapping[str, str]) -> Path:
    return kimi_home(env) / CONFIG


def project_file(env: Mapping[str, str], root: Path | None) -> Path | None:
    """The project's settings file, whether it exists or not. None where ``.kimi`` is not ours to
    read: in the user's home, where it belongs to another program, and where it is KIMI_HOME."""
    if root is None:
        return None
    folder = root / PROJECT_FOLDER
    home = user_home(env)
    taken = [kimi_home(env), *([home / PROJECT_FOLDER] if home else [])]
    real = os.path.realpath(folder)
    return None if real in map(os.path.realpath, taken) else folder / CONFIG


def check_inside(path: Path, root: Path) -> None:
    """Raise SettingsError when symlinks lead ``path`` out of ``root``."""
    real, real_root = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if not real.is_relative_to(real_root):
        raise SettingsError(f"{path}: leads out of the project, to {real}")


def read_text(path: Path) -> str | None:
    """The text of a settings file, None when there is none. Never blocks; raises SettingsError
    for anything but a readable regular UTF-8 file of at most MAX_BYTES."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SettingsError(f"{path}: is not a regular file")
    with open(descriptor, "rb") as file:
        try:
            data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise SettingsError(f"{path}: is larger than {MAX_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SettingsError(f"{path}, line {line}: is not UTF-8 text") from error


def write_private(path: Path, data: bytes) -> None:
    """Replace the file in one step, readable by its owner only; a symlink stays and what it
    points to is replaced. Raises SettingsError when it can't be written."""
    import tempfile

    target = Path(os.path.realpath(path))
    temporary = None
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, target)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise SettingsError(f"{path}: cannot be written: {error.strerror}") from error

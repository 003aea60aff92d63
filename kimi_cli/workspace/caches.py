"""Private layers over the user's caches: builds find what is warm, and can't change it.

A cache that a command could write would be a way out: what one puts there, the user's own builds
run tomorrow. So all changes go to a folder of the project under KIMI_HOME.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cache:
    """A tool's cache: where it is in the home folder, the variable that moves it (empty: none), and
    what below the variable's folder is the cache. ``online``: moved only for commands that have
    the network, as nothing but a warm one is of use without, and reading it needs no writing."""

    name: str
    place: str
    variable: str = ""
    below: str = ""
    online: bool = False


CACHES = (
    # XDG Base Directory Specification: pip, uv, Go builds, pnpm, Yarn, Playwright, Hugging Face ...
    Cache("xdg", ".cache", "XDG_CACHE_HOME"),
    Cache("npm", ".npm", "npm_config_cache"),
    Cache("go-modules", "go/pkg/mod", "GOMODCACHE", online=True),
    Cache("cargo-registry", ".cargo/registry", "CARGO_HOME", "registry", online=True),
    Cache("cargo-git", ".cargo/git", "CARGO_HOME", "git", online=True),
    Cache("maven", ".m2/repository"),
    Cache("gradle", ".gradle", "GRADLE_USER_HOME"),
    Cache("ivy", ".ivy2"),
    Cache("sbt", ".sbt"),
    Cache("nuget", ".nuget/packages", "NUGET_PACKAGES"),
    Cache("pnpm", ".local/share/pnpm/store"),
    Cache("yarn", ".yarn/berry"),
    Cache("bun", ".bun/install/cache", "BUN_INSTALL_CACHE_DIR"),
    Cache("virtualenv", ".local/share/virtualenv"),
    Cache("conda", ".conda/pkgs", "CONDA_PKGS_DIRS"),
    Cache("composer", ".composer/cache", "COMPOSER_CACHE_DIR"),
    Cache("pub", ".pub-cache", "PUB_CACHE"),
    Cache("ccache", ".ccache", "CCACHE_DIR"),
    Cache("cuda", ".nv/ComputeCache", "CUDA_CACHE_PATH"),
    Cache("triton", ".triton/cache", "TRITON_CACHE_DIR"),
)
# Caches in the XDG folder with a variable of their own, set where that folder can't be layered.
_WITHIN_XDG = {
    "PIP_CACHE_DIR": "pip",
    "UV_CACHE_DIR": "uv",
    "GOCACHE": "go-build",
    "YARN_CACHE_FOLDER": "yarn",
}
# Large, and read far more than written: these stay where they are when their parent is moved.
_STAY = {
    "HF_HOME": "huggingface",
    "TORCH_HOME": "torch",
    "PLAYWRIGHT_BROWSERS_PATH": "ms-playwright",
    "PUPPETEER_CACHE_DIR": "puppeteer",
    "CYPRESS_CACHE_FOLDER": "Cypress",
}
_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Layers:
    """What a command gets: ``overlays`` are ``(target, upper, work)``; ``write`` are private
    folders and ``variables`` lead to them where there is no overlay, ``online`` those for commands
    with the network alone."""

    overlays: tuple[tuple[Path, Path, Path], ...] = ()
    write: tuple[Path, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    online: tuple[tuple[str, str], ...] = ()


class Slot:
    """A folder under KIMI_HOME/caches that this session alone uses: two overlays with one upper
    folder would spoil each other. Free again at ``close``, or when the process ends."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def take_slot(home: Path, project: Path) -> Slot:
    """The first free slot of the project (its resolved root), so that a session finds what an
    earlier one kept. Raises OSError when KIMI_HOME can't be written or all are taken."""
    folder = home / "caches" / project_name(project)
    for number in range(1, _SLOTS + 1):
        place = folder / str(number)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        # Gone from under us when old ones were removed just now.
        if not _same(lock, place / "lock"):
            os.close(lock)
            return take_slot(home, project)
        os.utime(place / "lock")
        return Slot(place, lock)
    raise OSError(f"{folder}: all of the {_SLOTS} private cache folders are in use")


def project_name(project: Path) -> str:
    """A folder name for the project: readable, and its own."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", project.name).strip("-.")[:40]
    digest = hashlib.sha256(os.fsencode(project)).hexdigest()[:12]
    return f"{readable or 'root'}-{digest}"


def prune_slots(home: Path, days: float, now: float) -> int:
    """Remove what no session used for ``days`` at ``now`` (seconds since the epoch); returns how
    many slots went. What can't be removed stays."""
    removed = 0
    for lock_path in sorted((home / "caches").glob("*/*/lock")):
        with contextlib.suppress(OSError):
            if lock_path.stat().st_mtime > now - days * 86_400:
                continue
            lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock_path.parent)
                removed += 1
            finally:
                os.close(lock)
            lock_path.parent.parent.rmdir()
    return removed


def make_layers(
    slot: Path,
    *,
    user_home: Path,
    env: Mapping[str, str],
    overlays: bool,
    own: Sequence[Path] = (),
) -> Layers:
    """The private layers in ``slot``; folders they need are made. ``overlays``: whether this
    machine can lay one folder over another. Caches inside ``own``, folders that commands may write
    anyway, are left alone. Raises OSError."""
    over: list[tuple[Path, Path, Path]] = []
    write: list[Path] = []
    variables: dict[str, str] = {}
    online: dict[str, str] = {}
    for cache in CACHES:
        target = _target(cache, user_home, env)
        if any(target.is_relative_to(folder) or folder.is_relative_to(target) for folder in own):
            continue
        if cache.name == "xdg" and not env.get("UV_LINK_MODE"):
            # A layer is a mount of its own, and no hard link leads out of that: uv would try, and
            # warn of it at each install.
            variables["UV_LINK_MODE"] = "copy"
        there = target.is_dir()
        if overlays and there:
            upper, work = _made(slot / "layers" / cache.name, slot / "work" / cache.name)
            over.append((target, upper, work))
        elif cache.variable and (there or cache.name == "xdg"):
            (private,) = _made(slot / "private" / cache.variable)
            write.append(private)
            found = _moved(cache, target, private)
            (online if cache.online else variables).update(found)
    return Layers(
        tuple(over),
        tuple(dict.fromkeys(write)),
        tuple(variables.items()),
        tuple(online.items()),
    )


def _moved(cache: Cache, target: Path, private: Path) -> dict[str, str]:
    """The variables that lead a tool to a private folder."""
    found = {cache.variable: str(private / cache.below)}
    if cache.variable == "CARGO_HOME":
        found = {cache.variable: str(private)}
    if cache.name == "xdg":
        found |= {name: str(private / below) for name, below in _WITHIN_XDG.items()}
        found |= {n: str(target / b) for n, b in _STAY.items() if (target / b).is_dir()}
    return found


def _target(cache: Cache, user_home: Path, env: Mapping[str, str]) -> Path:
    """Where the cache is, resolved; the variable has the last word."""
    set_to = env.get(cache.variable, "") if cache.variable else ""
    if cache.name == "go-modules" and not set_to and env.get("GOPATH"):
        set_to = os.path.join(env["GOPATH"].split(os.pathsep)[0], "pkg/mod")
    path = os.path.join(set_to, cache.below) if os.path.isabs(set_to) else user_home / cache.place
    return Path(os.path.realpath(path))


def _made(*folders: Path) -> list[Path]:
    for folder in folders:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [Path(os.path.realpath(folder)) for folder in folders]


def _same(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False


def _remove(folder: Path) -> None:
    """Remove a tree in which there may be folders without any rights: an overlay's work folder,
    Go's modules."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder)

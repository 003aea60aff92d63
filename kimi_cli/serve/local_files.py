"""Where a model's files are on this computer: a folder, or the cache of Hugging Face.

Nothing is ever downloaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
_REPO = re.compile(r"[\w.-]+/[\w.-]+\Z", re.ASCII)
_HEADER_MOST = 100_000_000
"""The longest header that the format allows (safetensors README, "Format")."""


class ReadError(ValueError):
    """A model's files can't be read, with the reason in words for the user."""


@dataclass(frozen=True, slots=True)
class Weights:
    """`complete` says that every file of the checkpoint is here; `bytes` is 0 when unknown."""

    bytes: int
    complete: bool


def model_folder(name: str, env: Mapping[str, str]) -> Path | None:
    """The folder with the files of a model named by a path or by its id at Hugging Face; None
    where there is none. Raises ReadError for a path that leads to no model."""
    path = _path(name, env)
    if path is not None:
        if not (path / CONFIG).is_file():
            what = f"has no {CONFIG}" if path.is_dir() else "is no folder"
            raise ReadError(f"{path} {what}")
        return path
    return cached(name, env) if _REPO.match(name) else None


def cached(repo: str, env: Mapping[str, str]) -> Path | None:
    """The snapshot of a repository in Hugging Face's cache: that of `main`, else the newest."""
    root = hub_cache(env) / ("models--" + repo.replace("/", "--"))
    snapshots = root / "snapshots"
    found = []
    with suppress(OSError, UnicodeDecodeError):
        found.append(snapshots / (root / "refs" / "main").read_text().strip())
    with suppress(OSError):
        found += sorted(snapshots.iterdir(), key=lambda one: -one.stat().st_mtime_ns)
    return next((one for one in found if (one / CONFIG).is_file()), None)


def hub_cache(env: Mapping[str, str]) -> Path:
    """Where Hugging Face keeps repositories (huggingface_hub, "Environment variables")."""
    home = Path(env.get("HOME") or Path.home())
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := env.get(name):
            return _expanded(value, home)
    if value := env.get("HF_HOME"):
        return _expanded(value, home) / "hub"
    return Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "huggingface" / "hub"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ReadError."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ReadError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ReadError(f"{path} is no JSON") from None
    if not isinstance(value, dict):
        raise ReadError(f"{path} is no JSON object")
    return value


def weights(folder: Path) -> Weights:
    """How big the checkpoint in a folder is: with every file here, what follows their headers, else
    what the index says the tensors take. Raises ReadError for an index that can't be read."""
    index = folder / INDEX
    if not index.is_file():
        sizes = [_whole(path) for path in sorted(folder.glob("*.safetensors"))]
        return Weights(sum(filter(None, sizes)), bool(sizes) and None not in sizes)
    content = read_json(index)
    places, metadata = content.get("weight_map"), content.get("metadata")
    names = sorted(set(map(str, places.values()))) if isinstance(places, dict) else []
    said = metadata.get("total_size") if isinstance(metadata, dict) else None
    total = said if isinstance(said, int) and said > 0 else 0
    sizes = [_size(folder / name) for name in names]
    if not names or None in sizes:
        return Weights(total, False)
    here = sum(filter(None, sizes))
    # An index kept from before a checkpoint was made smaller says too much; only the files tell.
    if here < total and None in [_whole(folder / name) for name in names]:
        return Weights(total, False)
    return Weights(here, True)


def _size(path: Path) -> int | None:
    """What follows the header of a safetensors file, in bytes; None when there is no such file."""
    read = _header(path)
    return None if read is None else read[0]


def _whole(path: Path) -> int | None:
    """The same; None also for a file that is cut off."""
    read = _header(path)
    if read is None:
        return None
    size, header = read
    try:
        tensors = [one for name, one in json.loads(header).items() if name != "__metadata__"]
        end = max((int(one["data_offsets"][1]) for one in tensors), default=0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    return size if end <= size else None


def _header(path: Path) -> tuple[int, bytes] | None:
    """How many bytes follow the header, and the header: 8 bytes of its length, then JSON
    (safetensors README, "Format")."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(_HEADER_MOST, size - 8):
                return None
            return size - 8 - length, file.read(length)
    except OSError:
        return None


def _path(name: str, env: Mapping[str, str]) -> Path | None:
    """The name as a path, where it can only be one or leads to a folder."""
    path = _expanded(name, Path(env.get("HOME") or Path.home()))
    if path.is_absolute() or name.startswith(("./", "../")) or name in (".", ".."):
        return path
    return path if (path / CONFIG).is_file() else None


def _expanded(name: str, home: Path) -> Path:
    return home / name[2:] if name.startswith("~/") else home if name == "~" else Path(name)

"""Exact counting with a model's own tokenizer, where its files are on this machine.

Kimi models carry a ``tiktoken.model`` (a token in base64 and its rank a line) and a Python file
with the split pattern and the special tokens. That file is never run: the pattern is here, and the
names of the special tokens are read from tokenizer_config.json.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.model.tokens import Counter

if TYPE_CHECKING:
    import tiktoken

log = logging.getLogger(__name__)

FILE = "tiktoken.model"
SPECIAL_TOKENS = 256
"""Places for special tokens behind the ordinary ones."""
LARGEST = 64 * 2**20

# tokenization_kimi.py of moonshotai/Kimi-K2-Instruct and of its successors: runs of Han by
# themselves, words by their case, numbers by three digits, the rest as in o200k.
_LETTERS = r"\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join(
    (
        r"[\p{Han}]+",
        rf"{_LEAD}[\p{{Lu}}\p{{Lt}}{_LETTERS}]*[\p{{Ll}}{_LETTERS}]+{_ENDING}",
        rf"{_LEAD}[\p{{Lu}}\p{{Lt}}{_LETTERS}]+[\p{{Ll}}{_LETTERS}]*{_ENDING}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)

# The same file cuts long texts before it splits them, so its counts are those of the pieces.
_LONGEST_TEXT = 400_000
_LONGEST_RUN = 25_000
_RUN = re.compile(r"\S++|\s++")


def find_tokenizer(
    model: str, repository: str, configured: str, env: Mapping[str, str]
) -> Path | None:
    """The ``tiktoken.model`` of a model: at the ``configured`` path (the file or its folder), else
    in the folder that the model's name or ``repository`` is (an absolute path), else in the Hugging
    Face cache under one of these names; None where it is nowhere. Opens nothing."""
    if configured:
        place = Path(configured).expanduser()
        return _regular(place / FILE if place.is_dir() else place)
    for name in (model, repository):
        if os.path.isabs(name) and (found := _regular(Path(name) / FILE)):
            return found
    hub = _hub(env)
    for name in (model, repository):
        if hub and name.count("/") == 1 and (found := _cached(hub, name)):
            return found
    return None


def load_tokenizer(path: Path) -> tiktoken.Encoding:
    """The encoding of a ``tiktoken.model``. Takes about half a second and 60 MB for Kimi's 160,000
    tokens. Raises OSError, and ValueError for a file that is none."""
    import tiktoken

    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is too large for a tokenizer")
    ranks = _ranks(path.read_bytes())
    return tiktoken.Encoding(
        path.parent.name,
        pat_str=PATTERN,
        mergeable_ranks=ranks,
        special_tokens=_special_tokens(path.with_name("tokenizer_config.json"), len(ranks)),
    )


def exact_counter(encoding: tiktoken.Encoding) -> Counter:
    """Counts a text as the model's own tokenizer does; the names of special tokens in it are
    ordinary text."""

    def count(text: str) -> int:
        return sum(len(encoding.encode_ordinary(part)) for part in _parts(text))

    return count


def _parts(text: str) -> Iterator[str]:
    for start in range(0, len(text), _LONGEST_TEXT):
        part = text[start : start + _LONGEST_TEXT]
        cut = 0
        if len(part) > _LONGEST_RUN:
            for run in _RUN.finditer(part):
                for place in range(run.start() + _LONGEST_RUN, run.end(), _LONGEST_RUN):
                    yield part[cut:place]
                    cut = place
        yield part[cut:]


class LateCounter:
    """The counter of a model, found and loaded in a thread after ``start``: None until then, and
    for ever where there is no tokenizer or it can't be read."""

    def __init__(self, model: str, repository: str = "", configured: str = "") -> None:
        self._names = (model, repository, configured)
        self._thread: threading.Thread | None = None
        self.counter: Counter | None = None

    def start(self) -> None:
        """Begin to load; returns at once and does nothing the second time."""
        if self._thread is None:
            self._thread = threading.Thread(target=self.load, name="kimi-tokenizer", daemon=True)
            self._thread.start()

    def load(self) -> Counter | None:
        """Load now, in this thread. Never raises for what is wrong with the files."""
        try:
            path = find_tokenizer(*self._names, os.environ)
            if path is None:
                if self._names[2]:
                    log.debug("no tokenizer at %s", self._names[2])
                return None
            self.counter = exact_counter(load_tokenizer(path))
            log.debug("counting tokens with %s", path)
        except Exception as error:
            log.debug("the tokenizer can't be used: %s: %s", type(error).__name__, error)
        return self.counter


def _ranks(raw: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(raw.splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise ValueError(f"line {number} is no token and rank") from None
    if not all(bytes((byte,)) in ranks for byte in range(256)):
        raise ValueError("not every byte has a token")
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ValueError("the ranks are not those of a whole file")
    return ranks


def _special_tokens(config: Path, ordinary: int) -> dict[str, int]:
    """The special tokens, numbered behind the ordinary ones; those without a name in
    tokenizer_config.json get the name that the model's own file gives them."""
    named: dict[int, str] = {}
    try:
        document = json.loads(config.read_bytes())
        for number, token in document["added_tokens_decoder"].items():
            named[int(number)] = str(token["content"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.debug("special tokens without names: %s", error)
        named = {}
    numbers = range(ordinary, ordinary + SPECIAL_TOKENS)
    return {named.get(n, f"<|reserved_token_{n}|>"): n for n in numbers}


def _hub(env: Mapping[str, str]) -> Path | None:
    """The Hugging Face cache (huggingface_hub, "Environment variables")."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return Path(env[name]).expanduser()
    if env.get("HF_HOME"):
        return Path(env["HF_HOME"]).expanduser() / "hub"
    cache = env.get("XDG_CACHE_HOME") or (env.get("HOME") and f"{env['HOME']}/.cache")
    return Path(cache) / "huggingface" / "hub" if cache else None


def _cached(hub: Path, name: str) -> Path | None:
    """The file in the snapshot of a repository that ``main`` names, else in the newest one."""
    folder = hub / f"models--{name.replace('/', '--')}"
    snapshots = folder / "snapshots"
    try:
        main = (folder / "refs" / "main").read_text().strip()
        if main and "/" not in main and (found := _regular(snapshots / main / FILE)):
            return found
    except (OSError, ValueError):
        pass
    try:
        others = sorted(snapshots.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    except (OSError, ValueError):
        return None
    return next((found for other in others if (found := _regular(other / FILE))), None)


def _regular(path: Path) -> Path | None:
    try:
        return path if stat.S_ISREG(path.stat().st_mode) else None
    except (OSError, ValueError):
        return None

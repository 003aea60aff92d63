"""How much of a model is in the Hugging Face cache: vLLM downloads without a word.

Layout of the cache: huggingface_hub, "Understand caching": HUB/models--OWNER--NAME/blobs holds each
file under its hash, "HASH.incomplete" while it comes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from kimi_cli.serve.local_files import hub_cache


def downloaded(repo: str, env: Mapping[str, str]) -> int:
    """The bytes of the repository "OWNER/NAME" that are in the cache of a program started with
    `env`, with those of files that are still coming; 0 for a folder, and where there is nothing.
    Files that are reserved but not yet written count as far as they are on the disk. Never
    raises."""
    parts = repo.split("/")
    if len(parts) > 2 or not all(parts) or any(part.startswith((".", "~")) for part in parts):
        return 0
    blobs = hub_cache(env) / ("models--" + "--".join(parts)) / "blobs"
    try:
        with os.scandir(blobs) as entries:
            return sum(_size(entry) for entry in entries)
    except OSError:
        return 0


def _size(entry: os.DirEntry[str]) -> int:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if not stat.S_ISREG(found.st_mode):
        return 0
    if entry.name.endswith(".incomplete"):
        # st_blocks counts 512 bytes each, whatever the file system's own are (stat(2)).
        return min(found.st_size, found.st_blocks * 512)
    return found.st_size

"""``--debug``: a log under KIMI_HOME/logs that may be shown to others."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

_KEY_LIKE = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{4})[A-Za-z0-9_-]{8,}|(Bearer )[^\s\"']+", re.IGNORECASE
)


class _Redacted(logging.Formatter):
    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            if len(secret) >= 4:
                text = text.replace(secret, "[redacted]")
        return _KEY_LIKE.sub(lambda m: f"{m.group(1) or m.group(2)}[redacted]", text)


def start_log(home: Path, secrets: Sequence[str]) -> Path:
    """Send every log record to a new file that only the user can read; returns its path.

    ``secrets``, also those added later, and whatever looks like a key are blanked. Raises OSError
    when it can't be made.
    """
    folder = home / "logs"
    for made in (home, folder):
        made.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Redacted(secrets))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    return path

"""What the commands have in common that print: JSON, and the code when nothing can be written."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

READER_GONE = 143
LOST = 74
NOT_WRITTEN = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})


@contextmanager
def judged() -> Iterator[None]:
    """Around what prints. Raises typer.Exit: 143 when the reader has left, which is no failure
    worth words (``head`` has read enough), 74 when nothing can be written."""
    try:
        yield
    except BrokenPipeError:
        raise typer.Exit(READER_GONE) from None
    except OSError as error:
        # One that names a file is about that.
        if error.filename is not None or error.errno not in NOT_WRITTEN:
            raise
        print(f"kimi: the output cannot be written: {error}", file=sys.stderr)
        raise typer.Exit(LOST) from None


def json_line(value: Any) -> str:
    """One line of ASCII, whatever the terminal and its encoding. Lone surrogates (file names that
    are not UTF-8), which jq refuses, become "?"."""
    import json

    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return json.dumps(json.loads(text))

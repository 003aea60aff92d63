"""Confining a command where there is no Linux: not possible yet, and said so."""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kimi_cli.workspace.helper_namespaces import Session

_NOT_HERE = "the sandbox can't be set up: no way to do it on this system"


def confine(box: dict[str, Any], argv: list[bytes]) -> list[bytes]:
    """As in ``helper_box``."""
    raise OSError(errno.ENOSYS, _NOT_HERE)


def open_session() -> Session:
    """As in ``helper_namespaces``."""
    raise OSError(errno.ENOSYS, _NOT_HERE)


def probe(folder: bytes, best: str, spaces: Callable[[], object]) -> dict[str, Any]:
    """As in ``helper_probe``."""
    return {"way": "none", "why": _NOT_HERE}

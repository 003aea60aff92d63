"""The sandbox of macOS, as far as the helper has to do with it: the probe.

A command's own limits are a profile (``seatbelt.py``) that sandbox-exec(1) is started with in the
command's place; there is nothing to do between fork and exec.
"""

from __future__ import annotations

import contextlib
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kimi_cli.workspace.helper_namespaces import Session

PROGRAM = "/usr/bin/sandbox-exec"
_TRIAL = '(version 1)(allow default)(deny file-write* (subpath "{}"))'
_PATIENCE = 5
_LACKS = ("a loopback of the session's own", "private layers over caches")


def confine(box: dict[str, Any], argv: list[bytes]) -> list[bytes]:
    """As in ``helper_box``: for a box that is no profile."""
    raise OSError(errno.ENOSYS, "the sandbox can't be set up: no way to do it on this system")


def open_session() -> Session:
    """As in ``helper_namespaces``."""
    raise OSError(errno.ENOSYS, "no namespaces on this system")


def probe(
    folder: bytes, best: str, spaces: Callable[[], object], program: str = PROGRAM
) -> dict[str, Any]:
    """As in ``helper_probe``: whether a write that a profile forbids is refused, and another is
    not."""
    import subprocess
    import tempfile

    if best == "none":
        return {"way": "none", "why": "not wanted"}
    why = ""
    try:
        with tempfile.TemporaryDirectory(dir=os.fsdecode(folder) or None) as sample:
            sample = os.path.realpath(sample)
            kept, free = os.path.join(sample, "kept"), os.path.join(sample, "free")
            os.mkdir(kept)
            rule = _TRIAL.format(kept.replace("\\", "\\\\").replace('"', '\\"'))
            for path in (os.path.join(kept, "x"), free):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    subprocess.run(
                        [program, "-p", rule, "/usr/bin/touch", path],
                        capture_output=True,
                        timeout=_PATIENCE,
                    )
            if os.listdir(kept):
                why = "seatbelt: a forbidden write was not refused"
            elif not os.path.exists(free):
                why = "seatbelt: sandbox-exec does not work here"
    except OSError as error:
        why = f"seatbelt: {error.strerror or error}"
    return {"way": "none", "why": why} if why else {"way": "seatbelt", "lacks": _LACKS}

"""Finding the programs that kimi itself runs, outside of the sandbox."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path


def find_trusted(name: str, folders: Sequence[Path]) -> str | None:
    """Absolute path of the program that PATH means; None when there is none. Raises
    PermissionError when it is found where a command of the model's could have put it: in one of
    the ``folders`` (a virtual environment's ``bin``), in a shared temp folder, or by a relative
    entry of PATH."""
    found = shutil.which(name)
    if found is None:
        return None
    open_to_all = [*folders, Path("/tmp"), Path("/var/tmp")]
    places = (Path(os.path.abspath(found)), Path(os.path.realpath(found)))
    inside = [f for f in open_to_all for p in places if p.is_relative_to(os.path.realpath(f))]
    if inside or not os.path.isabs(found):
        raise PermissionError(f"{name} is found at {found}, where any command can put a program")
    return found

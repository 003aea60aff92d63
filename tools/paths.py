"""Paths and texts the model writes, and what to tell it when one does not work out."""

from __future__ import annotations

import difflib
import errno
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from kimi_cli.protocol.tools import Intent, Params, ToolError
from kimi_cli.protocol.workspace import Files


def _whole(text: str) -> str:
    if re.search("[\ud800-\udfff]", text):
        raise ValueError("half a surrogate pair is no character: write the character itself")
    return text


def _argument(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("must not be empty or contain a NUL character")
    return _whole(text)


# Text to be written into a file: what no encoding can hold would else become other bytes.
FileText = Annotated[str, AfterValidator(_whole)]
# What the system takes as a path or a program's argument.
Argument = Annotated[str, AfterValidator(_argument)]
FilePath = Annotated[Argument, Field(description="Relative to the working folder, or absolute")]


class PathParams(Params):
    """Arguments that name a file or folder. Where it leads is found out once, for the judgement
    and the work alike: a command in the background could change it in between."""

    _real: Path | None = PrivateAttr(None)

    def settled(self, files: Files, path: Path) -> Path:
        """Where the absolute ``path`` of these arguments leads, or led when first asked."""
        if self._real is None:
            self._real = files.settle(path)
        return self._real

    def intent(self, kind: Literal["read", "write"], files: Files, path: Path) -> Intent:
        return Intent(kind, str(path), str(self.settled(files, path)))


def explain(error: OSError, files: Files, path: Path, real: Path) -> ToolError:
    """What the model should hear of a file that could not be opened or written."""
    shown = files.show(path)
    if isinstance(error, FileNotFoundError):
        return ToolError(missing(files, path, real))
    if isinstance(error, IsADirectoryError):
        return ToolError(f"{shown} is a folder.")
    if error.errno == errno.EFBIG:
        return ToolError(f"{shown} is too large for this tool ({error.strerror}): use the shell.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ToolError(f"{shown} was not written: {error.strerror}. Its content is as before.")
    return ToolError(f"{shown}: {error.strerror or error}.")


def missing(files: Files, path: Path, real: Path) -> str:
    """Says how far the path exists, and names what is there under a similar name."""
    shown, folder, name, place = files.show(path), path.parent, path.name, real.parent
    while folder != folder.parent and not os.path.exists(folder):
        folder, name = folder.parent, folder.name
    while place != place.parent and not os.path.exists(place):
        place = place.parent
    text = f"{shown} does not exist"
    if folder != path.parent:
        text += f", nor does its folder; {files.show(folder)} does"
    try:
        names = files.listing(folder, 20_000, real=place)
    except OSError:
        return text + "."
    plain = {entry.rstrip("/").lower(): entry for entry in names}
    near = difflib.get_close_matches(name.lower(), plain, n=3, cutoff=0.6)
    if not near:
        return text + "."
    return f"{text}. Near names: {', '.join(files.show(folder / plain[n]) for n in near)}."


def locate(params: PathParams, files: Files, path: str) -> tuple[Path, Path]:
    """The absolute path of a file or folder that exists, and where it leads. Raises ToolError when
    it does not exist."""
    resolved = files.resolve(path)
    real = params.settled(files, resolved)
    if not os.path.exists(real):
        raise ToolError(missing(files, resolved, real))
    return resolved, real

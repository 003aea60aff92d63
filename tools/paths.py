"""Paths and texts the model writes, and what to tell it when one does not work out."""

from __future__ import annotations

import difflib
import errno
import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from kimi_cli.protocol.tools import ToolError
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


def explain(error: OSError, files: Files, path: Path) -> ToolError:
    """What the model should hear of a file that could not be opened or written."""
    shown = files.show(path)
    if isinstance(error, FileNotFoundError):
        return ToolError(missing(files, path))
    if isinstance(error, IsADirectoryError):
        return ToolError(f"{shown} is a folder.")
    if error.errno == errno.EFBIG:
        return ToolError(f"{shown} is too large for this tool ({error.strerror}): use the shell.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ToolError(f"{shown} was not written: {error.strerror}. Its content is as before.")
    return ToolError(f"{shown}: {error.strerror or error}.")


def missing(files: Files, path: Path) -> str:
    """Says how far the path exists, and names what is there under a similar name."""
    shown, folder, name = files.show(path), path.parent, path.name
    while folder != folder.parent and not os.path.exists(folder):
        folder, name = folder.parent, folder.name
    text = f"{shown} does not exist"
    if folder != path.parent:
        text += f", nor does its folder; {files.show(folder)} does"
    try:
        names = files.listing(folder, 20_000)
    except OSError:
        return text + "."
    plain = {entry.rstrip("/").lower(): entry for entry in names}
    near = difflib.get_close_matches(name.lower(), plain, n=3, cutoff=0.6)
    if not near:
        return text + "."
    return f"{text}. Near names: {', '.join(files.show(folder / plain[n]) for n in near)}."


def locate(files: Files, path: str | os.PathLike[str]) -> Path:
    """The absolute path of a file or folder that exists. Raises ToolError when it does not."""
    resolved = files.resolve(os.fspath(path))
    if not os.path.exists(resolved):
        raise ToolError(missing(files, resolved))
    return resolved

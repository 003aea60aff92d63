"""Writing a message in the user's own editor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping

EDITORS = ("nano", "vim", "vi")
"""What is looked for on PATH where the environment names none."""
FAREWELL_SECONDS = 2.0


class EditorError(Exception):
    """There is no editor, or it failed; the message is for people."""


def find_editor(env: Mapping[str, str]) -> list[str]:
    """The command of $VISUAL, else $EDITOR, else the first of ``EDITORS``; without the file's
    name. Raises EditorError."""
    for name in ("VISUAL", "EDITOR"):
        if value := env.get(name, "").strip():
            try:
                return shlex.split(value)
            except ValueError as error:
                raise EditorError(f"${name} is not a command: {error}") from None
    for program in EDITORS:
        if found := shutil.which(program, path=env.get("PATH")):
            return [found]
    raise EditorError(f"no editor: set $EDITOR, or install one of {', '.join(EDITORS)}")


async def edit_in_editor(text: str, env: Mapping[str, str]) -> str | None:
    """Have the text edited in a private file; returns it without the last newline, None when it
    was left as it was. The terminal is the editor's until this returns: the caller sees to that.
    Raises EditorError; when cancelled, the editor is ended."""
    command = find_editor(env)
    before = (text if text.endswith("\n") or not text else text + "\n").encode("utf-8", "replace")
    try:
        # A folder of its own: editors put swap files and backups beside the file.
        with tempfile.TemporaryDirectory(prefix="kimi-", ignore_cleanup_errors=True) as folder:
            name = _written(folder, before)
            code = await _run([*command, name], env)
            after = _read(name)
    except OSError as error:
        raise EditorError(f"{command[0]}: {error.strerror}") from None
    if code:
        raise EditorError(f"{command[0]} ended with exit status {code}: its text is not taken")
    if after == before:
        return None
    return after.decode("utf-8-sig", "replace").replace("\r\n", "\n").removesuffix("\n")


def _written(folder: str, content: bytes) -> str:
    number, name = tempfile.mkstemp(prefix="kimi-", suffix=".md", dir=folder)
    with os.fdopen(number, "wb") as file:
        file.write(content)
    return name


def _read(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read()


async def _run(command: list[str], env: Mapping[str, str]) -> int:
    process = await asyncio.create_subprocess_exec(*command, env=dict(env))
    try:
        return await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await process.wait()
        raise

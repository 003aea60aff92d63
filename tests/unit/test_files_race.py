"""Folders swapped for symlinks while the file tools work: they work on what was judged, or not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.protocol.tools import ToolError, ToolOutput
from kimi_cli.protocol.workspace import StaleFile
from kimi_cli.tools.edit import EditParams, EditTool
from kimi_cli.tools.read import ReadParams, ReadTool
from kimi_cli.tools.write import WriteParams, WriteTool
from kimi_cli.workspace import nofollow
from kimi_cli.workspace.files import WorkspaceFiles
from tests.support.workspace import PlainContext, PlainWorkspace

ROUNDS = 400

# Exchanges a folder and a symlink without a moment in which neither is there.
SWAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
one, two = (os.fsencode(path) for path in sys.argv[1:])
print("ready", flush=True)
while True:
    if libc.renameat2(-100, one, -100, two, 2):
        sys.exit(os.strerror(ctypes.get_errno()))
"""
# Makes every temporary file in the folder a symlink.
TAKE = """
import os, sys
folder, target = sys.argv[1:]
print("ready", flush=True)
while True:
    for name in os.listdir(folder):
        if name.endswith(".tmp"):
            try:
                os.symlink(target, folder + "/mine")
                os.rename(folder + "/mine", folder + "/" + name)
            except OSError:
                pass
"""


@contextlib.contextmanager
def beside(program: str, *args: Path) -> Iterator[None]:
    """The program runs meanwhile."""
    argv = [sys.executable, "-c", program, *map(str, args)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout and process.stdout.readline() == "ready\n"
            yield
            assert process.poll() is None
        finally:
            process.kill()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "sub").mkdir(parents=True)
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("PRIVATE\n")
    return folder


@pytest.fixture
def context(root: Path) -> PlainContext:
    return PlainContext(PlainWorkspace(root))


def swapped(root: Path, outside: Path) -> contextlib.AbstractContextManager[None]:
    if sys.platform != "linux":
        pytest.skip("renameat2 is Linux's")
    (root / "link").symlink_to(outside)
    return beside(SWAP, root / "sub", root / "link")


def judged_inside(tool: Any, params: Any, context: PlainContext) -> bool:
    """As the policy: whether all that the call wants leads into the workspace."""
    intents = tool.intents(params, context.workspace)
    return all(Path(one.real).is_relative_to(context.workspace.root) for one in intents)


def attempt(tool: Any, params: Any, context: PlainContext) -> ToolOutput | None:
    try:
        return asyncio.run(tool.run(params, context))  # type: ignore[no-any-return]
    except ToolError:
        return None


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["new{}", "deep{}/er/new"])
def test_writing_never_lands_outside(
    name: str, context: PlainContext, root: Path, outside: Path
) -> None:
    before = contents(outside)
    written = 0
    with swapped(root, outside):
        for number in range(ROUNDS):
            params = WriteParams(path=f"sub/{name.format(number)}", content="x\n")
            if judged_inside(WriteTool(), params, context):
                written += attempt(WriteTool(), params, context) is not None
    assert contents(outside) == before
    assert [p.name for p in outside.iterdir()] == ["secret"]
    assert written


def test_editing_changes_only_what_was_judged(
    context: PlainContext, root: Path, outside: Path
) -> None:
    (root / "sub/secret").write_text("PUBLIC\n")
    edited = 0
    with swapped(root, outside):
        for number in range(ROUNDS):
            old, new = ("PUBLIC", "EDITED") if number % 2 else ("EDITED", "PUBLIC")
            edit = {"old": old, "new": new}
            params = EditParams.model_validate({"path": "sub/secret", "edits": [edit]})
            if judged_inside(EditTool(), params, context):
                edited += attempt(EditTool(), params, context) is not None
    assert contents(outside) == {"secret": "PRIVATE\n"}
    assert edited


def test_reading_shows_only_what_was_judged(
    context: PlainContext, root: Path, outside: Path
) -> None:
    (root / "sub/secret").write_text("PUBLIC\n")
    (outside / "telling-name").touch()
    shown = []
    with swapped(root, outside):
        for number in range(ROUNDS):
            params = ReadParams(path="sub" if number % 2 else "sub/secret")
            if not judged_inside(ReadTool(), params, context):
                continue
            try:
                shown.append(asyncio.run(ReadTool().run(params, context)).text)
            except ToolError as error:
                shown.append(str(error))
    assert any("PUBLIC" in text for text in shown)
    assert not any("PRIVATE" in text or "telling-name" in text for text in shown)


@pytest.mark.parametrize(
    ("tool", "params"),
    [
        (ReadTool(), ReadParams(path="sub/secret")),
        (WriteTool(), WriteParams(path="sub/new", content="x")),
        (WriteTool(), WriteParams(path="sub/a/b/new", content="x")),
    ],
    ids=["read", "write", "write deep"],
)
def test_a_folder_that_became_a_symlink_after_the_judgement(
    tool: Any, params: Any, context: PlainContext, root: Path, outside: Path
) -> None:
    (outside / "telling-name").touch()
    before = sorted(outside.rglob("*"))
    assert judged_inside(tool, params, context)
    (root / "sub").rename(root / "aside")
    (root / "sub").symlink_to(outside)
    try:
        text = asyncio.run(tool.run(params, context)).text
    except ToolError as error:
        text = str(error)
    assert "PRIVATE" not in text and "telling" not in text
    assert sorted(outside.rglob("*")) == before


def test_a_temporary_file_that_is_taken_does_no_harm(root: Path, outside: Path) -> None:
    """Neither mode and owner nor a hard link reach what a symlink in its place names."""
    files = WorkspaceFiles(root)
    (root / "sub/f").write_bytes(b"0")
    (root / "sub/f").chmod(0o777)
    (outside / "secret").chmod(0o600)
    inode = (outside / "secret").stat().st_ino
    with beside(TAKE, root / "sub", outside / "secret"):
        for number in range(ROUNDS):
            with contextlib.suppress(OSError, StaleFile):
                files.replace(root / f"sub/n{number}", b"x", expected=None)
            with contextlib.suppress(OSError, StaleFile):
                former = (root / "sub/f").read_bytes()
                files.replace(root / "sub/f", b"x", expected=former, real=root / "sub/f")
    assert contents(outside) == {"secret": "PRIVATE\n"}
    assert (outside / "secret").stat().st_mode & 0o777 == 0o600
    inodes = {p.stat(follow_symlinks=False).st_ino for p in (root / "sub").iterdir()}
    assert inode not in inodes


class TestNoFollow:
    def test_a_symlink_anywhere_is_named(self, root: Path, outside: Path) -> None:
        (root / "link").symlink_to(outside)
        for path in (root / "link", root / "link/deep"):
            with pytest.raises(OSError, match="symbolic links") as error, nofollow.folder(path):
                pass
            assert error.value.filename == str(root / "link")
        assert not (outside / "deep").exists()

    def test_making_does_not_go_through_a_symlink(self, root: Path, outside: Path) -> None:
        (root / "link").symlink_to(outside)
        with pytest.raises(OSError), nofollow.folder(root / "link/new", make=True):
            pass
        assert not (outside / "new").exists()

    def test_what_is_missing_or_a_file_is_said(self, root: Path) -> None:
        (root / "file").touch()
        with pytest.raises(FileNotFoundError), nofollow.folder(root / "none"):
            pass
        with pytest.raises(NotADirectoryError), nofollow.folder(root / "file/x"):
            pass

    def test_a_folder_that_may_only_be_entered(self, root: Path) -> None:
        if os.geteuid() == 0 or not hasattr(os, "O_PATH"):
            pytest.skip("needs an ordinary user and O_PATH")
        (root / "sub/f").write_bytes(b"x")
        (root / "sub").chmod(0o100)
        try:
            assert WorkspaceFiles(root).read(root / "sub/f") == b"x"
        finally:
            (root / "sub").chmod(0o700)

    def test_no_descriptor_is_left(self, root: Path) -> None:
        before = len(os.listdir("/dev/fd"))
        for _ in range(50):
            with nofollow.folder(root / "sub"):
                pass
            with pytest.raises(OSError), nofollow.folder(root / "none/x"):
                pass
        assert len(os.listdir("/dev/fd")) == before

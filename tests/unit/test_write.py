"""The write tool on real files."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.protocol.tools import ToolError, ToolOutput
from kimi_cli.tools import text_bytes
from kimi_cli.tools.read import ReadParams, ReadTool
from kimi_cli.tools.write import WriteParams, WriteTool
from tests.support.workspace import PlainContext, PlainWorkspace


@pytest.fixture
def context(tmp_path: Path) -> PlainContext:
    return PlainContext(PlainWorkspace(tmp_path))


def write(context: PlainContext, path: str, content: str) -> ToolOutput:
    return asyncio.run(WriteTool().run(WriteParams(path=path, content=content), context))


def read(context: PlainContext, path: str) -> None:
    asyncio.run(ReadTool().run(ReadParams(path=path), context))


def test_a_new_file(context: PlainContext, tmp_path: Path) -> None:
    output = write(context, "a/b.txt", "é\nx\r\n")
    assert (tmp_path / "a/b.txt").read_bytes() == "é\nx\r\n".encode()
    assert (output.text, output.display) == ("created a/b.txt, 2 lines", "new, 2 lines")
    assert output.files[0].action == "created"


def test_an_unread_file_is_safe(context: PlainContext, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"precious")
    with pytest.raises(ToolError, match="a exists already: read it before"):
        write(context, "a", "new")
    assert (tmp_path / "a").read_bytes() == b"precious"
    read(context, "a")
    output = write(context, "a", "new\n")
    assert (tmp_path / "a").read_bytes() == b"new\n"
    assert output.text == "rewrote a, 1 line (+1 -1)"
    write(context, "a", "newer\n")
    assert (tmp_path / "a").read_bytes() == b"newer\n"


def test_an_empty_file_holds_nothing_to_lose(context: PlainContext, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    write(context, "a", "new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_file_that_changed_is_safe(context: PlainContext, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    read(context, "a")
    (tmp_path / "a").write_bytes(b"theirs")
    with pytest.raises(ToolError, match="changed since you last saw it"):
        write(context, "a", "ours")
    assert (tmp_path / "a").read_bytes() == b"theirs"


def test_a_file_that_went_is_made_again(context: PlainContext, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    read(context, "a")
    (tmp_path / "a").unlink()
    assert write(context, "a", "two").text.startswith("created")


@pytest.mark.parametrize(
    ("former", "content", "wanted"),
    [
        (b"\xef\xbb\xbfa\r\nb\r\n", "x\ny\n", b"\xef\xbb\xbfx\r\ny\r\n"),
        ("\ufeffa\r\n".encode("utf-16-be"), "é\n", "\ufeffé\r\n".encode("utf-16-be")),
        ("é\n".encode("cp1252"), "ü\r\n", "ü\n".encode("cp1252")),
        (b"a\r\nb\nc\n", "x\r\ny\n", b"x\ny\n"),
        (b"no line end", "x\r\ny\n", b"x\r\ny\n"),
    ],
)
def test_encoding_and_line_ends_stay(
    context: PlainContext, tmp_path: Path, former: bytes, content: str, wanted: bytes
) -> None:
    (tmp_path / "a").write_bytes(former)
    read(context, "a")
    write(context, "a", content)
    assert (tmp_path / "a").read_bytes() == wanted


@given(st.text("ab\n", max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_a_uniform_style_stays_uniform(content: str, newline: str) -> None:
    text = text_bytes.with_newlines(content, newline)
    assert text.replace(newline, "").count("\n") == 0
    assert text.replace("\r\n", "\n") == content


def test_a_character_the_encoding_lacks(context: PlainContext, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("é\n".encode("cp1252"))
    read(context, "a")
    with pytest.raises(ToolError, match=r"windows-1252.*U\+4E2D"):
        write(context, "a", "中")
    assert (tmp_path / "a").read_bytes() == "é\n".encode("cp1252")


def test_the_same_content_is_not_written(context: PlainContext, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\r\n")
    read(context, "a")
    before = (tmp_path / "a").stat().st_ino
    output = write(context, "a", "x\n")
    assert (output.text, list(output.files)) == ("a already has exactly this content.", [])
    assert (tmp_path / "a").stat().st_ino == before


def test_what_cannot_be_written(context: PlainContext, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "bin").write_bytes(b"\0\1")
    os.mkfifo(tmp_path / "pipe")
    for path, message in [
        ("folder", "is a folder"),
        ("new/", "names a folder"),
        ("file/x", "Not a directory"),
        ("bin", "holds binary data"),
        ("pipe", "FIFO"),
        ("/dev/null", "a device"),
    ]:
        with pytest.raises(ToolError, match=message):
            write(context, path, "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bin", "file", "folder", "pipe"]

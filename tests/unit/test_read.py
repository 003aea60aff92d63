"""The read tool on real files."""

from __future__ import annotations

import asyncio
import base64
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kimi_cli.protocol.tools import ToolError, ToolOutput, schema_of
from kimi_cli.tools import lines, read, text_bytes
from kimi_cli.tools.read import ReadParams, ReadTool
from tests.support.workspace import PlainContext, PlainWorkspace

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def context(tmp_path: Path) -> PlainContext:
    return PlainContext(PlainWorkspace(tmp_path))


def run(context: PlainContext, path: str, offset: int = 1, limit: int = 2000) -> ToolOutput:
    params = ReadParams(path=path, offset=offset, limit=limit)
    return asyncio.run(ReadTool().run(params, context))


class TestWindow:
    def test_a_whole_file(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"one\n\ntwo")
        output = run(context, "a")
        assert output.text == "1\tone\n2\t\n3\ttwo\n[3 lines]"
        (touch,) = output.files
        assert (touch.action, touch.partial, touch.path) == ("read", False, str(tmp_path / "a"))

    def test_a_part_says_how_to_go_on(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("".join(f"l{n}\n" for n in range(1, 11)))
        output = run(context, "a", 4, 2)
        assert output.text == "4\tl4\n5\tl5\n[lines 4-5 of 10; go on with offset=6]"
        assert output.files[0].partial

    def test_from_the_end(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("".join(f"l{n}\n" for n in range(1, 11)))
        assert run(context, "a", -2).text == "9\tl9\n10\tl10\n[lines 9-10 of 10]"
        assert run(context, "a", -50, 1).text.startswith("1\tl1\n[lines 1-1 of 10;")

    def test_past_the_end(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("one\n")
        with pytest.raises(ToolError, match="a has 1 line: there is no line 2"):
            run(context, "a", 2)

    def test_empty(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        assert run(context, "a").text == "a is empty."
        assert context.workspace.files.seen(tmp_path / "a")

    def test_long_lines_are_cut(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("x" * 5_000 + "\nshort\n")
        first, second, _ = run(context, "a").text.split("\n")
        assert first == "1\t" + "x" * 2_000 + " [line cut: 3,000 more characters]"
        assert second == "2\tshort"

    def test_output_is_bounded_and_can_be_continued(
        self, context: PlainContext, tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_text("中" * 100 + "\n" + ("中" * 100 + "\n") * 999)
        seen, offset = 0, 1
        while offset:
            output = run(context, "a", offset)
            assert len(output.text.encode()) < read.TEXT_LIMIT + 200
            *body, foot = output.text.split("\n")
            seen += len(body)
            assert int(body[-1].split("\t")[0]) == seen
            offset = seen + 1 if f"offset={seen + 1}]" in foot else 0
        assert seen == 1000

    def test_line_ends_are_told(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"one\r\ntwo\r\n")
        assert run(context, "a").text == "1\tone\n2\ttwo\n[2 lines; CRLF]"

    def test_a_large_file_takes_little_memory(self, context: PlainContext, tmp_path: Path) -> None:
        with (tmp_path / "big").open("wb") as file:
            for block in range(50):
                file.write(b"".join(b"%d %09d\n" % (block % 10, n) for n in range(100_000)))
        assert (tmp_path / "big").stat().st_size > 50 * 2**20
        tracemalloc.start()
        head = run(context, "big", limit=1).text
        middle = run(context, "big", 2_500_001, 1).text
        tail = run(context, "big", -1).text
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert head.startswith("1\t0 000000000\n[lines 1-1 of 5000000;")
        assert middle.startswith("2500001\t5 000000000\n")
        assert tail == "5000000\t9 000099999\n[lines 5000000-5000000 of 5000000]"
        assert peak < 16 * 2**20
        assert context.workspace.files.seen(tmp_path / "big")

    def test_one_endless_line_takes_little_memory(
        self, context: PlainContext, tmp_path: Path
    ) -> None:
        with (tmp_path / "big").open("wb") as file:
            for _ in range(40):
                file.write(b"x" * 2**20)
        tracemalloc.start()
        text = run(context, "big").text
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert f"[line cut: {40 * 2**20 - 2_000:,} more characters]" in text
        assert peak < 16 * 2**20


class TestEncodings:
    @pytest.mark.parametrize(
        ("content", "name"),
        [
            ("\ufeffé\n".encode(), "UTF-8 with BOM"),
            ("\ufeffé\n".encode("utf-16-le"), "UTF-16"),
            ("\ufeffé\n".encode("utf-16-be"), "UTF-16"),
            ("é\n".encode("cp1252"), "windows-1252"),
            (b"\xe9\x81\n", "ISO 8859-1"),
            ("中文，配置\n".encode("gb18030"), "GB 18030"),
            ("éß größer Maßöl\n".encode("cp1252"), "windows-1252"),
        ],
    )
    def test_it_is_named_when_it_is_not_utf8(
        self, context: PlainContext, tmp_path: Path, content: bytes, name: str
    ) -> None:
        (tmp_path / "a").write_bytes(content)
        text = run(context, "a").text
        assert f"[1 line; {name}]" in text
        assert "\ufffd" not in text and "\ufeff" not in text
        assert text[2] in "é中"

    def test_utf8_is_not_named(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("é中😀")
        assert run(context, "a").text == "1\té中😀\n[1 line]"

    def test_a_damaged_utf8_file_is_still_utf8(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes("é中\n".encode() + b"\xff\n")
        assert run(context, "a").text == "1\té中\n2\t\ufffd\n[2 lines]"

    @given(st.text("aé中\n\r\u0a0a\u000a", max_size=60), st.sampled_from(["utf-8", "utf-16-le"]))
    def test_windows_rebuild_the_file(self, text: str, codec: str) -> None:
        import io

        content = ("\ufeff" + text).encode(codec)
        encoding = text_bytes.detect(content)
        file = io.BytesIO(content)
        index = lines.index(file, encoding, 1 << 30)
        got = []
        for first in range(1, index.total + 1, 2):
            got += [line.text for line in lines.window(file, encoding, index, first, 2, 1000)]
        wanted = [line.removesuffix("\r") for line in text.split("\n")]
        if text.endswith("\n") or not text:
            wanted.pop()
        if text and not text.endswith("\n") and text.endswith("\r"):
            wanted[-1] = text.split("\n")[-1].removesuffix("\r")
        assert got == wanted
        assert index.total == len(wanted) and index.whole

    def test_windows_cross_the_borders_of_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import io

        monkeypatch.setattr(lines, "_CHUNK", 6)
        for codec in ("utf-8", "utf-16-le"):
            text = "".join(f"{n}é\n" for n in range(200)) + "end"
            content = ("\ufeff" + text).encode(codec)
            encoding, file = text_bytes.detect(content), io.BytesIO(content)
            index = lines.index(file, encoding, 1 << 30)
            assert index.total == 201
            for first in (1, 2, 3, 7, 100, 200, 201):
                (line,) = lines.window(file, encoding, index, first, 1, 100)
                assert line.text == (f"{first - 1}é" if first <= 200 else "end")

    def test_counting_stops_at_its_limit(self) -> None:
        import io

        file = io.BytesIO(b"a\n" * 2**20)
        index = lines.index(file, text_bytes.Encoding(), 2**20)
        assert (index.total, index.whole) == (2**19, False)


class TestNotText:
    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (b"%PDF-1.7 text only", "PDF"),
            (b"PK\x03\x04....", "ZIP"),
            (b"some\0thing", "binary data"),
            (b"\x01\x02\x03\x04abc", "binary data"),
            (b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
        ],
    )
    def test_binary_is_described(
        self, context: PlainContext, tmp_path: Path, content: bytes, kind: str
    ) -> None:
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(ToolError, match=rf"a is not text: .*{kind}.*, {len(content)} bytes"):
            run(context, "a")
        assert not context.workspace.files.seen(tmp_path / "a")

    @pytest.mark.parametrize(
        ("content", "kind", "mime"),
        [
            (PNG, "image", "image/png"),
            (b"\xff\xd8\xff\xe0" + bytes(9), "image", "image/jpeg"),
            (b"GIF89a" + bytes(9), "image", "image/gif"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image", "image/webp"),
            (b"\0\0\0\x18ftypisom" + bytes(9), "video", "video/mp4"),
            (b"\0\0\0\x18ftypqt  " + bytes(9), "video", "video/quicktime"),
            (b"\x1a\x45\xdf\xa3\x01\x42\x82\x84webm", "video", "video/webm"),
        ],
    )
    def test_media(self, tmp_path: Path, content: bytes, kind: str, mime: str) -> None:
        (tmp_path / "a").write_bytes(content)
        blind = PlainContext(PlainWorkspace(tmp_path))
        with pytest.raises(ToolError, match=f"{mime}: the current model can't see {kind}s"):
            run(blind, "a")
        output = run(PlainContext(blind.workspace, frozenset({kind})), "a")
        (part,) = output.media
        assert (part.kind, part.name) == (kind, "a")
        head, data = part.url.split(",")
        assert head == f"data:{mime};base64"
        assert base64.b64decode(data) == content

    def test_large_media_is_refused(self, tmp_path: Path) -> None:
        with (tmp_path / "a.png").open("wb") as file:
            file.write(PNG)
            file.truncate(read.MEDIA_LIMIT + 1)
        seeing = PlainContext(PlainWorkspace(tmp_path), frozenset({"image"}))
        with pytest.raises(ToolError, match="larger than 10 MiB"):
            run(seeing, "a.png")

    def test_sound_and_stills_in_video_containers_are_no_video(self) -> None:
        assert text_bytes.media_type(b"\0\0\0\x18ftypM4A " + bytes(9)) is None
        assert text_bytes.media_type(b"\0\0\0\x18ftypheic" + bytes(9)) is None


class TestErrors:
    def test_a_folder_is_listed(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / "b.py").touch()
        with pytest.raises(ToolError, match=r"\. is a folder\. It holds:\nb\.py\nsub/"):
            run(context, ".")
        for n in range(200):
            (tmp_path / "sub" / f"{n:03}").touch()
        with pytest.raises(ToolError, match=r"099\n\[…\]$"):
            run(context, "sub")

    def test_missing(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "src").mkdir()
        (tmp_path / "src" / "Config.py").touch()
        with pytest.raises(ToolError, match=r"Near names: src/Config\.py"):
            run(context, "src/confg.py")
        with pytest.raises(ToolError, match=r"nor does its folder; \. does\. Near names: src\."):
            run(context, "scr/deep/x.py")

    def test_nothing_hangs(self, context: PlainContext, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ToolError, match="FIFO"):
            run(context, "pipe")
        with pytest.raises(ToolError, match="a device"):
            run(context, "/dev/zero")

    def test_a_link_to_itself(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(ToolError, match=r"loop: .*symbolic links"):
            run(context, "loop")

    def test_files_of_proc_have_no_size(self, context: PlainContext) -> None:
        assert "Name:" in run(context, "/proc/self/status").text

    @pytest.mark.parametrize("path", ["", "a\0b", "a\ud800b"])
    def test_impossible_paths(self, path: str) -> None:
        with pytest.raises(ValidationError, match=r"NUL character|surrogate pair"):
            ReadParams(path=path)


def test_schema() -> None:
    assert schema_of(ReadParams) == {
        "type": "object",
        "properties": {
            "path": {
                "type": "string",
                "description": "Relative to the working folder, or absolute",
            },
            "offset": {
                "type": "integer",
                "description": "First line; negative counts from the end",
            },
            "limit": {"type": "integer", "description": "Number of lines"},
        },
        "required": ["path"],
    }

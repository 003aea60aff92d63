"""The edit tool on real files: bytes outside the edited places never change."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from kimi_cli.protocol.tools import ToolError, ToolOutput
from kimi_cli.tools import text_bytes
from kimi_cli.tools.edit import Edit, EditParams, EditTool, apply
from kimi_cli.tools.read import ReadParams, ReadTool
from kimi_cli.tools.write import WriteParams
from tests.support.workspace import PlainContext, PlainWorkspace


@pytest.fixture
def context(tmp_path: Path) -> PlainContext:
    return PlainContext(PlainWorkspace(tmp_path))


def edit(context: PlainContext, path: str, *edits: tuple[str, str], **more: Any) -> ToolOutput:
    changes = [Edit(old=old, new=new, **more) for old, new in edits]
    return asyncio.run(EditTool().run(EditParams(path=path, edits=changes), context))


def read(context: PlainContext, path: str) -> ToolOutput:
    return asyncio.run(ReadTool().run(ReadParams(path=path), context))


def changed(content: bytes, old: str, new: str, *, all: bool = False) -> bytes:
    return apply(content, [Edit(old=old, new=new, all=all)], "f")[0]


class TestResult:
    def test_a_plain_edit(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a.py").write_bytes(b"one\ntwo\nthree\n")
        output = edit(context, "a.py", ("two", "2"))
        assert (tmp_path / "a.py").read_bytes() == b"one\n2\nthree\n"
        assert output.text == "edited a.py (+1 -1)\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three"
        assert output.display == "+1 -1"
        (touch,) = output.files
        assert (touch.action, touch.added, touch.removed) == ("modified", 1, 1)
        assert touch.diff.startswith("--- a/a.py\n+++ b/a.py\n@@")

    def test_a_loose_match_is_reported(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a.py").write_bytes(b"one  \ntwo\n")
        output = edit(context, "a.py", ("one\ntwo", "one\n2"))
        assert output.text.startswith("edited a.py (+1 -1); matched ignoring trailing blanks\n")
        assert (tmp_path / "a.py").read_bytes() == b"one  \n2\n"

    def test_several_edits_work_on_one_another(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x\n")
        edit(context, "a", ("x", "y z"), ("y", "w"), ("z", "v"))
        assert (tmp_path / "a").read_bytes() == b"w v\n"

    def test_all_or_none(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x y\n")
        with pytest.raises(ToolError, match=r"(?s)edit 2 of 2: .*Nothing was changed"):
            edit(context, "a", ("x", "1"), ("absent", "2"))
        assert (tmp_path / "a").read_bytes() == b"x y\n"

    def test_every_occurrence(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"a a\r\na")
        edit(context, "a", ("a", "b\nb"), all=True)
        assert (tmp_path / "a").read_bytes() == b"b\r\nb b\r\nb\r\nb\r\nb"

    def test_a_long_diff_is_cut_for_the_model_only(
        self, context: PlainContext, tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_bytes(b"a\n" * 500)
        output = edit(context, "a", ("a\n", "b\n"), all=True)
        assert len(output.text) < 3_000
        assert output.text.endswith("[…]")
        assert output.files[0].diff.count("\n+b") == 500

    def test_mode_and_symlink_survive(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "run").write_bytes(b"old")
        (tmp_path / "run").chmod(0o750)
        (tmp_path / "link").symlink_to("run")
        edit(context, "link", ("old", "new"))
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "run").read_bytes() == b"new"
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o750

    def test_a_broken_hard_link_is_told(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"old")
        os.link(tmp_path / "a", tmp_path / "b")
        assert "hard links" in edit(context, "a", ("old", "new")).text

    def test_intents(self, context: PlainContext, tmp_path: Path) -> None:
        params = EditParams(path="a", edits=[Edit(old="x", new="y")])
        intents = EditTool().intents(params, context.workspace)
        assert [(i.kind, i.target) for i in intents] == [
            ("read", str(tmp_path / "a")),
            ("write", str(tmp_path / "a")),
        ]


class TestErrors:
    def refused(self, context: PlainContext, old: str, new: str, **more: Any) -> str:
        path = context.workspace.root / "a"
        before = path.read_bytes()
        with pytest.raises(ToolError) as error:
            edit(context, "a", (old, new), **more)
        assert path.read_bytes() == before
        return str(error.value)

    def test_ambiguous_shows_the_places(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"1\nx = 1\n3\n4\n5\nx = 1\n7\n")
        message = self.refused(context, "x = 1", "y")
        assert "2 places" in message and "set all" in message
        assert "1\t1\n2\tx = 1\n3\t3\n--\n5\t5\n6\tx = 1\n7\t7" in message

    def test_ambiguous_loose_match(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x \ny\nx  \ny\n")
        for every in (False, True):
            message = self.refused(context, "x\ny", "z", all=every)
            assert "2 places of a, ignoring trailing blanks" in message

    def test_absent_shows_the_nearest(self, context: PlainContext, tmp_path: Path) -> None:
        lines = [f"value_{n} = compute({n})" for n in range(100)]
        (tmp_path / "a").write_text("\n".join(lines))
        message = self.refused(context, "value_42 = compute(42, 1)", "x")
        assert "43\tvalue_42 = compute(42)" in message

    def test_nothing_alike(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"abc\n")
        assert "nothing like it" in self.refused(context, "zzzz()", "x")

    def test_already_applied(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"one\nreturn 2\n")
        assert "at line 2: the edit looks already applied" in self.refused(
            context, "return 1", "return 2"
        )

    def test_empty_and_equal(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"one\r\ntwo")
        assert "old is empty" in self.refused(context, "", "x")
        assert "the same" in self.refused(context, "one", "one")
        assert "line ends only" in self.refused(context, "one\r\ntwo", "one\ntwo")

    def test_no_change(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"one two")
        params = EditParams(path="a", edits=[Edit(old="one", new="1"), Edit(old="1", new="one")])
        with pytest.raises(ToolError, match="change nothing"):
            asyncio.run(EditTool().run(params, context))

    def test_changed_since_it_was_read(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"one two")
        read(context, "a")
        edit(context, "a", ("one", "1"))
        edit(context, "a", ("two", "2"))
        (tmp_path / "a").write_bytes(b"1 2 3")
        assert "changed since you last saw it" in self.refused(context, "1", "one")
        read(context, "a")
        edit(context, "a", ("1", "one"))
        assert (tmp_path / "a").read_bytes() == b"one 2 3"

    def test_missing_names_its_neighbours(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "settings.py").touch()
        with pytest.raises(ToolError, match=r"Near names: settings\.py"):
            edit(context, "setings.py", ("a", "b"))

    def test_binary(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"\x7fELF\0\0\0one")
        assert "ELF" in self.refused(context, "one", "two")

    def test_read_only(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"one")
        (tmp_path / "a").chmod(0o444)
        assert "read-only" in self.refused(context, "one", "two")

    def test_folder_and_fifo(self, context: PlainContext, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ToolError, match="FIFO"):
            edit(context, "pipe", ("a", "b"))
        with pytest.raises(ToolError, match="is a folder"):
            edit(context, ".", ("a", "b"))

    def test_a_character_the_encoding_lacks(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes("größer".encode("latin-1"))
        message = self.refused(context, "größer", "größer → besser")
        assert "windows-1252" in message and "U+2192" in message


class TestEncodings:
    @pytest.mark.parametrize("text", ["\ud800", "a\udc80b"])
    def test_half_a_surrogate_pair_does_not_become_a_byte(self, text: str) -> None:
        with pytest.raises(ValidationError, match="surrogate pair"):
            Edit(old="x", new=text)
        with pytest.raises(ValidationError, match="surrogate pair"):
            WriteParams(path="a", content=text)

    def test_windows_1252(self) -> None:
        content = "naïve “café”\r\n".encode("cp1252")
        assert changed(content, "café", "thé") == "naïve “thé”\r\n".encode("cp1252")

    def test_gb18030(self) -> None:
        content = "# 配置文件\nname = 值\n".encode("gb18030")
        assert changed(content, "值", "新值") == "# 配置文件\nname = 新值\n".encode("gb18030")

    def test_utf8_with_bom(self) -> None:
        assert changed(b"\xef\xbb\xbfone\r\n", "one", "1\n2") == b"\xef\xbb\xbf1\r\n2\r\n"

    @pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
    def test_utf16(self, codec: str) -> None:
        bom = "\ufeff".encode(codec)
        content = bom + "a 😀 b\r\n".encode(codec) + b"\x41"
        expected = bom + "a 😎\r\n! b\r\n".encode(codec) + b"\x41"
        assert changed(content, "😀", "😎\n!") == expected

    def test_stray_bytes_in_utf8_stay(self) -> None:
        content = "é “x” ü".encode() + b"\n\xff\xfe\n" + b"one\n"
        assert changed(content, "one", "ö") == content.replace(b"one", "ö".encode())


BODIES = st.one_of(
    st.text('ab é中😀“"\t\r\n', max_size=40).map(str.encode),
    st.binary(max_size=40),
    st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"a", b"\xe9", b"\xc3\xa9", b"\xff"])).map(
        b"".join
    ),
)
BYTES = st.one_of(
    BODIES,
    BODIES.map(lambda b: b"\xef\xbb\xbf" + b),
    st.text("ab é中😀\ud800\r\n", max_size=30).map(
        lambda t: b"\xff\xfe" + t.encode("utf-16-le", "surrogatepass")
    ),
    BODIES.map(lambda b: b"\xfe\xff" + b),
)


@given(BYTES)
def test_decoding_loses_nothing(content: bytes) -> None:
    assert text_bytes.encode(text_bytes.decode(content)) == content


@given(BYTES, BYTES, st.text("qwz\n", max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_bytes_around_the_place_stay(before: bytes, after: bytes, new: str, end: str) -> None:
    """An edit gives what a plain replacement of bytes gives."""
    content = before + b"MARK-1" + end.encode() + b"MARK-2" + after
    decoded = text_bytes.decode(content)
    assume(decoded.text.replace("\r\n", "\n").count("MARK-1\nMARK-2") == 1)
    assume(text_bytes.binary_kind(content) is None)
    assume(decoded.encoding.unit == 1)
    result = changed(content, "MARK-1\nMARK-2", "MARK-1\nX" + new)
    wanted = b"MARK-1" + end.encode() + b"X" + new.replace("\n", end).encode()
    assert result == before + wanted + after


@given(
    st.text("ab é中😀\r\n", max_size=30),
    st.text("ab é中😀\r\n", max_size=30),
    st.text("qw中😀", max_size=6),
    st.sampled_from(["utf-16-le", "utf-16-be", "utf-8"]),
)
def test_marked_encodings_stay(before: str, after: str, new: str, codec: str) -> None:
    def encoded(middle: str) -> bytes:
        return ("\ufeff" + before + middle + after).encode(codec)

    assert changed(encoded("MARK"), "MARK", "X" + new) == encoded("X" + new)

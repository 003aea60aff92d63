"""grep and glob with the real ripgrep."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.protocol.tools import ToolError
from kimi_cli.tools import grep, ripgrep
from kimi_cli.tools.glob import GlobParams, GlobTool
from kimi_cli.tools.globs import options, split_pattern
from kimi_cli.tools.grep import GrepParams, GrepTool
from tests.support.workspace import PlainContext, PlainWorkspace


def put(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.fixture
def context(tmp_path: Path) -> PlainContext:
    return PlainContext(PlainWorkspace(tmp_path))


def search(place: PlainContext, pattern: str, **more: Any) -> str:
    params = GrepParams(pattern=pattern, **more)
    return asyncio.run(GrepTool().run(params, place)).text


def find(context: PlainContext, pattern: str, path: str = ".") -> list[str]:
    params = GlobParams(pattern=pattern, path=path)
    return asyncio.run(GlobTool().run(params, context)).text.split("\n")


class TestGrep:
    def test_matches_by_file_in_order(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"b.py": "x\nhit 1\n", "a/z.py": "hit 2\nhit 3", "c.py": "no"})
        assert search(context, "hit") == "a/z.py\n1:hit 2\n2:hit 3\n\nb.py\n2:hit 1"

    def test_display_counts(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"b": "hit\nhit", "a": "hit"})
        output = asyncio.run(GrepTool().run(GrepParams(pattern="hit"), context))
        assert output.display == "3 matches in 2 files"

    def test_context_lines(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"a": "1\n2\nhit\n4\n5\n6\n7\n8\nhit\n"})
        assert search(context, "hit", context=1) == "a\n2-2\n3:hit\n4-4\n8-8\n9:hit"

    def test_no_match_is_no_error(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"a": "x"})
        assert search(context, "absent") == "No match."
        assert search(context, "absent", files_only=True) == "No match."

    def test_options(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"a.py": "HIT", "b.txt": "hit", "sub/c.py": "hit"})
        assert search(context, "hit", ignore_case=True, glob="*.py") == (
            "a.py\n1:HIT\n\nsub/c.py\n1:hit"
        )
        assert search(context, "hit", files_only=True) == "b.txt\nsub/c.py"
        assert search(context, "hit", path="sub") == "sub/c.py\n1:hit"
        assert search(context, "hit", path="sub/c.py") == "sub/c.py\n1:hit"
        assert search(context, "hit", path=str(tmp_path / "sub")) == "sub/c.py\n1:hit"

    def test_a_pattern_like_an_option(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"-e": "--files\n"})
        assert search(context, "--files") == "-e\n1:--files"
        assert search(context, "--files", path="-e") == "-e\n1:--files"

    def test_several_lines(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"a": "one\ntwo\nthree\n"})
        assert search(context, r"one\ntwo") == "a\n1:one\n2:two"

    def test_ignore_files_count_without_git(self, context: PlainContext, tmp_path: Path) -> None:
        put(
            tmp_path,
            {
                ".gitignore": "build/\n",
                "build/a": "hit",
                ".git/b": "hit",
                ".github/ci.yml": "hit",
                ".env": "hit",
                "sub/.env.local": "hit",
                "server.pem": "hit",
            },
        )
        assert search(context, "hit") == ".github/ci.yml\n1:hit"
        assert search(context, "hit", glob="*") == ".github/ci.yml\n1:hit"
        assert search(context, "hit", path="build") == "build/a\n1:hit"

    def test_errors(self, context: PlainContext, tmp_path: Path) -> None:
        with pytest.raises(ToolError, match=r"(?s)regex parse error.*unclosed group"):
            search(context, "f(")
        with pytest.raises(ToolError, match="look-around"):
            search(context, "a(?=b)")
        with pytest.raises(ToolError, match="error parsing glob"):
            search(context, "a", glob="[")
        with pytest.raises(ToolError, match="does not exist"):
            search(context, "a", path="missing")

    def test_long_lines_are_cut(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"a": "hit" + "x" * 10_000 + "\n"})
        text = search(context, "hit")
        assert len(text) < 500
        assert "omitted" in text

    def test_limit_and_rest(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {f"f{n}": "hit\n" * 10 for n in range(5)})
        text = search(context, "hit", limit=12)
        assert text.count(":hit") == 12
        assert text.endswith("\n[38 more matches: narrow the search]")
        listed = search(context, "hit", limit=2, files_only=True)
        assert listed == "f0\nf1\n[3 more files: narrow the search]"

    def test_output_is_bounded(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"f": ("hit" + "é" * 140 + "\n") * 3000})
        text = search(context, "hit", limit=10_000)
        assert len(text.encode()) < grep.TEXT_LIMIT + 200
        shown = text.count(":hit")
        assert text.endswith(f"[{3000 - shown} more matches: narrow the search]")

    def test_more_than_can_be_sorted_is_still_in_order(
        self, context: PlainContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(grep, "UNSORTED_LIMIT", 2_000)
        put(tmp_path, {f"f{n:02}": "hit\n" * 50 for n in range(40)})
        text = search(context, "hit", limit=60)
        assert [line for line in text.split("\n") if line.startswith("f")] == ["f00", "f01"]
        assert "[at least " in text
        listed = search(context, "hit", limit=3, files_only=True)
        assert listed.startswith("f00\nf01\nf02\n[")

    def test_bytes_that_are_not_utf8(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"\xff hit\r\n")
        (tmp_path / os.fsdecode(b"\xe9")).write_bytes(b"hit\n")
        assert search(context, "hit") == "a\n1:\ufffd hit\n\n\ufffd\n1:hit"

    def test_text_that_looks_like_output(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"a-1:b": "hit 7:x\n--\nhit-8-y\n"})
        assert search(context, "hit", context=1) == "a-1:b\n1:hit 7:x\n2---\n3:hit-8-y"

    def test_a_binary_file_that_was_asked_for(self, context: PlainContext, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"\0\0hit\0")
        assert search(context, "hit", path="a") == "The file is binary, and matches."
        assert search(context, "hit") == "No match."

    def test_the_users_configuration_does_not_interfere(
        self, context: PlainContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(tmp_path, {"a": "hit", "config": "--count\n"})
        monkeypatch.setenv("RIPGREP_CONFIG_PATH", str(tmp_path / "config"))
        assert search(context, "hit") == "a\n1:hit"

    @pytest.mark.parametrize(
        ("more", "target"),
        [
            ({"path": "a"}, "a"),
            ({"glob": "*.py"}, "."),
            ({"glob": "!*.py", "path": "a"}, "a"),
            ({"glob": "../../etc/*"}, "../../etc"),
        ],
    )
    def test_intents(
        self, context: PlainContext, tmp_path: Path, more: dict[str, str], target: str
    ) -> None:
        (intent,) = GrepTool().intents(GrepParams(pattern="x", **more), context.workspace)
        assert intent.kind == "read"
        assert intent.target == os.path.normpath(tmp_path / target)

    def test_a_glob_does_not_bring_ignored_files_back(
        self, context: PlainContext, tmp_path: Path
    ) -> None:
        put(
            tmp_path,
            {
                ".gitignore": "build/\ngenerated.py\n",
                "src/build/a.py": "hit",
                "src/generated.py": "hit",
                "src/b.py": "hit",
                "src/c.txt": "hit",
                "src/sub/d.py": "hit",
                ".git/e.py": "hit",
            },
        )
        for glob, files in {
            "*.py": "src/b.py\nsrc/sub/d.py",
            "**/*.py": "src/b.py\nsrc/sub/d.py",
            "src/**": "src/b.py\nsrc/c.txt\nsrc/sub/d.py",
            "src/*": "src/b.py\nsrc/c.txt",
            "src/*.py": "src/b.py",
            "src/*/d.py": "src/sub/d.py",
            "*.{py,txt}": "src/b.py\nsrc/c.txt\nsrc/sub/d.py",
            "!*.py": "src/c.txt",
        }.items():
            assert search(context, "hit", glob=glob, files_only=True) == files, glob

    def test_too_slow(self, context: PlainContext, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ripgrep, "TIMEOUT", 0.0)
        with pytest.raises(ToolError, match="took longer"):
            search(context, "x")


class TestGlob:
    def test_newest_first(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"old.py": "", "sub/new.py": "", "mid.py": "", "x.txt": ""})
        for name, age in [("old.py", 300), ("mid.py", 200), ("sub/new.py", 100)]:
            os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
        assert find(context, "**/*.py") == ["sub/new.py", "mid.py", "old.py"]
        assert find(context, "*.py") == ["sub/new.py", "mid.py", "old.py"]
        assert find(context, "sub/*.py") == ["sub/new.py"]
        assert find(context, "*.py", "sub") == ["sub/new.py"]
        assert find(context, "./sub/*") == ["sub/new.py"]
        assert find(context, str(tmp_path / "sub/*.py")) == ["sub/new.py"]
        assert find(context, "*.{txt,md}") == ["x.txt"]
        assert find(context, "sub/") == ["sub/new.py"]

    def test_a_slash_anchors(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"src/a.py": "", "lib/src/b.py": ""})
        assert find(context, "src/*.py") == ["src/a.py"]
        assert sorted(find(context, "**/src/*.py")) == ["lib/src/b.py", "src/a.py"]

    def test_ignored_and_hidden(self, context: PlainContext, tmp_path: Path) -> None:
        put(
            tmp_path,
            {".gitignore": "build/", "build/a.js": "", ".github/b.js": "", ".git/c.js": ""},
        )
        assert find(context, "**/*.js") == [".github/b.js"]
        assert find(context, "build/*.js") == ["build/a.js"]

    def test_bounded(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {f"f{n}": "" for n in range(250)})
        found = find(context, "f*")
        assert len(found) == 201
        assert found[-1] == "[50 more files, older]"

    def test_nothing(self, context: PlainContext, tmp_path: Path) -> None:
        put(tmp_path, {"a": ""})
        assert find(context, "*.py") == ["No file matches."]
        assert find(context, "*", "a") == ["a is a file."]
        with pytest.raises(ToolError, match="does not exist"):
            find(context, "missing/*.py")
        with pytest.raises(ToolError, match="glob"):
            find(context, "[")

    @pytest.mark.parametrize(
        ("path", "pattern", "result"),
        [
            (".", "*.py", (".", "*.py")),
            ("a", "b/c/*.py", ("a/b/c", "/*.py")),
            ("a", "b/*/c.py", ("a/b", "/*/c.py")),
            ("a", "**/c.py", ("a/", "/**/c.py")),
            ("a", "/x/y*/z", ("/x", "/y*/z")),
            ("a", "/*.py", ("/", "/*.py")),
            ("a", "~/x/*", ("~/x", "/*")),
            ("a", "../b/*", ("a/../b", "/*")),
        ],
    )
    def test_leading_folders(self, path: str, pattern: str, result: tuple[str, str]) -> None:
        assert split_pattern(path, pattern) == result

    @pytest.mark.parametrize(
        ("rest", "result"),
        [
            ("*.py", ["--type-add=wanted:*.py", "--type=wanted"]),
            ("/**/*.py", ["--type-add=wanted:*.py", "--type=wanted"]),
            ("/x.py", ["--max-depth=1", "--type-add=wanted:x.py", "--type=wanted"]),
            ("/*", ["--max-depth=1"]),
            ("**", []),
            ("/**", []),
            ("/**/*", []),
            ("/*/x.py", ["--glob=/*/x.py"]),
            ("/a/**/b/*", ["--glob=/a/**/b/*"]),
            ("a:b", ["--glob=a:b"]),
        ],
    )
    def test_options(self, rest: str, result: list[str]) -> None:
        assert options(rest) == result

    def test_intents(self, context: PlainContext, tmp_path: Path) -> None:
        (intent,) = GlobTool().intents(GlobParams(pattern="/etc/*.conf"), context.workspace)
        assert (intent.kind, intent.target) == ("read", "/etc")


def test_the_program_is_found_beside_the_interpreter_or_in_the_wheel() -> None:
    assert os.access(ripgrep.find(), os.X_OK)
    assert ripgrep._in_wheel() == ripgrep.find()

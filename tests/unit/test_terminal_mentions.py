"""Mentions of files in a message, and images dropped on the terminal."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.frontends.terminal.mentions import dropped, find, mention, resolve
from kimi_cli.protocol.messages import MediaPart
from kimi_cli.tools.read import MEDIA_LIMIT

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("src/x.py", "a b.py", "日本/說明.md", "odd.", 'q"uote\\d', "x.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("text")
    (tmp_path / "shot.png").write_bytes(PNG)
    (tmp_path / "my shot.png").write_bytes(PNG)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("@src/x.py", "src/x.py"),
        ("see @src/x.py and @x.py", "see src/x.py and x.py"),
        ("(@src/x.py), @x.py.", "(src/x.py), x.py."),
        ("@src/x.py:12-30, please", "src/x.py:12-30, please"),
        ("look at @src/", "look at src/"),
        ("@src", "src"),
        ('@"a b.py" is odd', '"a b.py" is odd'),
        ('@"src/x.py"', "src/x.py"),
        ("看@src/x.py，谢谢", "看src/x.py，谢谢"),
        ("@src/x.py有错", "src/x.py有错"),
        ("@日本/說明.md", "日本/說明.md"),
        ("@日本/說明.md。", "日本/說明.md。"),
        ("@odd.", "odd."),
        ("@odd..", "odd.."),
        (r'@"q\"uote\\d"', r'"q\"uote\\d"'),
        ("@./src/../x.py", "./src/../x.py"),
    ],
)
def test_what_exists_loses_its_sign(project: Path, typed: str, sent: str) -> None:
    assert resolve(typed, project) == (sent, [], [])


@pytest.mark.parametrize(
    "text",
    [
        "@nothing/here.py",
        "@x.pyi",
        "@src/x.py.bak",
        "me@x.py",
        "pip install a@x.py",
        "https://host/@x.py",
        "@@x.py",
        "@ x.py",
        "@",
        '@"src',
        '@"missing file"',
        "@property",
        "@x.py\0",
        "@" + "y" * 5000,
        "@" + "長" * 5000,
        "",
    ],
)
def test_what_does_not_exist_stays_as_it_was_typed(project: Path, text: str) -> None:
    assert resolve(text, project) == (text, [], [])


def test_an_absolute_path_and_one_in_the_home(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project))
    assert resolve(f"@{project}/x.py", Path("/")).text == f"{project}/x.py"
    assert resolve("@~/x.py", Path("/")).text == f"{project}/x.py"
    assert resolve('@"~/a b.py"', Path("/")).text == f'"{project}/a b.py"'


def test_an_image_comes_along_once_and_its_path_stays(project: Path) -> None:
    text, parts, problems = resolve('compare @shot.png with @"my shot.png" and @shot.png', project)
    assert text == 'compare shot.png with "my shot.png" and shot.png'
    assert not problems
    assert [part.name for part in parts if isinstance(part, MediaPart)] == [
        "shot.png",
        "my shot.png",
    ]
    part = parts[0]
    assert isinstance(part, MediaPart) and part.kind == "image"
    assert part.url == "data:image/png;base64," + base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    ("head", "mime"),
    [(b"\xff\xd8\xff", "jpeg"), (b"GIF89a", "gif"), (b"RIFF\0\0\0\0WEBP", "webp")],
)
def test_an_image_is_one_by_its_content(tmp_path: Path, head: bytes, mime: str) -> None:
    (tmp_path / "picture.dat").write_bytes(head + bytes(50))
    (part,) = resolve("@picture.dat", tmp_path).parts
    assert isinstance(part, MediaPart) and part.url.startswith(f"data:image/{mime};base64,")


def test_what_only_looks_like_an_image_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "fake.png").write_text("no image")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    text = "@fake.png @pipe.png @loop.png"
    assert resolve(text, tmp_path) == ("fake.png pipe.png @loop.png", [], [])


def test_a_big_image_is_told_and_not_sent(tmp_path: Path) -> None:
    with (tmp_path / "big.png").open("wb") as file:
        file.write(PNG)
        file.truncate(MEDIA_LIMIT + 1)
    text, parts, problems = resolve("@big.png", tmp_path)
    assert (text, parts) == ("big.png", [])
    assert problems == ["big.png is larger than 10 MiB: only its path is sent"]


@given(names.filter(bool), st.sampled_from(["", " ", "(", "看", "\n"]), st.sampled_from(["", " x"]))
def test_a_path_as_it_is_mentioned_is_read_back(path: str, before: str, after: str) -> None:
    text = before + mention(path) + after
    assert [found.path for found in find(text)][:1] == [path]


@given(st.text(st.sampled_from('@ab/."\\ \n()長')) | st.text())
def test_mentions_are_in_the_text_in_order(text: str) -> None:
    end = 0
    for found in find(text):
        assert end <= found.start < found.end <= len(text)
        assert text[found.start] == "@"
        inside = text[found.start + 1 : found.end]
        assert inside[0] == inside[-1] == '"' if found.quoted else inside == found.path
        end = found.end


@given(st.text(st.sampled_from('@x.py "\\\n()長')) | st.text())
def test_without_files_a_message_stays_as_it_is(text: str) -> None:
    assert resolve(text, Path("/nonexistent")) == (text, [], [])


def test_dropped_images_become_mentions(project: Path) -> None:
    shot, spaced = project / "shot.png", project / "my shot.png"
    escaped = str(spaced).replace(" ", "\\ ")
    for paste in (
        str(shot),
        f"{shot} ",
        f"'{shot}'\n",
        f"file://{shot}",
        f"file://localhost{shot}",
    ):
        assert dropped(paste, Path("/elsewhere")) == f"@{shot} "
        assert dropped(paste, project) == "@shot.png "
    for paste in (str(spaced), escaped, f'"{spaced}"', f"file://{quote(str(spaced))}"):
        assert dropped(paste, project) == '@"my shot.png" '
    assert dropped(f"{shot} {escaped}", project) == '@shot.png @"my shot.png" '


def test_any_other_paste_is_text(project: Path) -> None:
    shot = project / "shot.png"
    for paste in (
        "",
        "text",
        "shot.png",
        str(project / "x.py"),
        str(project / "missing.png"),
        f"look at {shot}",
        f"{shot} please",
        f"{shot}\n{shot}",
        f"file://otherhost{shot}",
        "file://[",
        "/",
        "'unclosed",
        "/\0",
    ):
        assert dropped(paste, project) is None


@given(st.text())
def test_no_paste_breaks_it(text: str) -> None:
    assert dropped("/" + text, Path("/nonexistent")) is None

"""AGENTS.md files: which are read, in which order, and what of them fits."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.prompts import load
from kimi_cli.workspace.instructions import LARGEST, Found, Skipped, find_instructions, merge

FRAME = load("instructions").split("{files}")[0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "kimi-home"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "services" / "api").mkdir(parents=True)
    return folder


def texts(home: Path, root: Path, cwd: Path | None = None, limit: int = 32_768) -> list[str]:
    """The blocks of the merged text."""
    _, text = find_instructions(home, root, cwd or root, limit)
    assert len(text.encode()) <= limit
    assert text == "" or text.startswith(FRAME)
    return text.removeprefix(FRAME).split("\n\n") if text else []


def test_no_files_no_words(home: Path, root: Path) -> None:
    assert find_instructions(home, root, root) == ([], "")
    assert find_instructions(home / "gone", root / "gone", root / "gone" / "deep") == ([], "")


def test_from_the_general_to_the_particular(home: Path, root: Path) -> None:
    api = root / "services" / "api"
    for folder, words in ((home, "mine"), (root, "whole"), (api, "api"), (root / "services", "s")):
        (folder / "AGENTS.md").write_text(f"# About {words}\n")
    (root / "services" / "web").mkdir()
    (root / "services" / "web" / "AGENTS.md").write_text("not on the way")
    (root.parent / "AGENTS.md").write_text("above the repository")
    assert texts(home, root, api) == [
        f"--- {home}/AGENTS.md, the user's own, for all projects ---\n# About mine",
        "--- AGENTS.md, for the whole project ---\n# About whole",
        "--- services/AGENTS.md, for services/ ---\n# About s",
        "--- services/api/AGENTS.md, for services/api/ ---\n# About api",
    ]
    files, _ = find_instructions(home, root, api)
    folders = (home, root, root / "services", api)
    assert [file.path for file in files] == [str(folder / "AGENTS.md") for folder in folders]
    assert files[0].digest == sha256(b"# About mine\n").hexdigest()
    assert not any(file.clipped for file in files)
    assert len(texts(home, root)) == 2


def test_a_working_directory_elsewhere_adds_nothing(home: Path, root: Path) -> None:
    (root / "AGENTS.md").write_text("whole")
    (root.parent / "AGENTS.md").write_text("elsewhere")
    assert texts(home, root, root.parent) == texts(home, root)


def test_other_names_are_not_read(home: Path, root: Path) -> None:
    for name in ("CLAUDE.md", "agents.txt", ".cursorrules", "AGENTS.md.bak"):
        (root / name).write_text("for others")
    assert texts(home, root) == []


def test_strange_contents(home: Path, root: Path) -> None:
    path = root / "AGENTS.md"
    for nothing in (b"", b" \n\t\n", b"\xef\xbb\xbf\n"):
        path.write_bytes(nothing)
        assert texts(home, root) == []
    path.write_bytes(b"\xef\xbb\xbfcaf\xe9 {files} {0} \xf0\x9f\x8e\x89\r\n")
    [block] = texts(home, root)
    assert block.endswith("---\ncaf\ufffd {files} {0} \U0001f389")


@pytest.mark.parametrize("what", ["folder", "fifo", "socket", "outside", "large", "loop"])
def test_what_is_no_file_of_the_repository_is_left_out(
    what: str, home: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "services" / "AGENTS.md"
    listener = socket.socket(socket.AF_UNIX)
    secret = root.parent / "secret"
    secret.write_text("the secret")
    match what:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            monkeypatch.chdir(path.parent)
            listener.bind(path.name)
        case "outside":
            path.symlink_to(secret)
        case "loop":
            path.symlink_to(path)
        case "large":
            with path.open("wb") as file:
                file.truncate(LARGEST + 1)
    (root / "AGENTS.md").write_text("whole")
    blocks = texts(home, root, root / "services")
    listener.close()
    assert blocks[0].endswith("whole")
    assert blocks[1].startswith("--- services/AGENTS.md: left out, ")
    assert len(blocks) == 2 and "secret" not in blocks[1]
    # By itself it is nothing to tell the model.
    (root / "AGENTS.md").unlink()
    assert find_instructions(home, root, root / "services") == ([], "")


AS_NOBODY = """
import os, sys
from pathlib import Path
from kimi_cli.workspace.instructions import find_instructions
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(find_instructions(*map(Path, sys.argv[1:]))[1])
"""


def test_a_file_that_may_not_be_read_is_left_out() -> None:
    """In a child without root's rights, for which every file is open."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "AGENTS.md").write_text("whole")
        (root / "services").mkdir()
        closed = root / "services" / "AGENTS.md"
        closed.write_text("closed")
        closed.chmod(0)
        arguments = [root / "home", root, root / "services"]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
    assert done.returncode == 0, done.stderr
    assert "whole" in done.stdout and "---\nclosed" not in done.stdout
    assert "services/AGENTS.md: left out, it could not be read (Permission denied)" in done.stdout


def test_links_inside_the_repository_are_followed_once(home: Path, root: Path) -> None:
    (root / "docs").mkdir()
    (root / "docs" / "agents.md").write_text("linked")
    (root / "AGENTS.md").symlink_to("docs/agents.md")
    (root / "services" / "AGENTS.md").symlink_to("../AGENTS.md")
    os.link(root / "docs" / "agents.md", root / "services" / "api" / "AGENTS.md")
    [block] = texts(home, root, root / "services" / "api")
    assert block == "--- AGENTS.md, for the whole project ---\nlinked"


def test_the_users_own_may_be_a_link_to_anywhere(home: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles.md").write_text("mine")
    (home / "AGENTS.md").symlink_to(tmp_path / "dotfiles.md")
    assert texts(home, root)[0].endswith("mine")


def test_names_that_are_no_utf8(home: Path, root: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9"))
    folder.mkdir()
    (folder / "AGENTS.md").write_text("in it")
    files, text = find_instructions(home, root, folder)
    assert "--- caf\ufffd/AGENTS.md, for caf\ufffd/ ---\nin it" in text
    assert files[0].path.endswith("caf\ufffd/AGENTS.md")


def test_the_shallower_ones_are_cut_first(home: Path, root: Path) -> None:
    api = root / "services" / "api"
    lines = "".join(f"line {n} of the project\n" for n in range(200))
    (home / "AGENTS.md").write_text("m" * 3000)
    (root / "AGENTS.md").write_text(lines)
    (root / "services" / "AGENTS.md").write_text("s" * 300)
    (api / "AGENTS.md").write_text("a" * 1000)
    files, text = find_instructions(home, root, api, 4000)
    assert [file.clipped for file in files] == [True, True, False, False]
    blocks = text.removeprefix(FRAME).split("\n\n")
    assert blocks[0].startswith(f"--- {home}/AGENTS.md, the user's own")
    assert blocks[0].endswith(": left out, there was no room ---")
    assert blocks[1].splitlines()[1] == "line 0 of the project"
    *_, last, note = blocks[1].splitlines()
    assert last.startswith("line ") and last.endswith(" of the project")
    assert note == f"[... the rest of its {len(lines) - 1:,} bytes is left out: too long ...]"
    assert blocks[2].endswith("s" * 300) and blocks[3].endswith("a" * 1000)
    assert 3500 < len(text.encode()) <= 4000


def test_one_that_is_too_long_by_itself_is_cut(home: Path, root: Path) -> None:
    (root / "AGENTS.md").write_text("é" * 10_000)
    files, text = find_instructions(home, root, root, 3000)
    assert files[0].clipped
    assert 2900 < len(text.encode()) <= 3000
    assert "é\n[... the rest of its 20,000 bytes is left out" in text
    assert find_instructions(home, root, root, 100) == ([], "")


FILES = st.lists(
    st.text(st.sampled_from("ab \né🎉#"), min_size=1, max_size=900).map(lambda s: s.strip() or "x"),
    max_size=5,
)


@given(FILES, st.integers(0, 4000), st.integers(0, 2))
def test_what_is_merged(contents: list[str], limit: int, skips: int) -> None:
    found = [
        Found(Path(f"/p/{n}/AGENTS.md"), f"{n}/AGENTS.md", f"for {n}/", text)
        for n, text in enumerate(contents)
    ]
    skipped = [Skipped(f"s{n}/AGENTS.md", "it is a link out of the project") for n in range(skips)]
    whole, text = merge(found, skipped, limit)
    assert len(whole) == len(found)
    assert len(text.encode()) <= limit
    blocks = [f"--- {one.shown}, {one.scope} ---\n{one.text}" for one in found]
    for complete, block in zip(whole, blocks, strict=True):
        assert not complete or block in text
    if found and len(blocks[-1].encode()) + 2 <= limit:
        assert whole[-1]
    # Nothing is cut before what is less particular is.
    assert whole == sorted(whole) or any(whole[: whole.index(False)])
    if sum(len(block.encode()) + 2 for block in blocks) <= limit:
        assert all(whole)
        assert "\n\n".join(blocks) in text

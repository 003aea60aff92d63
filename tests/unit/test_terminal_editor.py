"""The user's editor: programs that stand in for one, as real processes."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest

from kimi_cli.frontends.terminal.editor import EditorError, edit_in_editor, find_editor


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport os, pathlib, sys, time\n{text}\n")
    path.chmod(0o755)
    return path


def edit(text: str, editor: Path | str, **more: str) -> str | None:
    env = {"PATH": os.environ["PATH"], "EDITOR": str(editor), **more}
    return asyncio.run(edit_in_editor(text, env))


def test_what_is_edited_comes_back_without_the_last_newline(tmp_path: Path) -> None:
    add = "p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text() + 'third\\n')"
    editor = script(tmp_path, "ed", add)
    assert edit("first\nsecond", editor) == "first\nsecond\nthird"
    assert edit("", editor) == "third"
    assert edit("多行\n", editor) == "多行\nthird"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a\\r\\nb\\r\\n", "a\nb"),
        ("a\\n\\n", "a\n"),
        ("", ""),
        ("\\xff", "\ufffd"),
        ("\\xef\\xbb\\xbfa", "a"),
    ],
)
def test_what_editors_write(tmp_path: Path, written: str, expected: str) -> None:
    editor = script(tmp_path, "ed", f"pathlib.Path(sys.argv[1]).write_bytes(b'{written}')")
    assert edit("text", editor) == expected


@pytest.mark.parametrize("text", ["", "a", "a\n", "a\n\n", "a\nb"])
def test_what_is_left_as_it_was_is_none(tmp_path: Path, text: str) -> None:
    assert edit(text, script(tmp_path, "ed", "pass")) is None


def test_the_file_is_private_and_goes_with_all_beside_it(tmp_path: Path) -> None:
    report = tmp_path / "report"
    look = (
        "p = pathlib.Path(sys.argv[1]); p.with_name('x.swp').write_text('')\n"
        f"pathlib.Path({str(report)!r}).write_text(f'{{p}} {{p.stat().st_mode}} "
        "{p.parent.stat().st_mode}')"
    )
    edit("text", script(tmp_path, "ed", look))
    name, mode, folder_mode = report.read_text().split()
    assert Path(name).name.startswith("kimi-") and name.endswith(".md")
    assert Path(name).parent.parent == Path(tempfile.gettempdir())
    assert stat.S_IMODE(int(mode)) == 0o600 and stat.S_IMODE(int(folder_mode)) == 0o700
    assert not Path(name).parent.exists()


def test_visual_comes_first_and_may_have_arguments(tmp_path: Path) -> None:
    arguments = "pathlib.Path(sys.argv[-1]).write_text(' '.join(sys.argv[1:-1]))"
    editor = script(tmp_path, "my editor", arguments)
    assert edit("", "false", VISUAL=f"'{editor}' --wait -n") == "--wait -n"
    assert edit("", f"'{editor}' -x", VISUAL="  ") == "-x"


def test_without_a_choice_it_is_looked_for_on_path(tmp_path: Path) -> None:
    for name in ("vi", "nano"):
        script(tmp_path, name, "pass")
    assert find_editor({"PATH": str(tmp_path)}) == [str(tmp_path / "nano")]
    (tmp_path / "nano").unlink()
    assert find_editor({"PATH": str(tmp_path)}) == [str(tmp_path / "vi")]
    with pytest.raises(EditorError, match="no editor"):
        find_editor({"PATH": str(tmp_path / "nothing")})


@pytest.mark.parametrize(
    ("editor", "words"),
    [("false", "status 1"), ("/nonexistent/ed", "No such file"), ("'open", "EDITOR is not")],
)
def test_a_failure_is_told(editor: str, words: str) -> None:
    with pytest.raises(EditorError, match=words):
        edit("text", editor)


def test_a_cancelled_edit_ends_the_editor(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    os.mkfifo(pid)
    wait = f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(600)"
    editor = script(tmp_path, "ed", wait)

    async def cancel() -> int:
        env = {"PATH": os.environ["PATH"], "EDITOR": str(editor)}
        task = asyncio.create_task(edit_in_editor("text", env))
        number = int(await asyncio.to_thread(pid.read_text))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return number

    number = asyncio.run(cancel())
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)

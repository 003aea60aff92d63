"""The history of a project: several processes, torn lines, folders that can't be written."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.layout import BufferControl, Layout, Window
from prompt_toolkit.output import DummyOutput
from prompt_toolkit.search import SearchDirection, SearchState

from kimi_cli.frontends.terminal import history
from kimi_cli.frontends.terminal.history import ProjectHistory, history_file
from kimi_cli.frontends.terminal.pastes import LONGEST_HISTORY, Pastes
from kimi_cli.store.index import project_folder

APPENDER = """
import sys
from pathlib import Path
from kimi_cli.frontends.terminal.history import ProjectHistory
history = ProjectHistory(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    history.append_string(f"{sys.argv[2]} {number} " + "x" * 3000)
"""


def loaded(history: ProjectHistory) -> list[str]:
    async def load() -> list[str]:
        return [text async for text in history.load()]

    return asyncio.run(load())


def test_what_one_run_typed_the_next_one_has_newest_first(tmp_path: Path) -> None:
    file = history_file(tmp_path / "home", tmp_path)
    first = ProjectHistory(file)
    for text in ("one", "two\nlines", "三", "\udc80 half"):
        first.append_string(text)
    assert loaded(ProjectHistory(file)) == ["\udc80 half", "三", "two\nlines", "one"]


def test_it_is_private_and_named_like_the_sessions_of_the_project(tmp_path: Path) -> None:
    home = tmp_path / "home"
    file = history_file(home, tmp_path)
    ProjectHistory(file).append_string("secret")
    assert file.stem == project_folder(home, tmp_path).name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {stat.S_IMODE(p.stat().st_mode) for p in (file.parent, home)} == {0o700}


def test_the_same_again_is_kept_once(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    for _ in range(2):
        history = ProjectHistory(file)
        for text in ("a", "a", "b", "b", "a"):
            history.append_string(text)
    assert loaded(ProjectHistory(file)) == ["a", "b", "a", "b", "a"]


def test_several_processes_append_at_once(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    processes = [
        subprocess.Popen([sys.executable, "-c", APPENDER, str(file), name, "60"]) for name in "abc"
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    found = loaded(ProjectHistory(file))
    for name in "abc":
        own = [text.split()[1] for text in found if text.startswith(name)]
        assert own == [str(number) for number in reversed(range(60))]


def test_a_shortening_loses_nothing_that_others_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEPT", 500)
    file = tmp_path / "h.jsonl"
    file.write_text("".join(json.dumps(f"old {number}") + "\n" for number in range(1200)))
    done = threading.Event()

    def shorten() -> None:
        while not done.is_set():
            loaded(ProjectHistory(file))
            with file.open("ab") as more:
                more.write(b"torn\n" * 1000)

    shortener = threading.Thread(target=shorten)
    shortener.start()
    try:
        subprocess.run([sys.executable, "-c", APPENDER, str(file), "new", "100"], check=True)
    finally:
        done.set()
        shortener.join()
    assert sum(text.startswith("new") for text in loaded(ProjectHistory(file))) == 100


def test_the_newest_are_kept_and_the_file_stays_short(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    many = 2 * history.KEPT + 5
    file.write_text("".join(json.dumps(f"{number}") + "\n" for number in range(many)))
    before = file.stat().st_size
    newest = [str(number) for number in reversed(range(many - history.KEPT, many))]
    assert loaded(ProjectHistory(file)) == newest
    assert file.stat().st_size < before
    assert loaded(ProjectHistory(file)) == newest
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_long_messages_are_shortened_away_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEPT_BYTES", 10_000)
    file = tmp_path / "h.jsonl"
    writer = ProjectHistory(file)
    for number in range(30):
        writer.append_string(f"{number} " + "x" * 1000)
    loaded(ProjectHistory(file))
    assert [text.split()[0] for text in loaded(ProjectHistory(file))] == [
        "29",
        "28",
        "27",
        "26",
        "25",
    ]


@pytest.mark.parametrize("torn", [b'"half a li', b'"half"', b"\xff\xfe", b"[" * 100_000, b"42"])
def test_a_torn_line_is_passed_over_and_swallows_nothing(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "h.jsonl"
    ProjectHistory(file).append_string("before")
    with file.open("ab") as writer:
        writer.write(torn)
    ProjectHistory(file).append_string("after")
    found = [text for text in loaded(ProjectHistory(file)) if text != "half"]
    assert found == ["after", "before"]


@given(cut=st.integers(0, 60), texts=st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_a_file_cut_anywhere_gives_whole_messages(
    tmp_path_factory: pytest.TempPathFactory, cut: int, texts: list[str]
) -> None:
    file = tmp_path_factory.mktemp("cut") / "h.jsonl"
    writer = ProjectHistory(file)
    for text in texts:
        writer.append_string(text)
    os.truncate(file, max(file.stat().st_size - cut, 0))
    assert set(loaded(ProjectHistory(file))) <= set(texts)


@pytest.mark.parametrize("obstacle", ["file as home", "folder as file", "dangling link"])
def test_where_nothing_can_be_kept_it_is_that_of_the_process(tmp_path: Path, obstacle: str) -> None:
    home = tmp_path / "home"
    file = home / "history" / "h.jsonl"
    if obstacle == "file as home":
        home.write_text("")
    elif obstacle == "folder as file":
        file.mkdir(parents=True)
    else:
        file.parent.mkdir(parents=True)
        file.symlink_to(tmp_path / "elsewhere")
    history = ProjectHistory(file)
    history.append_string("one")
    history.append_string("two")
    assert loaded(history) == ["two", "one"]
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_typed_before_it_is_read_comes_once(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    ProjectHistory(file).append_string("old")
    history = ProjectHistory(file)
    history.append_string("new")
    ProjectHistory(file).append_string("of another")
    assert loaded(history) == ["new", "of another", "old"]
    assert loaded(history) == ["new", "of another", "old"]


def test_a_paste_is_stored_with_its_content_unless_that_is_too_much(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    pastes = Pastes()
    history = ProjectHistory(file, pastes.for_history)
    small = pastes.fold("line\n" * 20)
    big = pastes.fold("x" * (LONGEST_HISTORY + 1))
    history.append_string(f"see {small}")
    history.append_string(f"and {big}")
    assert history.get_strings() == [f"see {small}", f"and {big}"]
    newest, older = loaded(ProjectHistory(file))
    assert older == "see " + "line\n" * 20
    assert newest.startswith("and [paste 2: 65,537 characters") and len(newest) < 100
    # In the next run it must not stand for another paste of the same size.
    again = Pastes()
    for _ in range(2):
        again.fold("y" * (LONGEST_HISTORY + 1))
    assert again.expand(newest) == newest


def test_buffers_search_and_arrows_see_what_other_sessions_typed(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    ProjectHistory(file).append_string("fix the parser")
    ProjectHistory(file).append_string("write the docs")

    async def use() -> tuple[str, str]:
        buffer = Buffer(history=ProjectHistory(file))
        with create_pipe_input() as source:
            application: Application[None] = Application(
                Layout(Window(BufferControl(buffer))), input=source, output=DummyOutput()
            )
            running = asyncio.ensure_future(application.run_async())
            for _ in range(20_000):
                if buffer.history.get_strings():
                    break
                await asyncio.sleep(0.001)
            buffer.history_backward()
            newest = buffer.text
            buffer.history_forward()
            state = SearchState("parser", SearchDirection.BACKWARD, ignore_case=True)
            buffer.apply_search(state, include_current_position=False)
            application.exit()
            await running
        return newest, buffer.text

    assert asyncio.run(use()) == ("write the docs", "fix the parser")

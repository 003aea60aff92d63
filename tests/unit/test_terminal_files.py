"""Finding files: the listing of a real folder, and the ranking of paths."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.frontends.terminal.file_index import FileIndex, entries
from kimi_cli.frontends.terminal.fuzzy import CHUNK, Corpus, fold, score

letters = st.text(st.sampled_from("aAbBcİß/_-. 0"))
paths = st.lists(
    st.text(st.sampled_from("aAbBcİ/_-. "), min_size=1).filter(str.strip), unique=True, max_size=30
)


def listed(base: Path, *folders: Path) -> list[str]:
    index = FileIndex(base, folders or [base])
    index.refresh()
    assert index.wait(60)
    return sorted(index.search("e") + index.search(".x"))


def write(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")


def test_files_and_folders_without_what_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, "here.x", "src/deep/one.x", ".github/e.x", "made/out.x", "not.x", ".git/e.x")
    (tmp_path / ".gitignore").write_text("made/\n")
    (tmp_path / ".ignore").write_text("not.x\n")
    assert set(listed(tmp_path)) == {
        *("here.x", "src/deep/", "src/deep/one.x", ".github/e.x", ".gitignore", ".ignore")
    }


def test_names_that_cant_be_shown_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "fine.x", "new\nline.x", "bell\x07.x", "turn\u202eed.x", "日本.x")
    os.close(os.open(os.fsencode(tmp_path) + b"/bad\xff.x", os.O_CREAT | os.O_WRONLY))
    assert listed(tmp_path) == ["fine.x", "fine.x", "日本.x"]
    assert entries(tmp_path, "") == ["fine.x", "日本.x"]


def test_folders_around_in_and_beside_the_base(tmp_path: Path) -> None:
    project, other = tmp_path / "project", tmp_path / "other"
    base = project / "sub" / "dir"
    write(project, "top.x", "sub/side.x", "sub/dir/inner.x", "sub/dir/in/in.x", "lib/l.x")
    write(other, "o.x", "deep/d.x")
    index = FileIndex(base, [project, other])
    index.refresh()
    assert index.wait(60)
    assert set(index.search(".x", 100)) == {
        *("inner.x", "in/in.x", "../side.x", "../../top.x", "../../lib/l.x"),
        *(f"{other}/o.x", f"{other}/deep/d.x"),
    }
    assert index.search("in/")[0] == "in/"
    assert f"{other}/deep/" in index.search("deep")
    assert index.search("")[:2] == ["in/", "inner.x"]


def test_a_new_file_is_found_once_the_listing_is_old(tmp_path: Path) -> None:
    write(tmp_path, "one.x")
    index = FileIndex(tmp_path, [tmp_path], max_age=0.0)
    assert index.search("one") == ["one.x"]
    write(tmp_path, "two.x")
    # Each search gives what is known and has the files listed anew.
    assert any(index.search("two") == ["two.x"] for _ in range(100_000))


def test_a_folder_that_is_gone_gives_nothing(tmp_path: Path) -> None:
    index = FileIndex(tmp_path / "gone", [tmp_path / "gone"])
    assert index.search("a") == []
    assert entries(tmp_path / "gone", "a") == []


def test_typing_does_not_wait_for_a_listing(tmp_path: Path) -> None:
    write(tmp_path, "one.x")
    index = FileIndex(tmp_path, [tmp_path], max_age=0.0)
    before = threading.active_count()
    for _ in range(50):
        index.refresh()
    assert threading.active_count() <= before + 1
    assert index.wait(60)


def test_entries_of_a_folder_go_on_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "src/one.x", "src/two.x", "src/in/x", "src/.hidden")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert entries(tmp_path, "src/") == ["src/in/", "src/one.x", "src/two.x"]
    assert entries(tmp_path, "src/o") == ["src/one.x"]
    assert entries(tmp_path, "src/.") == ["src/.hidden"]
    assert entries(tmp_path / "src", "../s") == ["../src/"]
    assert entries(Path("/"), "~/src/t") == ["~/src/two.x"]
    assert entries(Path("/"), f"{tmp_path}/src/t") == [f"{tmp_path}/src/two.x"]
    assert entries(tmp_path, "src/\0") == []


@pytest.mark.parametrize(
    ("query", "better", "worse"),
    [
        ("cart", "src/cart.py", "src/cartoon.py"),
        ("cart", "src/cart.py", "cart_old/x/tests/readme.md"),
        ("cart", "cart.py", "src/cart.py"),
        ("cart", "src/cart.py", "src/c_a_r_t.py"),
        ("cart", "src/cart.py", "src/scarlet.py"),
        ("tc", "tests/test_cart.py", "tests/patcher.py"),
        ("fi", "kimi/file_index.py", "kimi/profiler.py"),
        ("fi", "FileIndex.java", "Refile.java"),
        ("hc", "src/httpClient.ts", "src/cache.ts"),
        ("src/ca", "src/cart.py", "source/recall.py"),
        ("READ", "README.md", "docs/THREADS.md"),
        ("app.py", "src/app.py", "src/apple.pyi"),
    ],
)
def test_what_is_meant_comes_first(query: str, better: str, worse: str) -> None:
    assert Corpus([worse, better]).search(query)[0] == better


def test_only_a_query_with_capitals_looks_at_case() -> None:
    corpus = Corpus(["README.md", "readme.txt"])
    assert set(corpus.search("read")) == {"README.md", "readme.txt"}
    assert corpus.search("READ") == ["README.md"]
    assert corpus.search("Read") == []


def _is_subsequence(query: str, text: str) -> bool:
    rest = iter(text)
    return all(letter in rest for letter in query)


@given(letters, letters)
def test_a_match_has_the_letters_in_their_order(query: str, path: str) -> None:
    text = path if query != fold(query) else fold(path)
    assert (score(query, path) is not None) == _is_subsequence(query, text)


@given(st.text(), st.text())
def test_folding_keeps_every_letter_in_its_place(text: str, more: str) -> None:
    assert fold(text + "\n" + more) == fold(text) + "\n" + fold(more)
    assert len(fold(text)) == len(text)


@given(letters.filter(bool), paths)
def test_a_search_finds_exactly_what_matches(query: str, among: list[str]) -> None:
    found = Corpus(among).search(query, 1000)
    assert set(found) == {path for path in among if score(query, path) is not None}
    assert len(found) == len(set(found))


@given(letters, paths, st.randoms())
def test_the_order_depends_on_nothing_else(
    query: str, among: list[str], chance: random.Random
) -> None:
    found = Corpus(among).search(query, 10)
    chance.shuffle(among)
    assert Corpus(among).search(query, 10) == found


def test_a_hundred_thousand_paths_in_several_chunks() -> None:
    many = [f"pkg{number % 300}/mod{number % 7}/file_{number}.py" for number in range(100_000)]
    corpus = Corpus([*many, "zebra/quick_start.md"])
    assert corpus.search("qs") == ["zebra/quick_start.md"]
    assert corpus.search("file_99999")[0] == "pkg99/mod4/file_99999.py"
    assert len(corpus.search("f")) == 50


def test_a_search_can_be_given_up() -> None:
    corpus = Corpus([f"file{number}" for number in range(3 * CHUNK)])
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 2

    assert corpus.search("xyz", stop=stop) == []
    # Not once for every chunk and every way to look for it.
    assert len(asked) < 3 * 4

"""What was folded away can be found again, within bounds."""

from __future__ import annotations

from pathlib import Path

from kimi_cli.frontends.terminal.folds import READ, Folds


def test_the_newest_of_a_kind_is_found() -> None:
    folds = Folds()
    assert folds.latest() is None
    assert [folds.add("output", "one", "1"), folds.add("thinking", "two", "2")] == [1, 2]
    newest, output = folds.latest(), folds.latest("output")
    assert newest and newest.text == "2"
    assert output and (output.title, output.text) == ("one", "1")
    assert folds.latest("diff") is None
    assert [fold.number for fold in folds.all()] == [1, 2]


def test_memory_is_bounded_and_the_oldest_go() -> None:
    folds = Folds(limit=100)
    for number in range(50):
        folds.add("output", str(number), "x" * 30)
    assert [fold.title for fold in folds.all()] == ["47", "48", "49"]
    folds.add("output", "huge", "a" * 500 + "z" * 100)
    assert [(fold.title, fold.text) for fold in folds.all()] == [("huge", "z" * 100)]


def test_a_file_is_read_when_it_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "output"
    folds = Folds()
    folds.add("output", "make", "the end", str(path))
    fold = folds.latest()
    assert fold and fold.text == "the end", "a file that is gone leaves the excerpt"
    path.write_bytes(b"all of it \xff\n")
    assert fold.text == "all of it \ufffd\n"
    path.write_bytes(b"line of ten\n" * (READ // 10))
    assert fold.text.startswith("[the first ") and fold.text.count("line of ten") > READ // 13

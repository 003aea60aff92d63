"""The parts of the terminal's commands that need no terminal."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.agent.context_report import KINDS, Report, Result
from kimi_cli.frontends.context_lines import context_lines
from kimi_cli.frontends.terminal.commands import beside, changes, config, export, models
from kimi_cli.frontends.terminal.commands.command import CommandError
from kimi_cli.frontends.terminal.commands.support import number_of, words
from kimi_cli.frontends.terminal.commands.table import all_commands, find_command, split_line
from kimi_cli.frontends.terminal.look import Look
from kimi_cli.frontends.terminal.paint import cells
from kimi_cli.model.catalogue import lookup
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Checkpoint, TurnEnded, TurnStarted
from kimi_cli.protocol.stops import StopReason
from kimi_cli.workspace.diffs import compare
from tests.e2e.conftest import git

ANSI = re.compile(r"\x1b\[[0-9;]*m")
DOCS = Path(__file__).parents[2] / "docs" / "commands.md"


def test_every_command_is_whole_and_in_the_docs() -> None:
    commands = all_commands()
    names = [name for one in commands for name in (one.name, *one.aliases)]
    assert len(names) == len(set(names))
    rows = dict(re.findall(r"^\| `/(\w+)[^`]*` \| (.*) \|$", DOCS.read_text(), re.MULTILINE))
    assert set(rows) == {one.name for one in commands}
    for one in commands:
        assert one.help[0].islower()
        assert not one.help.endswith(".")
        assert rows[one.name].endswith("*waits*") is not one.while_busy, one.name


@given(st.text(max_size=40))
def test_a_line_is_a_command_or_a_message(line: str) -> None:
    found = split_line(line)
    if found is None:
        return
    name, argument = found
    assert line.startswith(f"/{name}")
    assert "/" not in name
    assert argument in line


def test_a_beginning_is_enough_where_only_one_fits() -> None:
    commands = all_commands()
    assert find_command(commands, "cont").name == "context"
    assert find_command(commands, "q").name == "exit"
    with pytest.raises(CommandError, match="/resume"):
        find_command(commands, "re")
    with pytest.raises(CommandError, match="there is no command"):
        find_command(commands, "nothing")


@given(st.text(max_size=200))
def test_foreign_words_are_one_harmless_line(text: str) -> None:
    shown = words(text)
    assert "\n" not in shown
    assert "\x1b" not in shown


def test_numbers() -> None:
    assert number_of("12", "turn") == 12
    for wrong in ("x", "-1", "1.5", "9" * 20, "\u00b2"):
        with pytest.raises(CommandError):
            number_of(wrong, "turn")


def test_what_a_model_can_be_set_to() -> None:
    assert models.ways_to_think(lookup("kimi-k2-instruct")) == ["off"]
    assert models.ways_to_think(lookup("kimi-k2.5"))[:2] == ["on", "off"]
    assert "off" not in models.ways_to_think(lookup("kimi-k2-thinking"))


def test_which_settings_are_shown() -> None:
    rows: config.Rows = {
        "model": {"value": "kimi-k2.5", "source": "default", "detail": ""},
        "budget.max_steps": {"value": 5, "source": "user", "detail": "config.toml:2"},
        "budget.max_cost": {"value": None, "source": "default", "detail": ""},
    }
    assert list(config.chosen_rows(rows, "")) == ["budget.max_steps"]
    assert list(config.chosen_rows(rows, "all")) == list(rows)
    assert list(config.chosen_rows(rows, "budget")) == ["budget.max_steps", "budget.max_cost"]
    assert list(config.chosen_rows(rows, "max_cost")) == ["budget.max_cost"]
    with pytest.raises(CommandError):
        config.chosen_rows(rows, "colour")


def test_when_a_setting_takes_effect() -> None:
    own = {"value": 1, "source": "user", "detail": "config.toml:1"}
    other = {"value": 1, "source": "environment", "detail": "KIMI_MODEL"}
    assert "next session" in config.effect("budget.max_steps", own)
    assert "/model" in config.effect("model", own)
    assert "KIMI_MODEL has another value" in config.effect("model", other)


def test_a_document_gets_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "kimi-x.md"
    assert export.unused(path) == path
    path.touch()
    assert export.unused(path).name == "kimi-x-2.md"
    (tmp_path / "kimi-x-2.md").symlink_to("nowhere")
    assert export.unused(path).name == "kimi-x-3.md"
    assert export.form_of(Path("a.HTML")) == "html"
    for name in ("a", "a.txt", ".md"):
        with pytest.raises(CommandError):
            export.form_of(Path(name))


def test_the_last_line_of_an_output(tmp_path: Path) -> None:
    path = tmp_path / "t1.txt"
    assert beside.last_line(path) == ""
    path.write_bytes(b"x" * 100_000 + b"\nbuilding 10%\rbuilding 20%\x1b[0m\n\n  \n")
    assert beside.last_line(path) == "building 20%"


def test_the_beginning_of_what_a_session_changed() -> None:
    assert changes.first_snapshot([]) is None
    events: list[Event] = []
    for turn in (1, 2):
        begun = Checkpoint(snapshot=f"before-{turn}", moment="turn_start")
        ended = Checkpoint(snapshot=f"after-{turn}", moment="turn_end")
        for event in (TurnStarted(), begun, ended, TurnEnded(reason=StopReason.DONE)):
            event.turn, event.seq = turn, len(events) + 1
            event.parent = len(events)
            events.append(event)
    assert changes.first_snapshot(events) == "before-1"


def repository(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir()
    git(folder, "init", "-q")
    for name, content in files.items():
        (folder / name).write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "start")


def test_the_files_of_a_diff_by_git(tmp_path: Path) -> None:
    root = tmp_path / "work"
    lines = "".join(f"line {number}\n" for number in range(40))
    names = ["plain.py", "with blank.txt", "gone.txt", "grüße.txt", "tab\tin it"]
    repository(root, dict.fromkeys(names, lines) | {"mode.sh": "true\n"})
    (root / "plain.py").write_text(lines.replace("line 3\n", "LINE\n--- a/x\n+++ b/x\n"))
    (root / "with blank.txt").write_text(lines + "diff --git a/x b/x\n")
    (root / "gone.txt").unlink()
    (root / "grüße.txt").write_text(lines + "more\n")
    (root / "tab\tin it").write_bytes(b"\0\1")
    (root / "mode.sh").chmod(0o755)
    (root / "fresh.txt").write_text("new\n")
    git(root, "add", "fresh.txt")
    out = subprocess.run(
        ["git", *changes.GIT_DIFF], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    found = {file.name: (file.diff.added, file.diff.removed) for file in changes.parse_git(out)}
    assert found.pop("plain.py") == (3, 1)
    assert found.pop("with blank.txt") == (1, 0)
    assert found.pop("gone.txt") == (0, 40)
    assert found.pop("grüße.txt") == (1, 0)
    assert found.pop("fresh.txt") == (1, 0)
    assert found.pop("mode.sh") == (0, 0)
    [(binary, counts)] = found.items()
    assert "in it" in binary
    assert counts == (0, 0)


@given(
    st.lists(st.tuples(st.text(max_size=20), st.text(max_size=60)), max_size=4),
    st.integers(20, 100),
)
def test_a_diff_fits_the_terminal(files: list[tuple[str, str]], width: int) -> None:
    made = [
        changes.FileDiff(name, compare(b"old\n", content.encode("utf-8", "replace"), "name"))
        for name, content in files
    ]
    lines, _ = changes.diff_lines(made, "the beginning", Look(), width)
    for line in lines:
        assert cells(ANSI.sub("", line)) <= width
        assert "\x1b" not in ANSI.sub("", line)
        assert "\n" not in line


def test_a_long_diff_is_folded() -> None:
    def file(name: str, count: int) -> changes.FileDiff:
        new = "".join(f"{name} {number}\n" for number in range(count))
        return changes.FileDiff(name, compare(None, new.encode(), name))

    lines, cut = changes.diff_lines([file("a", 200)], "x", Look("none"), 80)
    assert cut
    assert "    … 180 more lines · ctrl-o shows all" in lines
    short, cut = changes.diff_lines([file("a", 3)], "x", Look("none"), 80)
    assert not cut
    assert short[0] == "  1 file +3 −0 since x"
    many = [file(f"f{number}", 30) for number in range(20)]
    lines, cut = changes.diff_lines(many, "x", Look("none"), 80)
    assert cut
    assert sum(" + f" in line for line in lines) <= changes.ALL_LINES
    plain = [ANSI.sub("", line) for line in lines]
    assert all(f"  f{number}  +30 −0" in plain for number in range(20))


@given(st.integers(40, 120), st.booleans())
def test_the_rows_of_the_context_fit(width: int, bars: bool) -> None:
    shares = dict.fromkeys(KINDS, 1234567)
    made = Report(
        session="0abc",
        model="kimi-k2.5",
        dialect="moonshot",
        window=20_000_000,
        tokens=sum(shares.values()),
        measured=None,
        since=0,
        exact=True,
        shares=shares,
        largest=[Result("read a/very/long/path/to/some/file/in/the/project.py" * 2, 99_999)],
        compactions=[],
        shrinks=[],
    )
    lines = list(context_lines(made, width=width, bars=bars))
    table = lines[2 : lines.index("", 2)]
    assert len(table) == len(KINDS) + 2
    assert all(cells(line) <= width for line in table)

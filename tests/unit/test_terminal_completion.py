"""What the menu offers for what is typed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_toolkit.completion import CompleteEvent, Completion
from prompt_toolkit.document import Document

from kimi_cli.frontends.terminal.completion import InputCompleter
from kimi_cli.frontends.terminal.file_index import FileIndex
from kimi_cli.frontends.terminal.mentions import resolve


@dataclass(frozen=True)
class Named:
    name: str
    help: str = ""
    aliases: Sequence[str] = ()
    complete: Callable[[str], Iterable[tuple[str, str]]] | None = None


def models(typed: str) -> Iterable[tuple[str, str]]:
    return [("kimi-k2.5", "256k"), ("kimi-k2", "128k"), ("other one", "local \x1b[31mred")]


def broken(typed: str) -> Iterable[tuple[str, str]]:
    raise RuntimeError("no")


COMMANDS = [
    Named("help", "what there is", ["?"]),
    Named("model", "choose another", complete=models),
    Named("compact", "make room"),
    Named("clear", "begin anew", ["new"]),
    Named("broken", complete=broken),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("src/cart.py", "a b.py", "my dir/in.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def offered(
    base: Path, typed: str, after: str = "", *, asked_for: bool = False
) -> list[Completion]:
    completer = InputCompleter(COMMANDS, FileIndex(base, [base]), base)
    document = Document(typed + after, len(typed))
    event = CompleteEvent(text_inserted=not asked_for, completion_requested=asked_for)

    async def collect() -> list[Completion]:
        return [item async for item in completer.get_completions_async(document, event)]

    found = asyncio.run(collect())
    assert found == list(completer.get_completions(document, event))
    return found


def results(base: Path, typed: str, after: str = "", *, asked_for: bool = False) -> list[str]:
    """What the text before the cursor becomes with each of the offers."""
    found = offered(base, typed, after, asked_for=asked_for)
    return [typed[: len(typed) + item.start_position] + item.text for item in found]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("/", ["/broken", "/clear", "/compact", "/help", "/model "]),
        ("/c", ["/clear", "/compact"]),
        ("/mo", ["/model "]),
        ("/MO", ["/model "]),
        ("/pact", ["/compact"]),
        ("/cpt", ["/compact"]),
        ("/new", ["/clear"]),
        ("/?", ["/help"]),
        ("/nothing", []),
        (" /c", []),
        ("a /c", []),
        ("a\n/c", []),
        ("/home/c", []),
        ("/help ", []),
        ("/model ", ["/model kimi-k2.5", "/model kimi-k2", "/model other one"]),
        ("/model k2", ["/model kimi-k2.5", "/model kimi-k2"]),
        ("/model other o", ["/model other one"]),
        ("/model 128", ["/model kimi-k2"]),
        ("/broken ", []),
        ("/unknown x", []),
    ],
)
def test_commands_and_their_arguments(project: Path, typed: str, expected: list[str]) -> None:
    found = results(project, typed)
    assert [text for text in found if "broken" not in text] == [
        text for text in expected if "broken" not in text
    ]


def test_the_help_is_beside_it_without_what_a_terminal_obeys(project: Path) -> None:
    (command,) = offered(project, "/comp")
    assert (command.display_text, command.display_meta_text) == ("/compact", "make room")
    (argument,) = offered(project, "/model other")
    assert argument.display_meta_text == "local red"


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("@car", "@src/cart.py "),
        ("fix @car", "fix @src/cart.py "),
        ("fix\n(@car", "fix\n(@src/cart.py "),
        ("修改@car", "修改@src/cart.py "),
        ("/help @car", "/help @src/cart.py "),
        ("@a", '@"a b.py" '),
        ('@"a b', '@"a b.py" '),
        ("@my", '@"my dir/'),
        ('@"my dir/', '@"my dir/'),
        ("@./src/c", "@./src/cart.py "),
        ("@src", "@src/"),
    ],
)
def test_files(project: Path, typed: str, first: str) -> None:
    assert results(project, typed)[0] == first
    if not first.endswith("/"):
        (sent, _, _) = resolve(first, project)
        assert "@" not in sent


@pytest.mark.parametrize("typed", ["me@car", "a.b@car", "@car x", '@"a b.py" ', "car", ""])
def test_no_files_where_nothing_is_mentioned(project: Path, typed: str) -> None:
    assert results(project, typed) == []


def test_no_second_blank_before_one(project: Path) -> None:
    assert results(project, "see @car", " now") == ["see @src/cart.py"]


def test_paths_of_a_shell_line_only_when_asked_for(project: Path) -> None:
    assert results(project, "!cat sr", asked_for=True) == ["!cat src/"]
    assert results(project, "!cat a", asked_for=True) == ["!cat a\\ b.py"]
    assert results(project, "!cat my\\ dir/", asked_for=True) == ["!cat my\\ dir/in.py"]
    assert results(project, "!cat sr") == []


@settings(max_examples=150)
@given(st.text(st.sampled_from('/@!"\\ a.b\n~\0\x1b')) | st.text(), st.booleans())
def test_no_text_breaks_it(text: str, asked_for: bool) -> None:
    base = Path("/nonexistent")
    completer = InputCompleter(COMMANDS, FileIndex(base, []), base)
    for at in {0, len(text) // 2, len(text)}:
        event = CompleteEvent(text_inserted=not asked_for, completion_requested=asked_for)
        for item in completer.get_completions(Document(text, at), event):
            assert -at <= item.start_position <= 0

"""Paths of a recording and those that hold now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.agent.replay.places import Places

COPY = "/tmp/kimi-replay-ab12/app"
NAMES = st.text("abc.-_ 你", min_size=1, max_size=8).filter(lambda x: x.strip(" ."))


@pytest.fixture
def places() -> Places:
    return Places("/app", COPY, "/ci/build/app")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cd /app && ls", f"cd {COPY} && ls"),
        ("/app", COPY),
        ("/app/x.py:3", f"{COPY}/x.py:3"),
        ("cc -I/app/include -L /app/lib", f"cc -I{COPY}/include -L {COPY}/lib"),
        ("PATH=/bin:/app/bin", f"PATH=/bin:{COPY}/bin"),
        ("'/app' \"/app\"", f"'{COPY}' \"{COPY}\""),
        ("file:///app/x", f"file://{COPY}/x"),
        ("It is in /app.", f"It is in {COPY}."),
        ("/usr/app /app2 /app-old /app.py /app_x a/app ./app ~/app $X/app", None),
    ],
)
def test_only_the_project_itself_is_mapped(text: str, expected: str | None, places: Places) -> None:
    assert places.into_copy(text) == (expected or text)


def test_a_project_below_a_home_has_other_names_too() -> None:
    places = Places("/home/me/src/app", COPY, "/x")
    for home in ("/home/me", "~", "$HOME", "${HOME}"):
        assert places.into_copy(f'cd "{home}/src/app/x"') == f'cd "{COPY}/x"'
    assert places.into_copy("~/src/apple /home/you/src/app") == "~/src/apple /home/you/src/app"


def test_results_are_compared_in_one_form(places: Places) -> None:
    then = places.neutral("/app/x.py and /ci/build/app/y")
    assert then == places.neutral(f"{COPY}/x.py and {COPY}/y") == "<project>/x.py and <project>/y"
    here = Places("/app", "/var/t/kimi-replay-1/app", "/app", "/var/t")
    assert here.neutral("/var/t/tmpx /var/t/kimi-replay-1/app/z") == "/tmp/tmpx <project>/z"


@given(NAMES, NAMES, NAMES, st.sampled_from(["{}", "cd {} && x", "'{}'", "({})", "a={},{}"]))
def test_there_and_back(top: str, name: str, file: str, frame: str) -> None:
    """What is mapped into the copy is, seen from there, what it was."""
    root = f"/{top}/{name}"
    places = Places(root, COPY, "/ci/build/app")
    text = frame.format(f"{root}/{file}", f"{root}/x")
    assert places.neutral(places.into_copy(text)) == places.neutral(text)


def arguments(places: Places, tool: str, **given: object) -> dict[str, object]:
    changed: dict[str, object] = json.loads(places.arguments(tool, json.dumps(given)))
    return changed


def test_arguments_are_mapped_wherever_they_hold_paths(places: Places) -> None:
    mapped = arguments(places, "x", a=["/app/1", {"b": "/app/2"}], n=3, none=None)
    assert mapped == {"a": [f"{COPY}/1", {"b": f"{COPY}/2"}], "n": 3, "none": None}
    # A file is searched for what it says.
    mapped = arguments(places, "grep", pattern="/app", path="/app")
    assert mapped == {"pattern": "/app", "path": COPY}


@pytest.mark.parametrize("raw", ["", "{", "[]", '"/app"', '{"a": 1', '{"path":  "x"}', "null"])
def test_what_needs_no_change_stays_to_the_byte(raw: str, places: Places) -> None:
    assert places.arguments("read", raw) == raw


def test_an_edit_finds_what_the_file_says(tmp_path: Path) -> None:
    """A file of the project may name the place of the project, and keeps it."""
    places = Places("/app", str(tmp_path), "/x")
    (tmp_path / "old.sh").write_text("cd /app\nmake\n")
    (tmp_path / "new.sh").write_text(f"cd {tmp_path}\nmake\n")
    edits = [{"old": "cd /app\nmake", "new": "cd /app\nmake all"}]
    assert arguments(places, "edit", path="/app/old.sh", edits=edits)["edits"] == edits
    assert arguments(places, "edit", path="new.sh", edits=edits)["edits"] == [
        {"old": f"cd {tmp_path}\nmake", "new": f"cd {tmp_path}\nmake all"}
    ]
    assert arguments(places, "edit", path="gone", edits="none")["edits"] == "none"


def test_outputs_and_tasks_are_known_once_they_are_there(places: Places) -> None:
    then = "/home/me/.kimi-cli/sessions/app-1/0ab/outputs/t1.txt"
    assert arguments(places, "read", path=then) == {"path": then}
    assert arguments(places, "shell", task="t1") == {"task": "t1"}
    places.learn_output(then, "/tmp/kimi-x/outputs/t2.txt")
    places.learn_task("t1", "t2")
    places.learn_output(None, "/x")
    places.learn_task("t9", None)
    assert arguments(places, "shell", command=f"tail {then}") == {
        "command": "tail /tmp/kimi-x/outputs/t2.txt"
    }
    assert arguments(places, "shell", task="t1", stop=True) == {"task": "t2", "stop": True}
    assert arguments(places, "shell", task="t9") == {"task": "t9"}

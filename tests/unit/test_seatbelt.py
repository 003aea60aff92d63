"""The profile for macOS: read by a small reader of its language, and judged as macOS judges it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.workspace.box import Box
from kimi_cli.workspace.helper_seatbelt import probe
from kimi_cli.workspace.seatbelt import profile, quote

Form = str | list["Form"]
_TOKEN = re.compile(r'\s*(?:(;[^\n]*)|(\()|(\))|(#?"(?:[^"\\]|\\.)*")|([^\s()"]+))')


def read(text: str) -> list[Form]:
    """The forms of an s-expression text; ValueError when it is none."""
    stack: list[list[Form]] = [[]]
    place = 0
    while text[place:].strip():
        found = _TOKEN.match(text, place)
        if found is None:
            raise ValueError(text[place:])
        place = found.end()
        if found[2]:
            stack.append([])
        elif found[3]:
            if len(stack) == 1:
                raise ValueError("too many )")
            done = stack.pop()
            stack[-1].append(done)
        elif found[4] or found[5]:
            stack[-1].append(found[4] or found[5])
    if len(stack) != 1:
        raise ValueError("too few )")
    return stack[0]


def unquoted(text: Form) -> str:
    assert isinstance(text, str) and text.startswith('"')
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def allowed(text: str, operation: str, path: str) -> bool:
    """Whether the profile lets a program do it: the last rule that matches decides."""
    verdict = False
    for form in read(text):
        if not isinstance(form, list) or form[0] not in ("allow", "deny"):
            continue
        operations = [w for w in form[1:] if isinstance(w, str)]
        filters = [f for f in form[1:] if isinstance(f, list)]
        if not any(_covers(word, operation) for word in operations):
            continue
        if not filters or any(_matches(f, path) for f in filters):
            verdict = form[0] == "allow"
    return verdict


def _covers(word: str, operation: str) -> bool:
    return word in ("default", operation) or (
        word.endswith("*") and operation.startswith(word.removesuffix("*"))
    )


def _matches(rule: list[Form], path: str) -> bool:
    if rule[0] == "literal":
        return unquoted(rule[1]) == path
    if rule[0] == "subpath":
        top = unquoted(rule[1])
        return path == top or path.startswith(top.rstrip("/") + "/")
    if rule[0] == "regex":
        assert isinstance(rule[1], str)
        return re.search(rule[1][2:-1], path) is not None
    return False


def box(**changes: object) -> Box:
    made = Box(
        "seatbelt",
        "workspace-write",
        write=(b"/Users/u/p", b"/private/tmp", b"/Users/u/.kimi/demo"),
        pinned=(b"/Users/u/p/.git",),
        read_only=(b"/Users/u/p/.git/hooks", b"/Users/u/p/.git/config"),
        hidden=(b"/Users/u/.kimi", b"/Users/u/.ssh"),
        shown=(b"/Users/u/.kimi/s/outputs",),
        temp=(b"/private/tmp",),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "reading", "writing"),
    [
        ("/Users/u/p/a", True, True),
        ("/private/tmp/x", True, True),
        ("/dev/null", True, True),
        ("/Users/u/other", True, False),
        ("/usr/bin/env", True, False),
        ("/Users/u/p/.git/index", True, True),
        ("/Users/u/p/.git/config", True, False),
        ("/Users/u/p/.git/hooks/pre-commit", True, False),
        ("/Users/u/.ssh/id", False, False),
        ("/Users/u/.kimi/config.toml", False, False),
        ("/Users/u/.kimi/s/outputs/t1.txt", True, False),
        # A workspace in a hidden place.
        ("/Users/u/.kimi/demo/a", True, True),
        ("/Users/u/p2/a", True, False),
    ],
)
def test_what_may_be_read_and_written(path: str, reading: bool, writing: bool) -> None:
    text = profile(box())
    assert allowed(text, "file-read-data", path) == reading
    assert allowed(text, "file-write-data", path) == writing


def test_what_is_protected_can_not_be_moved_away() -> None:
    text = profile(box())
    for path in ("/Users/u/p/.git", "/Users/u/p", "/Users/u/.ssh", "/Users/u/p/.git/hooks"):
        assert not allowed(text, "file-write-unlink", path)
    assert allowed(text, "file-write-unlink", "/Users/u/p/a")


def test_nothing_is_allowed_that_is_not_named() -> None:
    text = profile(box())
    assert read(text)[:2] == [["version", "1"], ["deny", "default"]]
    for operation in ("mach-lookup", "appleevent-send", "lsopen", "system-fsctl", "job-creation"):
        assert not allowed(text, operation, "/anything")


def test_the_network_is_this_machine_unless_it_is_granted() -> None:
    def rules(made: Box) -> list[Form]:
        found = read(profile(made))
        return [f for f in found if isinstance(f, list) and str(f[1]).startswith("network")]

    off, on = rules(box()), rules(box(network=True))
    assert ["allow", "network-outbound"] not in off
    assert ["allow", "network-outbound", ["remote", "ip", '"localhost:*"']] in off
    assert ["allow", "network-outbound"] in on
    for found in (off, on):
        # Sockets of others in the shared temp folders are not to be reached.
        deny = found.index(["deny", "network-outbound", ["remote", "unix-socket"]])
        later = str([f for f in found[deny:] if f[1] == "network-outbound"])
        assert "/Users/u/p" in later and "/private/tmp" not in later
    assert "mDNSResponder" in str(on) and "mDNSResponder" not in str(off)


def test_read_only_and_the_whole_machine() -> None:
    text = profile(Box("seatbelt", "read-only", write=(b"/private/var/t",)))
    assert allowed(text, "file-write-data", "/private/var/t/x")
    assert not allowed(text, "file-write-data", "/private/tmp/x")
    text = profile(box(write=(b"/",)))
    assert allowed(text, "file-write-data", "/opt/x")
    assert not allowed(text, "file-read-data", "/Users/u/.ssh/id")
    assert not allowed(text, "file-write-unlink", "/Users/u")


_PATHS = st.lists(
    st.text("a/ \"\\()';#é\n", min_size=1, max_size=12).map(lambda t: os.path.normpath(f"/x/{t}")),
    max_size=4,
)


@given(write=_PATHS, hidden=_PATHS, read_only=_PATHS)
def test_any_path_is_one_string_of_the_profile(
    write: list[str], hidden: list[str], read_only: list[str]
) -> None:
    made = Box(
        "seatbelt",
        "workspace-write",
        write=tuple(os.fsencode(path) for path in write),
        hidden=tuple(os.fsencode(path) for path in hidden),
        read_only=tuple(os.fsencode(path) for path in read_only),
    )
    text = profile(made)
    for form in read(text):
        assert isinstance(form, list) and form[0] in ("version", "allow", "deny")
    for path in hidden:
        if not any(Path(other).is_relative_to(path) for other in write if other != path):
            assert not allowed(text, "file-read-data", path)


@given(st.text(st.characters(blacklist_categories=["Cs"])))
def test_quoting(text: str) -> None:
    assert [unquoted(form) for form in read(quote(text))] == [text]


# The trial, with programs that answer as sandbox-exec would. The real one exists on macOS alone.


@pytest.mark.parametrize(
    ("does", "way", "why"),
    [
        ('case "$4" in */kept/*) exit 1;; esac; exec "$3" "$4"', "seatbelt", ""),
        ('exec "$3" "$4"', "none", "not refused"),
        ("exit 71", "none", "does not work here"),
    ],
)
def test_the_trial_believes_only_what_it_sees(
    tmp_path: Path, does: str, way: str, why: str
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    found = probe(os.fsencode(tmp_path), "", lambda: None, str(program))
    assert found["way"] == way and why in found.get("why", "")
    assert [path.name for path in tmp_path.iterdir()] == ["program"]


def test_without_the_program_there_is_no_sandbox(tmp_path: Path) -> None:
    found = probe(os.fsencode(tmp_path), "", lambda: None, str(tmp_path / "none"))
    assert found["way"] == "none" and "No such file" in found["why"]

"""Snapshots of random trees under random edits: a restore gives back exactly what was covered."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kimi_cli.workspace.snapshots import Snapshots
from tests.support.trees import State, git, git_state, state

NAMES = [
    b"a",
    b"b.py",
    b"new\nline",
    b"\xff\xfe",
    "é".encode(),
    b' "q\\',
    b"-n",
    b"git~1",
    b"n" * 200,
]
IGNORED = [b"x.ign", b"out/deep", b"out/\xff.py", b"out/x.ign"]

paths = st.lists(st.sampled_from(NAMES[:5]), max_size=2).flatmap(
    lambda parents: st.sampled_from(NAMES).map(lambda name: b"/".join([*parents, name]))
)
# Often of one length: the edit that only the content shows.
contents = st.one_of(st.binary(min_size=3, max_size=3), st.binary(max_size=300))
modes = st.sampled_from([0o644, 0o755, 0o600, 0o444, 0o664, 0o2755, 0o4711, 0o000])
edits = st.one_of(
    st.tuples(st.just("write"), paths, contents, modes),
    st.tuples(st.just("link"), paths, st.sampled_from([b"a", b"..", b"/etc", b"no\n\xff"]), modes),
    st.tuples(st.just("remove"), paths, contents, modes),
    st.tuples(st.just("chmod"), paths, contents, modes),
    st.tuples(st.just("rename"), paths, paths, modes),
    st.tuples(st.just("ignored"), st.sampled_from(IGNORED), contents, modes),
    st.tuples(st.just("stage"), paths, contents, modes),
    st.tuples(st.just("commit"), paths, contents, modes),
)
Edit = tuple[str, bytes, bytes, int]
lists = st.lists(edits, max_size=14)


def clear(top: bytes, path: bytes) -> bytes:
    """Make room for a file of this name, whatever is in the way; returns where it goes."""
    parts = path.split(b"/")
    for depth in range(1, len(parts)):
        above = os.path.join(top, *parts[:depth])
        if os.path.lexists(above) and (os.path.islink(above) or not os.path.isdir(above)):
            os.unlink(above)
    target = os.path.join(top, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.isdir(target) and not os.path.islink(target):
        shutil.rmtree(target)
    elif os.path.lexists(target):
        os.unlink(target)
    return target


def apply(root: Path, edit: Edit, is_repository: bool) -> None:
    kind, path, other, mode = edit
    top = os.fsencode(root)
    target = os.path.join(top, path)
    regular = os.path.isfile(target) and not os.path.islink(target)
    if kind in ("write", "ignored"):
        if kind == "write" and regular and mode == 0o644:
            # In place: the inode stays.
            with open(target, "wb") as file:
                file.write(other)
            return
        with open(clear(top, path), "wb") as file:
            file.write(other)
        os.chmod(target, mode if kind == "write" else 0o644)
    elif kind == "link":
        os.symlink(other, clear(top, path))
    elif kind == "remove":
        clear(top, path)
    elif kind == "chmod" and regular:
        os.chmod(target, mode)
    elif kind == "rename" and os.path.lexists(target):
        if not (other + b"/").startswith(path + b"/") and not (path + b"/").startswith(
            other + b"/"
        ):
            os.rename(target, clear(top, other))
    elif kind in ("stage", "commit") and is_repository:
        subprocess.run(["git", "add", "-A", "--ignore-errors"], cwd=root, capture_output=True)
        if kind == "commit":
            git(root, "commit", "-q", "--allow-empty", "-m", "x")


def is_ignored(path: bytes) -> bool:
    return path.endswith(b".ign") or path.startswith(b"out/")


def split(files: State) -> tuple[State, State]:
    """The covered and the ignored files."""
    return (
        {path: entry for path, entry in files.items() if not is_ignored(path)},
        {path: entry for path, entry in files.items() if is_ignored(path)},
    )


quick = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
edited = given(first=lists, second=lists, third=lists, is_repository=st.booleans())


@quick
# Empty folders, one in another, stand where a file was.
@example([], [("write", b"a", b"aaa", 0o644)], [("remove", b"a/a/a", b"", 0o644)], False)
@edited
def test_a_restore_gives_back_what_was_covered(
    first: list[Edit], second: list[Edit], third: list[Edit], is_repository: bool
) -> None:
    check(first, second, third, is_repository)


@pytest.mark.long
@settings(quick, max_examples=100)
@edited
def test_a_restore_gives_back_what_was_covered_at_length(
    first: list[Edit], second: list[Edit], third: list[Edit], is_repository: bool
) -> None:
    check(first, second, third, is_repository)


def check(first: list[Edit], second: list[Edit], third: list[Edit], is_repository: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root, home = Path(scratch, "work"), Path(scratch, "home")
        root.mkdir()
        if is_repository:
            git(root, "init", "-q")
        (root / ".gitignore").write_bytes(b"*.ign\n/out/\n")
        snapshots = Snapshots(home, [root])
        ids, states = [], []
        for group in (first, second, third):
            for edit in group:
                apply(root, edit, is_repository)
            states.append(state(root))
            ids.append(snapshots.take().id)
        was = git_state(root / ".git") if is_repository else {}
        _, ignored = split(states[-1])
        for taken, expected in ((0, states[0]), (2, states[2]), (1, states[1]), (0, states[0])):
            now, here = split(state(root)), state(root)
            # A new one each time is another process; the same one remembers what it covered.
            other = Snapshots(home, [root]) if taken else snapshots
            before = {os.fsencode(c.path.relative_to(root)) for c in other.changes(ids[taken])}
            done = other.restore(ids[taken])
            assert not done.failed and not done.kept and not done.not_covered
            assert split(state(root)) == (split(expected)[0], ignored)
            wanted = split(expected)[0]
            assert before == {p for p in now[0] | wanted if now[0].get(p) != wanted.get(p)}
            touched = {*done.changed, *done.created, *done.deleted}
            assert before == {os.fsencode(path.relative_to(root)) for path in touched}
            redone = other.restore(done.before)
            assert state(root) == here
            other.restore(redone.before)
            assert split(state(root)) == (wanted, ignored)
        assert not any(b".kimi-" in path for path in state(root))
        if is_repository:
            assert git_state(root / ".git") == was

"""Snapshots of plain folders: what is covered, compared, brought back, and what is said."""

from __future__ import annotations

import os
import platform
import resource
import stat
import threading
import time
from pathlib import Path

import pytest

from kimi_cli.workspace.snapshots import (
    Limits,
    SnapshotBusy,
    SnapshotError,
    Snapshots,
    UnknownSnapshot,
)
from kimi_cli.workspace.snapshots.lock import held
from tests.support.trees import git, repository, state, write


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def shadow(home: Path) -> Path:
    return next((home / "snapshots").iterdir()) / "git"


def test_everything_comes_back(home: Path, root: Path) -> None:
    write(root / "a.txt", "one\n")
    write(root / "gone" / "deep" / "b.bin", bytes(range(256)) * 9)
    write(root / "secret", "x", 0o600)
    write(root / "tool", "#!/bin/sh\n", 0o6755)
    write(root / "none", "", 0o000)
    (root / "link").symlink_to("a.txt")
    (root / "dangling").symlink_to(b"/no\xff\nwhere".decode("utf-8", "surrogateescape"))
    before = state(root)
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    assert (taken.covered, taken.left_out, taken.folders) == (7, (), (root,))

    write(root / "a.txt", "two\n")
    (root / "gone" / "deep" / "b.bin").unlink()
    (root / "gone" / "deep").rmdir()
    (root / "gone").rmdir()
    write(root / "gone", "a file now")
    (root / "secret").chmod(0o644)
    (root / "tool").unlink()
    (root / "tool").symlink_to("a.txt")
    (root / "link").unlink()
    write(root / "link" / "inside", "a folder now")
    write(root / "new" / "made" / "c.txt", "new")
    after = state(root)

    done = snapshots.restore(taken.id)
    assert state(root) == before
    assert not done.failed and not done.not_covered and not done.kept
    names = [{str(p.relative_to(root)) for p in g} for g in (done.changed, done.created)]
    assert names == [{"a.txt", "secret", "tool"}, {"gone/deep/b.bin", "link"}]
    assert {str(p.relative_to(root)) for p in done.deleted} == {
        "gone",
        "link/inside",
        "new/made/c.txt",
    }
    assert not (root / "new").exists()

    redone = snapshots.restore(done.before)
    assert state(root) == after
    snapshots.restore(redone.before)
    assert state(root) == before


def test_modes_are_kept_whatever_git_knows_of_them(home: Path, root: Path) -> None:
    modes = [0o400, 0o444, 0o600, 0o640, 0o664, 0o711, 0o755, 0o2750, 0o4755]
    for mode in modes:
        write(root / f"{mode:o}", "same", mode)
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    for mode in modes:
        (root / f"{mode:o}").chmod(0o644)
    changes = snapshots.changes(taken.id)
    assert {c.kind for c in changes} == {"mode"} and len(changes) == len(modes)
    inodes = {p.name: p.stat().st_ino for p in root.iterdir()}
    snapshots.restore(taken.id)
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in root.iterdir()} == {
        f"{mode:o}": mode for mode in modes
    }
    assert {p.name: p.stat().st_ino for p in root.iterdir()} == inodes, "no file was rewritten"


def test_edits_of_the_same_size_are_seen(home: Path, root: Path) -> None:
    snapshots = Snapshots(home, [root])
    file = write(root / "f", "0")
    ids = []
    for number in range(5):
        with file.open("r+") as stream:
            stream.write(f"{number}")
        ids.append(snapshots.take().id)
    for number, name in enumerate(ids):
        snapshots.restore(name)
        assert file.read_text() == f"{number}"


def test_only_a_settled_file_is_not_read_again_and_an_old_time_fools_nobody(
    home: Path, root: Path
) -> None:
    file = write(root / "f", "aaaa")
    os.utime(file, (1_000_000, 1_000_000))
    early = Snapshots(home, [root])
    early.take()
    manifest = next((home / "snapshots").iterdir()) / "manifest"
    inode = manifest.stat().st_ino
    early.take()
    assert manifest.stat().st_ino != inode, "a write in the same tick would not show: read again"
    while time.time() < file.stat().st_ctime + 2.1:
        time.sleep(0.05)
    snapshots = Snapshots(home, [root])
    snapshots.take()
    inode = manifest.stat().st_ino
    first = snapshots.take()
    assert manifest.stat().st_ino == inode, "nothing new was learnt, so nothing was read"
    with file.open("r+") as stream:
        stream.write("bbbb")
    os.utime(file, (1_000_000, 1_000_000))
    assert [c.kind for c in snapshots.changes(first.id)] == ["modified"]


def test_what_is_ignored_stays(home: Path, root: Path) -> None:
    write(root / ".gitignore", "*.log\n/build/\n")
    write(root / "a.log", "1")
    write(root / "build" / "x", "1")
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    assert taken.covered == 1
    write(root / "a.log", "2")
    write(root / "b.log", "2")
    write(root / "build" / "x", "2")
    write(root / "b.txt", "2")
    done = snapshots.restore(taken.id)
    assert [p.name for p in done.deleted] == ["b.txt"]
    assert [(root / n).read_text() for n in ("a.log", "b.log", "build/x")] == ["2", "2", "2"]


def test_an_edit_of_the_rules_shows_no_file_to_the_undo(home: Path, root: Path) -> None:
    write(root / ".gitignore", ".env\n")
    write(root / ".env", "KEY=1")
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    write(root / ".gitignore", "")
    write(root / ".env", "KEY=2")
    write(root / "new", "")
    plan = snapshots.plan(taken.id)
    assert [(k.path.name, k.reason) for k in plan.kept] == [(".env", "ignored by git at that time")]
    done = snapshots.restore(taken.id)
    assert done.kept == plan.kept
    assert (root / ".gitignore").read_text() == ".env\n"
    assert (root / ".env").read_text() == "KEY=2" and not (root / "new").exists()


def test_a_file_that_gets_ignored_is_still_undone(home: Path, root: Path) -> None:
    write(root / "data.txt", "mine")
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    write(root / ".gitignore", "data.txt\nmade.txt\n")
    write(root / "data.txt", "spoilt")
    ended = snapshots.take()
    assert {(c.path.name, c.kind) for c in snapshots.changes(taken.id, ended.id)} == {
        (".gitignore", "created"),
        ("data.txt", "modified"),
    }
    # Another process knows only what it is asked to restore.
    done = Snapshots(home, [root]).restore(taken.id)
    assert (root / "data.txt").read_text() == "mine"
    Snapshots(home, [root]).restore(done.before)
    assert (root / "data.txt").read_text() == "spoilt"


def test_what_was_there_before_but_not_covered_stays(home: Path, root: Path) -> None:
    write(root / ".git" / "info" / "exclude", "old\n")
    git(root, "init", "-q")
    write(root / ".git" / "info" / "exclude", "old\n")
    old = write(root / "old", "precious")
    while time.time() < old.stat().st_ctime + 1.2:
        time.sleep(0.05)
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    write(root / ".git" / "info" / "exclude", "")
    write(root / "new", "")
    done = snapshots.restore(taken.id)
    assert [k.path.name for k in done.kept] == ["old"] and old.read_text() == "precious"
    assert [p.name for p in done.deleted] == ["new"]


def test_a_moved_folder_moves_back(home: Path, root: Path) -> None:
    for number in range(3):
        file = write(root / "old" / str(number), str(number))
    while time.time() < file.stat().st_ctime + 1.2:
        time.sleep(0.05)
    before = state(root)
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    (root / "old").rename(root / "new")
    done = snapshots.restore(taken.id)
    assert state(root) == before and not done.kept


def test_what_is_too_large_is_named_and_left_alone(home: Path, root: Path) -> None:
    write(root / "big", "x" * 101)
    write(root / "grows", "x" * 10)
    write(root / "shrinks", "x" * 200)
    snapshots = Snapshots(home, [root], Limits(max_file=100))
    taken = snapshots.take()
    assert [i.path.name for i in taken.left_out] == ["big", "shrinks"]
    assert snapshots.get(taken.id).left_out == taken.left_out
    write(root / "grows", "y" * 500)
    write(root / "shrinks", "y")
    assert snapshots.changes(taken.id) == []
    done = snapshots.restore(taken.id)
    assert [i.path.name for i in done.not_covered] == ["big", "grows", "shrinks"]
    assert (root / "grows").read_text() == "y" * 500 and (root / "shrinks").read_text() == "y"


def test_of_too_much_the_largest_is_left_out(home: Path, root: Path) -> None:
    for size in (10, 20, 30, 40):
        write(root / str(size), "x" * size)
    taken = Snapshots(home, [root], Limits(max_total=60)).take()
    assert [i.path.name for i in taken.left_out] == ["40"] and taken.covered == 3


def test_a_folder_of_too_many_files_is_said_and_not_touched(home: Path, root: Path) -> None:
    for number in range(5):
        write(root / str(number), "x")
    snapshots = Snapshots(home, [root], Limits(max_files=4))
    taken = snapshots.take()
    assert [(i.path, i.reason) for i in taken.left_out] == [(root, "more than 4 files")]
    write(root / "0", "y")
    done = snapshots.restore(taken.id)
    assert not done.changed and not done.deleted and done.not_covered[0].path == root
    assert (root / "0").read_text() == "y"


def test_what_is_no_file_is_skipped(home: Path, root: Path) -> None:
    repository(root)
    os.mkfifo(root / "fifo")
    (root / "kept.py").unlink()
    os.mkfifo(root / "kept.py")
    taken = Snapshots(home, [root]).take()
    assert [i.path.name for i in taken.left_out] == ["kept.py"], "a tracked name is said"


def test_no_symlink_leads_out(home: Path, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside / "a", "outside")
    write(root / "d" / "a", "inside")
    git(root, "init", "-q")
    git(root, "add", "-A")
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    (root / "d" / "a").unlink()
    (root / "d").rmdir()
    (root / "d").symlink_to(outside)
    now = snapshots.take()
    assert {(c.path.name, c.kind) for c in snapshots.changes(taken.id, now.id)} == {
        ("a", "deleted"),
        ("d", "created"),
    }
    snapshots.restore(taken.id)
    assert (root / "d" / "a").read_text() == "inside" and not (root / "d").is_symlink()
    assert state(outside) == {b"a": state(outside)[b"a"]}
    assert (outside / "a").read_text() == "outside"
    # An ignored symlink in the way is not ours to remove, and not to be followed either.
    (root / "d" / "a").unlink()
    (root / "d").rmdir()
    (root / "d").symlink_to(outside)
    write(root / ".gitignore", "/d\n")
    git(root, "update-index", "--force-remove", "d/a")
    fresh = Snapshots(home, [root])
    done = fresh.restore(taken.id)
    assert [f.path for f in done.failed] == [root / "d" / "a"]
    assert (outside / "a").read_text() == "outside" and len(state(outside)) == 1


def test_a_folder_that_holds_something_else_is_kept(home: Path, root: Path) -> None:
    write(root / ".gitignore", "*.log\n")
    write(root / "x", "file")
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    (root / "x").unlink()
    write(root / "x" / "precious.log", "ignored")
    write(root / "y" / "new", "")
    write(root / "y" / "precious.log", "ignored")
    done = snapshots.restore(taken.id)
    assert [f.path.name for f in done.failed] == ["x"]
    assert (root / "x" / "precious.log").read_text() == "ignored"
    assert not (root / "y" / "new").exists() and (root / "y" / "precious.log").exists()


def test_edits_by_hand_are_warned_of(home: Path, root: Path) -> None:
    for name in ("both", "agent", "hand", "late"):
        write(root / name, "0")
    snapshots = Snapshots(home, [root])
    begun = snapshots.take()
    for name in ("both", "agent"):
        write(root / name, "agent")
    ended = snapshots.take()
    write(root / "both", "hand")
    write(root / "hand", "hand")
    write(root / "made", "hand")
    plan = snapshots.plan(begun.id, ended.id)
    kinds = {c.path.name: c.kind for c in plan.changes}
    assert kinds == {"both": "modified", "agent": "modified", "hand": "modified", "made": "deleted"}
    assert {c.path.name: c.kind for c in plan.edited} == {
        "both": "modified",
        "hand": "modified",
        "made": "created",
    }
    done = snapshots.restore(begun.id, keep=[c.path for c in plan.edited])
    assert [p.name for p in done.changed] == ["agent"]
    assert {p.name: p.read_text() for p in root.iterdir()} == {
        "both": "hand",
        "agent": "0",
        "hand": "hand",
        "late": "0",
        "made": "hand",
    }


def test_differences_can_be_shown(home: Path, root: Path) -> None:
    write(root / "a", "1\n2\n3\n")
    snapshots = Snapshots(home, [root])
    begun = snapshots.take()
    write(root / "a", "1\n3\n4\n5\n")
    write(root / "b", "new\n")
    changes = snapshots.changes(begun.id)
    diffs = snapshots.diffs(changes)
    assert [(d.added, d.removed) for d in diffs] == [(2, 1), (1, 0)]
    assert "--- a/a\n+++ b/a\n" in diffs[0].text and "--- /dev/null\n+++ b/b\n" in diffs[1].text


def test_several_folders(home: Path, root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(root / "a", "1")
    write(other / "b", "1")
    alone = Snapshots(home, [root]).take()
    snapshots = Snapshots(home, [root, other, root / "inner"])
    assert snapshots.folders == (root, other)
    taken = snapshots.take()
    write(root / "a", "2")
    write(other / "b", "2")
    assert [c.path for c in snapshots.changes(taken.id)] == [root / "a", other / "b"]
    assert [i.path for i in snapshots.plan(alone.id).not_covered] == [other]
    snapshots.restore(taken.id)
    assert (root / "a").read_text() == (other / "b").read_text() == "1"
    (other / "b").unlink()
    other.rmdir()
    gone = snapshots.take()
    assert [i.path for i in gone.left_out] == [other] and gone.covered == 1


def test_kimis_own_folder_in_the_workspace_is_not_covered(root: Path) -> None:
    write(root / "a", "1")
    snapshots = Snapshots(root / ".kimi-home", [root])
    assert [snapshots.take().covered for _ in range(2)] == [1, 1]


def test_ids_that_are_none(home: Path, root: Path) -> None:
    snapshots = Snapshots(home, [root])
    for name in ("", "*", "x" * 21, "--all", "0" * 16 + "-0000", "../../HEAD"):
        with pytest.raises(UnknownSnapshot):
            snapshots.restore(name)


def test_another_process_is_waited_for_but_not_for_ever(home: Path, root: Path) -> None:
    snapshots = Snapshots(home, [root], Limits(lock=0.05))
    snapshots.take()
    place = next((home / "snapshots").iterdir())
    with held(place / "lock", 1), pytest.raises(SnapshotBusy):
        snapshots.take()
    snapshots.take()


def test_the_snapshots_are_for_the_user_alone(home: Path, root: Path) -> None:
    write(root / "a", "1")
    Snapshots(home, [root]).take()
    assert stat.S_IMODE((home / "snapshots").stat().st_mode) & 0o077 == 0


def test_expiry(home: Path, root: Path) -> None:
    snapshots = Snapshots(home, [root])
    ids = []
    for number in range(6):
        write(root / "f", os.urandom(50_000))
        write(root / "other", str(number))
        ids.append(snapshots.take().id)
    assert snapshots.expire(days=1, keep=0) == 0, "young ones stay"
    assert snapshots.expire(days=0, keep=2) == 4
    assert [s.id for s in snapshots.history()] == ids[-2:]
    with pytest.raises(UnknownSnapshot):
        snapshots.restore(ids[0])
    kept = sum(f.stat().st_size for f in shadow(home).rglob("*") if f.is_file())
    assert kept < 150_000, "what only the expired held is gone"
    write(root / "f", "1")
    snapshots.take()
    snapshots.restore(ids[-2])
    assert (root / "other").read_text() == "4"
    assert snapshots.expire(days=0, keep=0) > 0
    assert len(snapshots.history()) == 1 and snapshots.take().covered == 2


def test_expiry_bounds_the_disk(home: Path, root: Path) -> None:
    snapshots = Snapshots(home, [root], Limits(max_store=300_000))
    for _ in range(8):
        write(root / "f", os.urandom(100_000))
        last = snapshots.take()
    assert snapshots.expire(days=30, keep=20) > 0
    assert sum(f.stat().st_size for f in shadow(home).rglob("*") if f.is_file()) < 300_000
    assert snapshots.history()[-1].id == last.id


def test_snapshots_of_a_folder_nobody_works_in_go(home: Path, root: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "old", root):
        write(folder / "a", "1")
        Snapshots(home, [folder]).take()
    old = next(p for p in (home / "snapshots").iterdir() if p.name.startswith("old-"))
    for path in old.iterdir():
        os.utime(path, (1, 1))
    Snapshots(home, [root]).expire(days=30)
    assert [p.name.partition("-")[0] for p in (home / "snapshots").iterdir()] == ["work"]


@pytest.mark.parametrize("spoil", ["truncate", "flip", "empty", "remove", "foreign"])
def test_a_spoilt_manifest_costs_only_time(home: Path, root: Path, spoil: str) -> None:
    write(root / "a", "1")
    snapshots = Snapshots(home, [root])
    taken = snapshots.take()
    manifest = next((home / "snapshots").iterdir()) / "manifest"
    content = manifest.read_bytes()
    if spoil == "remove":
        manifest.unlink()
    else:
        flipped = content[:-9] + bytes([content[-9] ^ 255]) + content[-8:]
        foreign = b"0" * 200
        manifest.write_bytes(
            {"truncate": content[:-20], "flip": flipped, "empty": b"", "foreign": foreign}[spoil]
        )
    write(root / "b", "2")
    assert Snapshots(home, [root]).take().covered == 2
    snapshots.restore(taken.id)
    assert [p.name for p in root.iterdir()] == ["a"]


def test_a_shadow_that_lost_its_objects_is_filled_again(home: Path, root: Path) -> None:
    write(root / "a", "1")
    snapshots = Snapshots(home, [root])
    lost = snapshots.take()
    for file in (shadow(home) / "objects").rglob("*"):
        if file.is_file():
            file.unlink()
    write(root / "b", "2")
    taken = snapshots.take()
    write(root / "a", "spoilt")
    with pytest.raises(SnapshotError):
        snapshots.restore(lost.id)
    snapshots.restore(taken.id)
    assert (root / "a").read_text() == "1"


def test_a_snapshot_under_way_tells_how_much_it_reads(home: Path, root: Path) -> None:
    for number in range(3000):
        (root / f"f{number}").write_text(f"{number}\n")
    snapshots = Snapshots(home, [root])
    assert snapshots.reading == 0
    taking = threading.Thread(target=snapshots.take)
    taking.start()
    seen = set()
    while taking.is_alive():
        seen.add(snapshots.reading)
    taking.join()
    assert seen <= {0, 3000} and 3000 in seen
    assert snapshots.reading == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's habit")
def test_git_keeps_its_memory_from_one_content_to_the_next(home: Path, root: Path) -> None:
    # Fresh pages for each of them cost several times as much as all the rest.
    for number in range(2000):
        (root / f"f{number}").write_text(f"VALUE = {number}\n" * 130)
    snapshots = Snapshots(home, [root])
    snapshots.history()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    snapshots.take()
    faults = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before
    assert faults < 2000 * 4

"""Killed at any moment, or two at once: the snapshots stay usable, a restore is all or nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kimi_cli.workspace.snapshots import Limits, SnapshotBusy, Snapshots
from kimi_cli.workspace.snapshots.store import FolderStore
from tests.support.trees import State, repository, state, write

# A process that does one thing, and kills itself at the n-th thing that it asks of the system
# (opening, renaming, starting git ...) once it has begun; a git that runs then goes on alone.
CHILD = """
import json, os, signal, sys
from pathlib import Path
import git
from kimi_cli.workspace.snapshots import Snapshots
home, root, what, to, fatal = sys.argv[1:]
count = 0
def watch(event, arguments):
    global count
    if event == "open" or event.startswith(("os.", "subprocess.", "shutil.", "fcntl.")):
        count += 1
        if count == int(fatal):
            os.kill(os.getpid(), signal.SIGKILL)
snapshots = Snapshots(Path(home), [Path(root)])
sys.addaudithook(watch)
if what == "take":
    done = snapshots.take().id
elif what == "restore":
    done = snapshots.restore(to).before
else:
    done = snapshots.expire(0, 1)
print(json.dumps([count, done]))
"""


# How many moments are tried: a few each time, many in the long run.
MOMENTS = pytest.mark.parametrize("moments", [2, pytest.param(16, marks=pytest.mark.long)])


def child(home: Path, root: Path, what: str, to: str = "", fatal: int = 0) -> int | None:
    """How many things it did; None when it was killed."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, home, root, what, to, str(fatal)],
        capture_output=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr.decode()
    return int(json.loads(done.stdout)[0])


def spread(total: int, count: int) -> list[int]:
    """``count`` moments out of ``total``, other ones each time, over the whole range."""
    return [random.randint(total * i // count + 1, total * (i + 1) // count) for i in range(count)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = repository(tmp_path / "work")
    for number in range(12):
        write(folder / f"d{number % 3}" / f"{number}.txt", f"{number}\n" * 50)
    return folder


def edit(root: Path, text: str) -> None:
    for number in range(0, 12, 2):
        write(root / f"d{number % 3}" / f"{number}.txt", text * 9)
    for number in range(1, 12, 4):
        (root / f"d{number % 3}" / f"{number}.txt").unlink()
    write(root / "made" / "deep" / "x", text)
    (root / "kept.py").unlink()
    (root / "kept.py").symlink_to(text)
    (root / "staged.py").chmod(0o600)


def usable(home: Path, root: Path, known: list[tuple[str, State]]) -> None:
    """A snapshot can be taken, and all there are lead where they should."""
    snapshots = Snapshots(home, [root])
    here = state(root)
    now = snapshots.take().id
    for name, expected in [*known, (now, here)]:
        snapshots.restore(name)
        assert state(root) == expected


@MOMENTS
def test_killed_while_taking(home: Path, root: Path, tmp_path: Path, moments: int) -> None:
    total = child(tmp_path / "first", root, "take")
    assert total is not None and total > 40
    for fatal in spread(total, moments):
        fresh = tmp_path / f"home{fatal}"
        assert child(fresh, root, "take", fatal=fatal) is None
        usable(fresh, root, [])
    begun = Snapshots(home, [root]).take().id
    known = [(begun, state(root))]
    for number, fatal in enumerate(spread(total // 2, moments)):
        edit(root, f"{number}")
        edited = state(root)
        child(home, root, "take", fatal=fatal)
        assert state(root) == edited
        usable(home, root, known)
        Snapshots(home, [root]).restore(begun)


@MOMENTS
def test_killed_while_restoring(home: Path, root: Path, moments: int) -> None:
    snapshots = Snapshots(home, [root])
    begun, before = snapshots.take().id, state(root)
    edit(root, "edited")
    edited, ended = state(root), snapshots.take().id
    total = child(home, root, "restore", begun)
    assert total is not None and state(root) == before
    snapshots.restore(ended)
    assert state(root) == edited
    half = 0
    # The first half is spent on the snapshot of the present state. Later runs find their files
    # settled, and have a little less to do than the first.
    for fatal in [total * 9 // 10 - early for early in spread(total * 4 // 10, 2 * moments)]:
        assert child(home, root, "restore", begun, fatal) is None
        left = {p: e for p, e in state(root).items() if not p.split(b"/")[-1].startswith(b".kimi-")}
        half += left not in (edited, before)
        again = Snapshots(home, [root])
        recovered = again.recover()
        if recovered is not None:
            assert state(root) == edited, "it is taken back"
            assert (recovered.wanted, recovered.failed) == (begun, ())
            assert bool(recovered.reverted) == (left != edited)
        else:
            assert state(root) in (edited, before)
        assert again.recover() is None
        usable(home, root, [(begun, before), (ended, edited)])
    assert half or moments < 16, "some were killed in the middle"


@MOMENTS
def test_killed_while_taking_back(home: Path, root: Path, moments: int) -> None:
    snapshots = Snapshots(home, [root])
    begun = snapshots.take().id
    edit(root, "edited")
    edited = state(root)
    total = child(home, root, "restore", begun)
    assert total is not None
    snapshots.restore(snapshots.history()[-1].id)
    assert state(root) == edited
    for first, second in zip(spread(total // 2, moments), spread(total // 2, moments), strict=True):
        assert child(home, root, "restore", begun, total - first // 4 - 10) is None
        child(home, root, "take", fatal=second)
        Snapshots(home, [root]).recover()
        assert state(root) == edited


def test_an_edit_after_the_kill_is_not_lost(home: Path, root: Path) -> None:
    snapshots = Snapshots(home, [root])
    begun, before = snapshots.take().id, state(root)
    edit(root, "edited")
    edited = state(root)
    total = child(home, root, "restore", begun)
    assert total is not None
    snapshots.restore(snapshots.history()[-1].id)
    fatal = total
    while (left := state(root)) == edited:
        fatal -= 4
        Snapshots(home, [root]).recover()
        assert child(home, root, "restore", begun, fatal) is None
    path = next(p for p in sorted(left) if left[p] == before.get(p) != edited.get(p))
    file = root / os.fsdecode(path)
    file.unlink()
    write(file, "by hand, meanwhile")
    recovered = Snapshots(home, [root]).recover()
    assert recovered is not None and [f.path for f in recovered.failed] == [file]
    assert file.read_text() == "by hand, meanwhile"
    expected = {**edited, path: state(root)[path]}
    assert state(root) == expected


@MOMENTS
def test_killed_while_expiring(home: Path, root: Path, moments: int) -> None:
    for number in range(5):
        edit_of = write(root / "f", str(number))
        Snapshots(home, [root]).take()
    total = child(home, root, "expire")
    assert total is not None
    for number, fatal in enumerate(spread(total, moments)):
        write(edit_of, f"again {number}")
        name = Snapshots(home, [root]).take().id
        child(home, root, "expire", fatal=fatal)
        usable(home, root, [(name, state(root))])
        assert Snapshots(home, [root]).expire(0, 1) >= 0


def test_an_edit_during_the_restore_is_not_lost(home: Path, root: Path) -> None:
    snapshots = Snapshots(home, [root])
    begun = snapshots.take().id
    edit(root, "edited")
    write(root / "new", "made since")
    script = """
import os, sys
from pathlib import Path
from kimi_cli.workspace.snapshots import Snapshots
home, root, begun = sys.argv[1:]
hand = [Path(root, "d0/0.txt"), Path(root, "new"), Path(root, "d1/1.txt"), Path(root, "staged.py")]
def watch(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("journal"):
        for file in hand:
            file.write_text("by hand")
sys.addaudithook(watch)
done = Snapshots(Path(home), [Path(root)]).restore(begun)
print(*sorted(item.path.relative_to(root) for item in done.failed))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, home, root, begun],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout.split() == ["d0/0.txt", "d1/1.txt", "new", "staged.py"], done.stderr
    for name in done.stdout.split():
        assert (root / name).read_text() == "by hand"
    assert (root / "kept.py").is_file() and not (root / "made").exists()


def test_the_lock_is_held_until_an_orphaned_git_has_ended(home: Path, root: Path) -> None:
    """git's pruning, left alone by a kill, must not meet the next snapshot."""
    store = FolderStore(home, root, Limits(lock=0.05))
    with store.locked():
        store.shadow.make()
        orphan = store.shadow.start(["cat-file", "--batch"], writes=True, changes=True)
    snapshots = Snapshots(home, [root], Limits(lock=0.05))
    with pytest.raises(SnapshotBusy):
        snapshots.take()
    orphan.communicate()
    snapshots.take()


def test_two_processes_at_once(home: Path, root: Path) -> None:
    script = """
import sys
from pathlib import Path
from kimi_cli.workspace.snapshots import Snapshots
home, root, name = sys.argv[1:]
own = Path(root, name)
for number in range(5):
    own.write_text(str(number))
    print(Snapshots(Path(home), [Path(root)]).take().id)
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, home, root, name],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for name in ("one", "two")
    ]
    printed = [process.communicate()[0].split() for process in running]
    assert [len(ids) for ids in printed] == [5, 5]
    snapshots = Snapshots(home, [root])
    for name, ids in zip(("one", "two"), printed, strict=True):
        for number, taken in enumerate(ids):
            snapshots.restore(taken)
            assert (root / name).read_text() == str(number)

"""The file layer: opening without hanging, atomic replacing, and what the model has seen."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.protocol.workspace import WHOLE_LIMIT, FileTouch, StaleFile
from kimi_cli.workspace import diffs
from kimi_cli.workspace.files import WorkspaceFiles


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def files(root: Path, tmp_path: Path) -> WorkspaceFiles:
    return WorkspaceFiles(root, tmp_path / "session" / "blobs")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a tmpfs")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


class TestPaths:
    def test_relative_absolute_and_home(
        self, files: WorkspaceFiles, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", "/somewhere")
        assert files.resolve("a/../b.py") == root / "b.py"
        assert files.resolve("/etc/hosts") == Path("/etc/hosts")
        assert files.resolve("~/x") == Path("/somewhere/x")

    def test_symlinks_are_not_followed(self, files: WorkspaceFiles, root: Path) -> None:
        (root / "link").symlink_to("/etc")
        assert files.resolve("link/hosts") == root / "link/hosts"

    def test_shown_relative_inside_the_root_only(self, files: WorkspaceFiles, root: Path) -> None:
        assert files.show(root / "a/b") == "a/b"
        assert files.show(root) == "."
        assert files.show(root.parent / "work2") == str(root.parent / "work2")

    def test_a_name_that_is_not_utf8_can_be_shown(self, files: WorkspaceFiles, root: Path) -> None:
        assert files.show(root / os.fsdecode(b"caf\xe9")) == "caf\ufffd"


class TestOpening:
    def test_a_fifo_is_refused_at_once(self, files: WorkspaceFiles, root: Path) -> None:
        os.mkfifo(root / "pipe")
        with pytest.raises(OSError, match="FIFO"):
            files.read(root / "pipe")

    def test_a_device_is_refused(self, files: WorkspaceFiles) -> None:
        with pytest.raises(OSError, match="a device"):
            files.read(Path("/dev/zero"))

    def test_a_socket_is_refused(self, files: WorkspaceFiles, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "s"))
            with pytest.raises(OSError, match="a socket"):
                files.read(tmp_path / "s")

    def test_a_folder_is_refused(self, files: WorkspaceFiles, root: Path) -> None:
        with pytest.raises(IsADirectoryError):
            files.open(root)

    def test_a_link_to_a_fifo_is_refused(self, files: WorkspaceFiles, root: Path) -> None:
        os.mkfifo(root / "pipe")
        (root / "link").symlink_to("pipe")
        with pytest.raises(OSError, match="FIFO"):
            files.open(root / "link")

    def test_a_huge_file_is_not_read_whole(self, files: WorkspaceFiles, root: Path) -> None:
        with (root / "huge").open("wb") as file:
            file.truncate(WHOLE_LIMIT + 1)
        with pytest.raises(OSError) as error:
            files.read(root / "huge")
        assert error.value.errno == errno.EFBIG
        (root / "fits").write_bytes(bytes(1000))
        assert files.read(root / "fits") == bytes(1000)

    def test_no_descriptor_stays_open(self, files: WorkspaceFiles, root: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            with pytest.raises(IsADirectoryError):
                files.open(root)
        assert len(os.listdir("/proc/self/fd")) <= before + 2

    def test_listing(self, files: WorkspaceFiles, root: Path) -> None:
        (root / "b").mkdir()
        (root / "a.py").touch()
        (root / "c").touch()
        assert list(files.listing(root, 10)) == ["a.py", "b/", "c"]
        assert list(files.listing(root, 2)) == ["a.py", "b/"]


class TestSeen:
    def test_never_seen_is_fresh(self, files: WorkspaceFiles, root: Path) -> None:
        assert not files.seen(root / "a")
        files.check_fresh(root / "a", b"anything")

    def test_another_content_is_stale(self, files: WorkspaceFiles, root: Path) -> None:
        (root / "a").write_bytes(b"one")
        assert files.saw(root / "a", b"one") == hashlib.sha256(b"one").hexdigest()
        files.check_fresh(root / "a", b"one")
        with pytest.raises(StaleFile):
            files.check_fresh(root / "a", b"two")

    def test_a_file_is_the_same_under_every_name(self, files: WorkspaceFiles, root: Path) -> None:
        (root / "a").write_bytes(b"one")
        (root / "link").symlink_to("a")
        files.saw(root / "link", b"one")
        assert files.seen(root / "a")
        with pytest.raises(StaleFile):
            files.check_fresh(root / "a", b"two")

    def test_a_large_file_that_shrank_is_stale(self, files: WorkspaceFiles, root: Path) -> None:
        (root / "a").write_bytes(b"stands for many")
        stamp = files.saw(root / "a", None)
        assert stamp != hashlib.sha256(b"stands for many").hexdigest()
        with pytest.raises(StaleFile):
            files.check_fresh(root / "a", b"small now")

    def test_a_resumed_session_knows_what_was_seen(self, files: WorkspaceFiles, root: Path) -> None:
        (root / "read").write_bytes(b"r")
        (root / "gone").write_bytes(b"g")
        touches = [
            FileTouch(
                path=str(root / "read"), action="read", digest=files.saw(root / "read", b"r")
            ),
            files.replace(root / "new", b"first", expected=None),
            files.replace(root / "new", b"second", expected=b"first"),
            FileTouch(
                path=str(root / "gone"), action="read", digest=files.saw(root / "gone", b"g")
            ),
            FileTouch(path=str(root / "gone"), action="deleted"),
        ]
        again = WorkspaceFiles(root)
        again.restore(FileTouch.model_validate_json(t.model_dump_json()) for t in touches)
        assert again.seen(root / "read")
        again.check_fresh(root / "new", b"second")
        with pytest.raises(StaleFile):
            again.check_fresh(root / "new", b"first")
        assert not again.seen(root / "gone")


class TestReplace:
    def test_a_new_file_in_new_folders(self, files: WorkspaceFiles, root: Path) -> None:
        touch = files.replace(root / "a/b/c.txt", b"x\ny\n", expected=None)
        assert (root / "a/b/c.txt").read_bytes() == b"x\ny\n"
        assert names(root / "a/b") == ["c.txt"]
        assert (touch.action, touch.added, touch.removed) == ("created", 2, 0)
        assert touch.digest == hashlib.sha256(b"x\ny\n").hexdigest()
        assert touch.diff == "--- /dev/null\n+++ b/a/b/c.txt\n@@ -0,0 +1,2 @@\n+x\n+y\n"
        assert touch.preimage is None
        assert files.seen(root / "a/b/c.txt")

    def test_a_new_file_follows_the_umask(self, root: Path) -> None:
        code = (
            "import os, sys; from pathlib import Path; os.umask(0o027)\n"
            "from kimi_cli.workspace.files import WorkspaceFiles\n"
            "WorkspaceFiles(Path(sys.argv[1])).replace(Path(sys.argv[1], 'n'), b'', expected=None)"
        )
        subprocess.run([sys.executable, "-c", code, str(root)], check=True)
        assert stat.S_IMODE((root / "n").stat().st_mode) == 0o640

    def test_a_name_taken_meanwhile_is_stale(self, files: WorkspaceFiles, root: Path) -> None:
        (root / "a").write_bytes(b"theirs")
        with pytest.raises(StaleFile):
            files.replace(root / "a", b"ours", expected=None)
        assert (root / "a").read_bytes() == b"theirs"
        assert names(root) == ["a"]

    def test_a_file_changed_meanwhile_is_stale(self, files: WorkspaceFiles, root: Path) -> None:
        (root / "a").write_bytes(b"theirs")
        with pytest.raises(StaleFile):
            files.replace(root / "a", b"ours", expected=b"before")
        assert (root / "a").read_bytes() == b"theirs"
        assert names(root) == ["a"]

    def test_mode_and_owner_survive(self, files: WorkspaceFiles, root: Path) -> None:
        path = root / "run.sh"
        path.write_bytes(b"old")
        if os.geteuid() == 0:
            os.chown(path, 12345, 23456)
        path.chmod(0o2751)
        before = path.stat()
        files.replace(path, b"new", expected=b"old")
        after = path.stat()
        assert path.read_bytes() == b"new"
        assert (after.st_mode, after.st_uid, after.st_gid) == (
            before.st_mode,
            before.st_uid,
            before.st_gid,
        )
        assert after.st_ino != before.st_ino

    def test_a_symlink_stays_and_its_target_changes(
        self, files: WorkspaceFiles, root: Path
    ) -> None:
        (root / "sub").mkdir()
        (root / "sub/real").write_bytes(b"old")
        (root / "link").symlink_to("sub/real")
        files.replace(root / "link", b"new", expected=b"old")
        assert os.readlink(root / "link") == "sub/real"
        assert (root / "sub/real").read_bytes() == b"new"

    def test_a_dangling_symlink_gets_its_target(self, files: WorkspaceFiles, root: Path) -> None:
        (root / "link").symlink_to("later")
        files.replace(root / "link", b"new", expected=None)
        assert (root / "link").is_symlink()
        assert (root / "later").read_bytes() == b"new"

    def test_a_hard_link_elsewhere_keeps_the_old_content(
        self, files: WorkspaceFiles, root: Path
    ) -> None:
        (root / "a").write_bytes(b"old")
        os.link(root / "a", root / "b")
        touch = files.replace(root / "a", b"new", expected=b"old")
        assert (root / "b").read_bytes() == b"old"
        assert "hard links" in touch.note

    def test_a_read_only_file_is_refused_also_for_root(
        self, files: WorkspaceFiles, root: Path
    ) -> None:
        (root / "a").write_bytes(b"old")
        (root / "a").chmod(0o444)
        with pytest.raises(PermissionError, match="read-only"):
            files.replace(root / "a", b"new", expected=b"old")
        assert (root / "a").read_bytes() == b"old"
        assert names(root) == ["a"]

    def test_the_former_bytes_are_kept(
        self, files: WorkspaceFiles, root: Path, tmp_path: Path
    ) -> None:
        (root / "a").write_bytes(b"\xff\x00old")
        touch = files.replace(root / "a", b"new", expected=b"\xff\x00old")
        assert touch.preimage
        kept = tmp_path / "session" / touch.preimage
        assert kept.read_bytes() == b"\xff\x00old"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        (root / "b").write_bytes(b"\xff\x00old")
        assert files.replace(root / "b", b"", expected=b"\xff\x00old").preimage == touch.preimage

    def test_a_full_disk_leaves_the_old_file(self, small_disk: Path, tmp_path: Path) -> None:
        files = WorkspaceFiles(small_disk, tmp_path / "blobs")
        (small_disk / "a").write_bytes(b"old" * 1000)
        with pytest.raises(OSError) as error:
            files.replace(small_disk / "a", b"new" * 50_000, expected=b"old" * 1000)
        assert error.value.errno == errno.ENOSPC
        assert (small_disk / "a").read_bytes() == b"old" * 1000
        with pytest.raises(OSError):
            files.replace(small_disk / "b", b"new" * 50_000, expected=None)
        assert names(small_disk) == ["a"]

    def test_a_file_that_is_a_mount_point_is_written_in_place(
        self, small_disk: Path, root: Path
    ) -> None:
        files = WorkspaceFiles(root)
        (small_disk / "a").write_bytes(b"old")
        (root / "a").touch()
        mount = ["mount", "--bind", str(small_disk / "a"), str(root / "a")]
        subprocess.run(mount, check=True)
        try:
            touch = files.replace(root / "a", b"new content", expected=b"old")
            assert "in place" in touch.note
            assert (root / "a").read_bytes() == b"new content"
            assert (small_disk / "a").read_bytes() == b"new content"
            with pytest.raises(OSError) as error:
                files.replace(root / "a", b"x" * 100_000, expected=b"new content")
            assert error.value.errno == errno.ENOSPC
            assert (root / "a").read_bytes() == b"new content"
            assert names(root) == ["a"]
        finally:
            subprocess.run(["umount", str(root / "a")], check=True)

    def test_a_read_only_file_system_is_refused(self, small_disk: Path) -> None:
        files = WorkspaceFiles(small_disk)
        (small_disk / "a").write_bytes(b"old")
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        with pytest.raises(OSError):
            files.replace(small_disk / "a", b"new", expected=b"old")
        with pytest.raises(OSError):
            files.replace(small_disk / "b", b"new", expected=None)
        assert (small_disk / "a").read_bytes() == b"old"


def rebuild(old: list[str], diff: str) -> list[str]:
    """What the ``patch`` program would make of it."""
    result, at = [], 0
    for line in diff.splitlines()[2:]:
        if line.startswith("@@"):
            start, _, length = line.split()[1][1:].partition(",")
            start_index = int(start) - (length != "0")
            result += old[at:start_index]
            at = start_index
        elif line[0] == " ":
            assert old[at] == line[1:]
            result.append(old[at])
            at += 1
        elif line[0] == "-":
            assert old[at] == line[1:]
            at += 1
        elif line[0] == "+":
            result.append(line[1:])
    return result + old[at:]


class TestDiff:
    few = st.lists(st.sampled_from(["a", "b", "c", "", "long line", "d"]), max_size=40)

    @given(few, few)
    def test_it_turns_the_old_into_the_new(self, old: list[str], new: list[str]) -> None:
        a, b = ("".join(line + "\n" for line in lines).encode() for lines in (old, new))
        diff = diffs.compare(a, b, "f")
        assert rebuild(old, diff.text) == new
        body = diff.text.splitlines()[2:]
        assert diff.added == sum(line[0] == "+" for line in body)
        assert diff.removed == sum(line[0] == "-" for line in body)
        assert (diff.text == "") == (old == new)

    def test_far_apart_changes_are_hunks_of_their_own(self) -> None:
        old = [f"line {n}" for n in range(50_000)]
        new = [*old]
        new[10], new[40_000] = "changed", "also"
        diff = diffs.compare("\n".join(old).encode(), "\n".join(new).encode(), "f")
        assert (diff.added, diff.removed) == (2, 2)
        assert diff.text.count("@@ -") == 2

    def test_two_large_repetitive_files_take_no_time(self) -> None:
        a = b"x\n\n" * 60_000 + b"only here\n"
        b = b"\ny\nx\n" * 40_000
        diff = diffs.compare(a, b, "f")
        assert diff.added and diff.removed
        assert len(diff.text) < 70_000
        assert diff.text.endswith("[the rest of the diff is left out]\n")

    def test_a_missing_newline_at_the_end_shows(self) -> None:
        diff = diffs.compare(b"a\nb", b"a\nb\n", "f")
        assert diff.text.endswith("-b\n\\ No newline at end of file\n+b\n")

    def test_line_ends_show_only_where_they_differ(self) -> None:
        assert "␍" not in diffs.compare(b"a\r\nb\r\n", b"a\r\nc\r\n", "f").text
        assert "-a␍\n+a\n" in diffs.compare(b"a\r\nb\n", b"a\nb\n", "f").text

    def test_binary_is_not_shown(self) -> None:
        assert diffs.compare(b"\0\1\n", b"\0\2\n", "f").text == "Binary file f changed\n"

    def test_utf16_is_shown_as_text(self) -> None:
        diff = diffs.compare("a\n".encode("utf-16"), "é\n".encode("utf-16"), "f")
        assert "+é" in diff.text

"""Commands in a box do ordinary work as ever, and a box is what it says; in the full form."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator

import pytest

from tests.support.boxed import Boxed
from tests.unit import sandbox_attacks as attacks
from tests.unit.sandbox_worlds import got_through, ok, worlds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox of Linux")

USERS = {"": "as we are", "plain": "plain", "nobody": "nobody"}


@pytest.fixture(scope="module", params=list(USERS), ids=list(USERS.values()))
def shared(request: pytest.FixtureRequest) -> Iterator[Boxed]:
    yield from worlds(request.param, "", "namespaces")


@pytest.fixture
def full(shared: Boxed) -> Boxed:
    """A process for several tests, each in a world that no other has changed."""
    shared.make()
    return shared


class TestOrdinaryWork:
    def test_files_of_the_workspace_and_temp(self, full: Boxed) -> None:
        ok(
            full,
            """
            set -e
            echo x > new; echo y >> file; mkdir -p a/b; mv new a/b/; ln a/b/new a/hard; ln -s a c
            chmod 700 a; touch -d 2001-01-01 a/b/new; rm -r a c
            echo x > $TEMP/x; mkdir $TEMP/d; mv $TEMP/x $TEMP/d/; mv $TEMP/d/x x; rm x
            [ "$BOXED" = yes ]
            """,
        )

    def test_devices(self, full: Boxed) -> None:
        ok(
            full,
            """
            set -e
            echo x > /dev/null; head -c 4 /dev/zero > z; head -c 4 /dev/urandom > z
            echo x > /dev/shm/x; [ "$(cat /dev/shm/x)" = x ]
            echo x | tee -a /dev/stderr > /dev/null; echo x >> /dev/stdout
            cat < <(echo x) > /dev/fd/1; echo x > >(cat); cat <<< x
            """,
        )

    def test_no_device_of_the_machine(self, full: Boxed) -> None:
        assert "vda" not in ok(full, "ls /dev; ! ls /dev | grep -E '^(sd|vd|nvme|mem|kmsg|loop)'")

    def test_a_terminal(self, full: Boxed) -> None:
        assert "in a terminal" in ok(
            full, "script -qec 'test -t 0 && echo in a terminal' /dev/null < /dev/null"
        )

    def test_processes_of_python(self, full: Boxed) -> None:
        source = """
            import multiprocessing as mp, subprocess, sys
            from multiprocessing.shared_memory import SharedMemory

            def double(number):
                return 2 * number

            if __name__ == "__main__":
                with mp.Pool(2) as pool:
                    assert pool.map(double, range(4)) == [0, 2, 4, 6]
                with mp.Manager() as manager:
                    shared = manager.dict(a=1)
                    worker = mp.Process(target=shared.update, args=({"a": 2},))
                    worker.start(); worker.join()
                    assert shared["a"] == 2
                mp.Semaphore(1).acquire()
                memory = SharedMemory(create=True, size=16)
                memory.close(); memory.unlink()
                subprocess.run([sys.executable, "-c", "pass"], check=True)
        """
        script = full.world.temp / "m.py"
        script.write_text(textwrap.dedent(source))
        ok(full, f"$PYTHON {script}")
        full.make()

    def test_git(self, full: Boxed) -> None:
        ok(
            full,
            """
            set -e
            echo more >> file; git add -A; git commit -qm one; git switch -qc topic
            echo again >> file; git commit -qam two; git switch -q main; git merge -q topic
            git gc -q; git worktree add -q $TEMP/tree; git worktree remove $TEMP/tree
            git log --oneline | grep two
            """,
        )
        full.make()

    @pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
    def test_a_compiler(self, full: Boxed) -> None:
        ok(full, "echo 'int main(){return 0;}' > a.c && gcc -o a.bin a.c && ./a.bin && rm a.*")

    def test_unpacking_keeps_owners_of_the_privileged(self, full: Boxed) -> None:
        ok(
            full,
            """
            set -e
            mkdir p; echo x > p/f; tar cf p.tar --owner=$(id -u) --group=$(id -g) p; rm -r p
            tar xpf p.tar; cat p/f; rm -r p p.tar
            """,
        )
        if os.getuid() == 0 and full.run("id -u")["output"].strip() == "0":
            ok(full, "echo x > f; chown 12:34 f; [ $(stat -c %u:%g f) = 12:34 ]; rm f")

    def test_the_private_network_is_the_sessions(self, full: Boxed) -> None:
        server = "exec $PYTHON -m http.server --bind 127.0.0.1 4711"
        full.run(server, wait=False)
        source = """
            import time, urllib.request
            for _ in range(200):
                try:
                    print(urllib.request.urlopen("http://127.0.0.1:4711/file").read())
                    break
                except OSError:
                    time.sleep(0.05)
            else:
                raise SystemExit(1)
        """
        ok(full, f"$PYTHON - <<'END'\n{textwrap.dedent(source)}\nEND")
        assert full.run("exec 7<>/dev/tcp/127.0.0.1/4711", boxed=False)["code"] != 0
        assert full.run("exec 7<>/dev/tcp/127.0.0.1/4711", session="/other")["code"] != 0

    def test_the_network_when_it_is_granted(self, full: Boxed) -> None:
        ok(full, attacks.NETWORK["tcp"], network=True)
        ok(full, attacks.NETWORK["udp"], network=True)
        for name in ("socket outside", "socket in temp"):
            assert got_through(full, attacks.SOCKETS[name], network=True) == ""
        if full.probe["landlock_abi"] >= 6:
            assert got_through(full, attacks.NETWORK["abstract socket"], network=True) == ""
        assert got_through(full, attacks.FILES["overwrite"], network=True) == ""

    def test_a_private_layer_over_a_cache(self, full: Boxed) -> None:
        if not full.probe["overlays"]:
            pytest.skip("no overlay filesystem here")
        world = full.world
        layers = [[str(world.lower), str(world.upper), str(world.work)]]
        first = "set -e; cd $LOWER; cat old; echo new > old; echo x > more; mkdir d"
        assert ok(full, first, overlays=layers) == "old\n"
        second = "set -e; cd $LOWER; cat old more; rm -r old d"
        assert ok(full, second, overlays=layers) == "new\nx\n"
        assert ok(full, "ls $LOWER", overlays=layers) == "more\n"
        assert ok(full, "ls $LOWER") == "old\n"


class TestTheBox:
    def test_what_is_shown_in_the_hidden(self, full: Boxed) -> None:
        assert ok(full, "cat $SECRET/outputs/t1.txt; ls $SECRET") == "an output\noutputs\n"
        assert got_through(full, "echo x > $SECRET/outputs/t2.txt") == ""
        assert got_through(full, "echo x > $SECRET/new") == ""

    def test_a_hidden_file_is_empty(self, full: Boxed) -> None:
        key = str(full.world.home / "secret" / "key")
        assert ok(full, "cat $SECRET/key; ls -A $SECRET/..", hidden=[key]).startswith("s")

    def test_read_only(self, full: Boxed) -> None:
        assert ok(full, "cat file; echo x > /dev/null; echo x > /dev/shm/x", mode="read-only",
                  write=[], pinned=[], read_only=[]) == "content\n"  # fmt: skip
        for command in ("echo x > file", "echo x > new", "rm -f file", "echo x > $TEMP/x"):
            changed = full.run(command, mode="read-only", write=[], pinned=[], read_only=[])
            assert changed["code"] != 0 or command.startswith("rm")
        assert ok(full, "cat file; ls $TEMP") == "content\ndeep\ns.sock\n"

    def test_a_granted_file(self, full: Boxed) -> None:
        file = str(full.world.out / "file")
        answer = full.run("echo x > $OUT/file", write=[str(full.world.ws), file])
        assert answer["code"] == 0 and answer["changed"] == [file]
        assert got_through(full, "rm -f $OUT/file; echo x > $OUT/new", write=[file]) == ""
        full.make()

    def test_a_folder_that_became_a_link_stops_the_start(self, full: Boxed) -> None:
        link = full.world.temp / "link"
        link.symlink_to(full.world.out)
        answer = full.run("echo x > $OUT/file", write=[str(link)])
        assert "symbolic links" in answer["error"] and answer["changed"] == []
        full.make()

    def test_what_is_missing_is_left_out(self, full: Boxed) -> None:
        ok(full, "echo x > $TEMP/x", write=[str(full.world.temp), "/none"], hidden=["/none/a"],
           read_only=["/none/b"], shown=["/none/a/b"])  # fmt: skip

    def test_an_unknown_way_starts_nothing(self, full: Boxed) -> None:
        answer = full.run("echo x > $OUT/file", way="magic")
        assert "no such way: magic" in answer["error"] and answer["changed"] == []
        assert answer["heard"][-1].startswith("after")

    def test_the_guard_hears_before_and_after(self, full: Boxed) -> None:
        answer = full.run("true")
        first, last = answer["heard"][-2:]
        number = first.removeprefix("before ")
        assert last == f"after {number}" and answer["put_back"] == [f"put back after {number}"]
        assert answer["denial"] == "namespaces: said"
        assert full.run("true", boxed=False)["denial"] is None

    def test_no_descriptor_of_ours(self, full: Boxed) -> None:
        shown = ok(full, "for f in /proc/self/fd/*; do echo ${f##*/}; done; [ ! -e /proc/$$/fd/3 ]")
        # The glob's own folder is one more.
        assert set(shown.split()) <= {"0", "1", "2", "3", "255"}

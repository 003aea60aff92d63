"""The sandbox against a real kernel: what a command in a box can't do.

A world outside the box is looked at after each try; the same tries get through without a box.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.boxed import Boxed
from tests.unit import sandbox_attacks as attacks
from tests.unit.sandbox_worlds import got_through, ok, started, worlds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox of Linux")

FULL = (
    attacks.FILES | attacks.ATTRIBUTES | attacks.KEPT | attacks.PINNED | attacks.HIDDEN
    | attacks.PROCESSES | attacks.SIGNALS | attacks.NETWORK | attacks.SOCKETS | attacks.CALLS
)  # fmt: skip
# Landlock alone has no say over these.
BARE = attacks.FILES | attacks.HIDDEN | attacks.PROCESSES | attacks.SIGNALS | attacks.NETWORK
BARE |= attacks.CALLS


@pytest.fixture(scope="module", params=["", "plain"], ids=["as we are", "plain"])
def full(request: pytest.FixtureRequest) -> Iterator[Boxed]:
    yield from worlds(request.param, "", "namespaces")


@pytest.fixture(scope="module", params=["", "plain"], ids=["as we are", "plain"])
def bare(request: pytest.FixtureRequest) -> Iterator[Boxed]:
    yield from worlds(request.param, "landlock", "landlock")


@pytest.fixture(scope="module")
def wrapped() -> Iterator[Boxed]:
    yield from worlds("", "bubblewrap", "bubblewrap")


@pytest.fixture(scope="module")
def open_world() -> Iterator[Boxed]:
    boxed = started("", "none")
    yield boxed
    boxed.kill()
    shutil.rmtree(boxed.world.folder, ignore_errors=True)


@pytest.mark.parametrize("name", FULL)
def test_without_a_box_it_gets_through(open_world: Boxed, name: str) -> None:
    if name in attacks.CALLS or name == "trace":
        pytest.skip("depends on how the kernel was built")
    assert got_through(open_world, FULL[name], boxed=False)
    open_world.make()


@pytest.mark.parametrize("name", FULL)
def test_the_full_form_holds(full: Boxed, name: str) -> None:
    if name in attacks.SIGNALS and full.probe["landlock_abi"] < 6:
        pytest.skip("this kernel's Landlock does not know signals")
    assert got_through(full, FULL[name]) == ""
    full.make()


@pytest.mark.parametrize("name", attacks.PRIVILEGED)
def test_privileges_are_gone(full: Boxed, name: str) -> None:
    assert got_through(full, attacks.PRIVILEGED[name]) == ""


@pytest.mark.parametrize("name", BARE)
def test_landlock_alone_holds(bare: Boxed, name: str) -> None:
    if name in attacks.SIGNALS | {"abstract socket": ""} and bare.probe["landlock_abi"] < 6:
        pytest.skip("this kernel's Landlock does not know signals")
    assert got_through(bare, BARE[name]) == ""
    bare.make()


def test_what_landlock_alone_lacks_is_said(bare: Boxed) -> None:
    lacks = " ".join(bare.probe["lacks"])
    for held, words in ((attacks.KEPT, "protected files"), (attacks.SOCKETS, "unix sockets")):
        assert any(got_through(bare, command) for command in held.values())
        assert words in lacks
        bare.make()


@pytest.mark.parametrize("name", [name for name in FULL if name not in attacks.SIGNALS])
def test_bubblewrap_holds(wrapped: Boxed, name: str) -> None:
    assert got_through(wrapped, FULL[name]) == ""
    wrapped.make()


def test_preloading_and_static_programs_make_no_difference(full: Boxed, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no compiler")
    source = full.world.folder / "w.c"
    source.write_text(
        "#include <stdlib.h>\n#include <stdio.h>\n"
        'int go(void) { char p[4096]; snprintf(p, sizeof p, "%s/new", getenv("OUT"));\n'
        '  return fopen(p, "w") == 0; }\n'
        "#ifdef LIB\n__attribute__((constructor)) static void at_load(void) { go(); }\n"
        "#else\nint main(void) { return go(); }\n#endif\n"
    )
    static, library = full.world.folder / "static", full.world.folder / "lib.so"
    for target, options in ((static, ["-static"]), (library, ["-shared", "-fPIC", "-DLIB"])):
        subprocess.run(["gcc", *options, "-o", target, source], check=True)
    assert got_through(full, str(static)) == ""
    assert full.run(str(static), boxed=False)["changed"] != []
    full.make()
    assert got_through(full, f"LD_PRELOAD={library} /bin/true && [ -e $OUT/new ]") == ""


def test_a_setuid_program_gains_nothing(full: Boxed) -> None:
    assert "NoNewPrivs:\t1" in ok(full, "cat /proc/self/status")
    if os.getuid() or full.run("id -u")["output"].strip() != "0":
        return
    program = full.world.folder / "who"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    ask = f"setpriv --reuid=1000 --regid=1000 --clear-groups {program} -u"
    assert full.run(ask, boxed=False)["output"] == "0\n"
    assert full.run(ask)["output"] == "1000\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root reads a disk")
def test_no_disk_can_be_read(full: Boxed, bare: Boxed) -> None:
    disks = [path for path in Path("/dev").iterdir() if path.is_block_device()]
    read = "; ".join(f"head -c 1 {disk} > /dev/null 2>&1 && echo read {disk}" for disk in disks)
    assert full.run(read)["output"] == bare.run(read)["output"] == ""


@pytest.mark.parametrize("best", ["", "landlock"])
def test_what_a_command_leaves_stays_in_its_box_and_ends(best: str) -> None:
    boxed = started("", best)
    try:
        daemon = """
            import os, time
            if os.fork(): os._exit(0)
            os.setsid()
            if os.fork(): os._exit(0)
            os.close(1); os.close(2)
            out = os.environ["OUT"] + "/new"
            while not os.path.exists("go"):
                time.sleep(0.01)
            try:
                open(out, "w")
            except OSError as error:
                verdict = type(error).__name__
            else:
                verdict = "written"
            open("part", "w").write(f"{verdict} {os.getpid()}")
            os.rename("part", "verdict")
            time.sleep(1000)
        """
        source = textwrap.dedent(daemon)
        answer = boxed.run(f"$PYTHON - <<'END'\n{source}\nEND")
        assert answer["code"] == 0 and len(answer["survivors"]) == 1
        assert answer["put_back"] == [] and answer["heard"] == ["before 1"]
        told = boxed.run("touch go; while [ ! -e verdict ]; do sleep 0.01; done; cat verdict")
        verdict, pid = told["output"].split()
        assert verdict in ("OSError", "PermissionError") and told["changed"] == []
        assert os.path.exists(f"/proc/{pid}")
        end = boxed.close()
        assert end["swept"] and "after 1" in end["heard"]
        assert not os.path.exists(f"/proc/{pid}")
    finally:
        boxed.kill()
        shutil.rmtree(boxed.world.folder, ignore_errors=True)


SMALL = """
static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile ("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return (int)result;
}
static long big(long number, long a, long b, long c) {
    long result;
    __asm__ volatile ("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c)
                      : "rcx", "r11", "memory");
    return result;
}
#include <stdio.h>
int main(void) {
    printf("%ld %ld %ld %ld %ld\\n", call(359, 1, 1, 0), call(102, 1, 0, 0), call(288, 0, 0, 0),
           big(0x40000000 | 41, 1, 1, 0), big(41, 0x100000000L | 40, 1, 0));
    return 0;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="programs of this machine only")
def test_calls_of_other_kinds_of_programs_are_filtered(full: Boxed) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no compiler")
    source = full.world.folder / "s.c"
    source.write_text(SMALL)
    program = full.world.folder / "small"
    subprocess.run(["gcc", "-o", program, source], check=True)
    # EAFNOSUPPORT, EAFNOSUPPORT, EPERM, ENOSYS, EAFNOSUPPORT
    assert ok(full, str(program)) == "-97 -97 -1 -38 -97\n"

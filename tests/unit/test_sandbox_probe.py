"""Finding out what the sandbox can hold, on machines that refuse the one or the other thing."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kimi_cli.workspace import launch
from kimi_cli.workspace.box import Probe, Weaker
from kimi_cli.workspace.probe import probe_machine
from kimi_cli.workspace.processes import ProcessRunner
from tests.support.boxed import Boxed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox of Linux")

# What a container's own filter refuses, by system call; numbers of x86_64.
NO_NAMESPACES = {272: errno.EPERM, 56: 0}
NO_LANDLOCK = {444: errno.EOPNOTSUPP}
NO_CALLS_FOR_MOUNTS = {428: errno.ENOSYS, 442: errno.ENOSYS}


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="kimi-probe-test-"))
    yield path
    shutil.rmtree(path)


def refusing(calls: dict[int, int]) -> Callable[[], None]:
    """What puts a filter on a new process, as a container does."""

    def install() -> None:
        steps = [struct.pack("=HBBI", 0x20, 0, 0, 0)]
        for call, number in calls.items():
            if number:
                steps.append(struct.pack("=HBBI", 0x15, 0, 1, call))
                steps.append(struct.pack("=HBBI", 0x06, 0, 0, 0x50000 | number))
        steps.append(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))
        code = ctypes.create_string_buffer(b"".join(steps))
        program = struct.pack("@HP", len(steps), ctypes.addressof(code))
        libc = ctypes.CDLL(None, use_errno=True)
        for option, values in ((38, (1, 0)), (22, (2, program))):
            words = [ctypes.c_ulong(v) if isinstance(v, int) else v for v in values]
            if libc.prctl(option, *words, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")

    return install


def probed(before: Callable[[], None] | None = None, path: str | None = None) -> Probe:
    """The probe of a process of its own, with what ``before`` does to it."""
    source = (
        "import json; from kimi_cli.workspace.probe import probe_machine; p = probe_machine();"
        "print(json.dumps({n: getattr(p, n) for n in p.__slots__}))"
    )
    import json

    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    if path is not None:
        env["PATH"] = path
    told = subprocess.run(
        [sys.executable, "-c", source],
        preexec_fn=before,
        env=env,
        stdout=subprocess.PIPE,
        check=True,
    )
    facts = json.loads(told.stdout)
    return Probe(**facts | {"lacks": tuple(facts["lacks"])})


x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of another machine")


def test_the_best_way_lacks_nothing_with_a_new_kernel() -> None:
    found = probe_machine()
    if found.way != "namespaces":
        pytest.skip(f"no namespaces: {found.why}")
    assert (found.lacks == ()) == (found.landlock_abi >= 6)
    assert found.why == "" and found.seconds > 0


@pytest.mark.parametrize("best", ["landlock", "none"])
def test_a_worse_way_can_be_forced(best: Weaker) -> None:
    found = probe_machine(best=best)
    if best == "landlock" and not found.landlock_abi:
        pytest.skip("no Landlock")
    assert found.way == best
    assert bool(found.lacks) == (best == "landlock")


@x86
def test_without_namespaces_it_is_landlock_and_says_why() -> None:
    if probe_machine(best="landlock").way == "none":
        pytest.skip("no Landlock")
    found = probed(refusing(NO_NAMESPACES), path="/none")
    assert found.way == "landlock" and found.lacks
    assert "namespaces: " in found.why and "unshare: Operation not permitted" in found.why
    assert "bubblewrap: the program bwrap is not there" in found.why


@x86
def test_without_landlock_namespaces_hold_but_for_signals() -> None:
    if probe_machine().way != "namespaces":
        pytest.skip("no namespaces")
    found = probed(refusing(NO_LANDLOCK))
    assert found.way == "namespaces" and found.landlock_abi == 0
    assert found.lacks == ("signals and abstract unix sockets of processes outside",)


@x86
@pytest.mark.parametrize("missing", [NO_NAMESPACES, NO_CALLS_FOR_MOUNTS])
def test_without_anything_it_is_none(missing: dict[int, int]) -> None:
    found = probed(refusing(NO_LANDLOCK | missing), path="/none")
    assert found.way == "none"
    for way in ("namespaces", "bubblewrap", "landlock"):
        assert f"{way}: " in found.why


@x86
def test_a_command_is_not_run_where_its_box_can_not_be_made(folder: Path) -> None:
    boxed = Boxed(folder, before=refusing(NO_LANDLOCK | NO_NAMESPACES))
    try:
        for way in ("namespaces", "landlock"):
            answer = boxed.run("echo x > $OUT/new", way=way)
            assert "can't be set up" in answer["error"] or "unshare" in answer["error"]
            assert answer["changed"] == []
        assert boxed.run("true", boxed=False)["code"] == 0
    finally:
        boxed.kill()


def test_nothing_of_a_probe_is_left(folder: Path) -> None:
    probe_machine(folder)
    assert list(folder.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_no_sandbox() -> None:
    found = probe_machine(Path("/proc"))
    assert found.way == "none" and "no sample of files" in found.why


def test_a_runner_probes_and_goes_on(folder: Path) -> None:
    async def work() -> tuple[Probe, Probe, int | None]:
        helper = launch.launch_helper(best="landlock")
        runner = ProcessRunner(folder / "outputs", env=os.environ, helper=helper)
        first, second = await asyncio.gather(runner.probe(folder), runner.probe())
        task = await runner.start("true", cwd=folder)
        result = await task.wait(30)
        assert await runner.close()
        return first, second, result.code if result else None

    first, second, code = asyncio.run(work())
    assert first.way == second.way != "namespaces" and code == 0


def test_a_box_works_again_after_the_helper_was_killed(folder: Path) -> None:
    if probe_machine().way != "namespaces":
        pytest.skip("no namespaces")
    boxed = Boxed(folder)
    try:
        assert boxed.run("echo x > $OUT/file")["changed"] == []
        helper = int(boxed.run("echo $HELPER", boxed=False)["output"])
        os.kill(helper, 9)
        answers = [boxed.run("echo x > $OUT/file; echo done") for _ in range(3)]
        assert answers[-1].get("output", "").endswith("done\n")
        assert all(answer["changed"] == [] for answer in answers)
    finally:
        boxed.kill()

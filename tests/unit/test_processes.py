"""The process runner against real commands: what they leave behind, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.workspace.helper_wire import Frames, pack
from kimi_cli.workspace.launch import launch_helper
from kimi_cli.workspace.processes import ProcessRunner
from kimi_cli.workspace.tasks import Command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

HANG = 30.0

DAEMON = """
import os, sys, time
if os.fork(): sys.exit()
os.setsid()
if os.fork(): os._exit(0)
os.close(1); os.close(2)
time.sleep(1000)
"""

# A chain of processes, each forking the next and ending at once; it ends by itself.
CHAIN = """
import os, time
for _ in range(4000):
    if os.fork():
        os._exit(0)
    {each}
time.sleep(1000)
"""


class Box:
    """A runner whose commands carry a mark by which /proc tells what is left of them."""

    def __init__(self, folder: Path, *, groups: bool = False, limit: int = 1 << 30) -> None:
        self.mark = f"KIMI_MARK={uuid.uuid4()}"
        self.cwd = folder
        name, _, value = self.mark.partition("=")
        self.runner = ProcessRunner(
            folder / "outputs",
            env=os.environ | {name: value, "KIMI_API_KEY": "secret"},
            helper=launch_helper(groups=groups),
            output_limit=limit,
        )

    @property
    def helper(self) -> int:
        return self.runner._helper.process.pid

    async def start(self, command: str) -> Command:
        return await asyncio.wait_for(self.runner.start(command, cwd=self.cwd), HANG)

    async def done(self, command: str) -> Command:
        task = await self.start(command)
        assert await task.wait(HANG) is not None
        return task

    def sleepers(self) -> int:
        return sum(line.startswith("sleep ") for line in self.left())

    def left(self) -> list[str]:
        return marked(self.mark)


def marked(mark: str) -> list[str]:
    """The command lines of all living processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def below(root: int) -> set[int]:
    """The descendants of a process, supervisors and processes that wait for a command included."""
    parents = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def states(mark: str) -> list[str]:
    """/proc/PID/status of every process with the mark."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "status").read_text())
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Poll until the condition holds; the deadline only ends a hang."""
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def boxed(folder: Path, *, groups: bool = False, limit: int = 1 << 30) -> AsyncIterator[Box]:
    box = Box(folder, groups=groups, limit=limit)
    try:
        yield box
    finally:
        family = below(box.helper)
        await box.runner.close(0.1, HANG)
    assert box.left() == []
    await until(lambda: not any(Path(f"/proc/{pid}/fd/0").exists() for pid in family))


def python(folder: Path, source: str) -> str:
    """A command line that runs the Python source."""
    path = folder / f"{uuid.uuid4()}.py"
    path.write_text(textwrap.dedent(source))
    return f"{sys.executable} -I -S {path}"


@given(
    st.lists(st.tuples(st.text(), st.binary(), st.integers(), st.lists(st.text()))),
    st.integers(1, 40),
)
def test_frames_survive_any_cut(messages: list[tuple[object, ...]], size: int) -> None:
    stream = b"".join(pack(*message) for message in messages)
    frames = Frames()
    out = []
    for at in range(0, len(stream), size):
        out += frames.feed(stream[at : at + size])
    assert out == messages


def test_helper_loads_little() -> None:
    folder = Path(__file__).parents[2] / "kimi_cli" / "workspace"
    code = f"import sys; sys.path.append({str(folder)!r}); import helper; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, check=True)
    loaded = set(out.stdout.decode().split())
    assert "helper_supervisor" in loaded
    assert not loaded & {"typing", "json", "re", "socket", "subprocess", "threading", "kimi_cli"}


def test_helper_starts_without_a_loop_in_its_own_session(tmp_path: Path) -> None:
    runner = ProcessRunner(tmp_path, env={})
    pid = runner._helper.process.pid
    assert os.getsid(pid) == pid != os.getsid(0)
    assert runner.kill_now(HANG)
    assert runner._helper.process.returncode == 0
    assert ProcessRunner.limits_note() is None


def test_exit_status(tmp_path: Path) -> None:
    cases = {
        "true": (0, None),
        "exit 7": (7, None),
        "kill -SEGV $$": (None, signal.SIGSEGV),
        "kill -KILL $$": (None, signal.SIGKILL),
        "no-such-command-here": (127, None),
        "if then": (2, None),
        "sh -c 'kill -TERM $$'; exit 3": (3, None),
    }

    async def main() -> None:
        async with boxed(tmp_path) as box:
            for command, expected in cases.items():
                result = (await box.done(command)).result
                assert result is not None
                assert (result.code, result.signal) == expected, command
                assert (result.reason, result.survivors) == ("", ())

    asyncio.run(main())


def test_output_is_one_ordered_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            task = await box.done("for i in 1 2 3; do echo out$i; echo err$i >&2; done")
            assert task.output_path.read_text() == "out1\nerr1\nout2\nerr2\nout3\nerr3\n"
            task = await box.done(r"printf '\377\0\001'; cat")
            assert task.output_path.read_bytes() == b"\xff\0\1"

    asyncio.run(main())


def test_commands_start_clean(tmp_path: Path) -> None:
    """No ignored or blocked signal, no foreign descriptor, no secret, nobody to ask."""
    script = """
        import os
        status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
        print(int(status["SigIgn"], 16) & ~(1 << 12 | 1 << 24), int(status["SigBlk"], 16))
        print(sorted(int(n) for n in os.listdir("/proc/self/fd"))[:4])
        print(os.readlink("/proc/self/fd/0"), os.getcwd() == os.environ["PWD"])
        print(os.getsid(0) == os.getpgrp(), os.environ["PAGER"], os.environ["GIT_EDITOR"])
        print("KIMI_API_KEY" in os.environ, "MOONSHOT_API_KEY" in os.environ)
    """

    async def main() -> None:
        async with boxed(tmp_path) as box:
            os.umask(umask := os.umask(0o027))
            task = await box.done(f"umask; {python(tmp_path, script)}")
            assert task.output_path.read_text().splitlines() == [
                f"{umask:04o}",
                "0 0",  # Python itself ignores SIGPIPE and SIGXFSZ, masked out here
                "[0, 1, 2, 3]",  # 3 is the listing itself
                "/dev/null True",
                "True cat true",
                "False False",
            ]
            task = await box.runner.start("echo $PWD $A", cwd=Path("/"), env={"A": "é"})
            await task.wait(HANG)
            assert task.output_path.read_text() == "/ é\n"

    asyncio.run(main())


@pytest.mark.parametrize("groups", [False, True])
def test_child_that_holds_the_output_does_not_hold_the_command(
    tmp_path: Path, groups: bool
) -> None:
    async def main() -> None:
        async with boxed(tmp_path, groups=groups) as box:
            task = await box.done("sleep 1000 & nohup sleep 1001 & echo hi")
            assert task.output_path.read_text().startswith("hi\n")
            result = task.result
            assert result is not None
            assert result.code == 0
            survivors = [line.split(" ", 1)[1] for line in result.survivors]
            assert sorted(survivors) == ["sleep 1000", "sleep 1001"]
            assert box.runner.task(task.id) is task
            stopped = await task.stop(0.2)
            assert (stopped.code, stopped.survivors, stopped.reason) == (0, (), "")
            assert box.left() == []

    asyncio.run(main())


def test_what_ends_at_once_is_no_survivor(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            task = await box.done("echo x > >(cat; echo y)")
            assert task.output_path.read_text() == "x\ny\n"
            assert task.result is not None
            assert task.result.survivors == ()
            task = await box.done("mkfifo go; cat go & echo")
            assert task.result is not None
            assert len(task.result.survivors) == 1
            (tmp_path / "go").write_text("")
            await until(lambda: task.result is not None and task.result.survivors == ())
            assert box.runner.task(task.id) is None

    asyncio.run(main())


@pytest.mark.parametrize("how", ["stop", "close", "kill_now"])
def test_nothing_survives(tmp_path: Path, how: str) -> None:
    commands = [
        "sleep 1000 & sleep 1000",
        "setsid sleep 1000 & setsid setsid sleep 1000 & wait",
        f"{python(tmp_path, DAEMON)}; sleep 1000",
        "nohup sleep 1000 & wait",
        "trap '' TERM; sleep 1000; sleep 1000; sleep 1000",
        python(tmp_path, "import signal\nwhile True: signal.pause()"),
        python(tmp_path, "import os, signal, time\nos.kill(os.getpid(), signal.SIGSTOP)"),
        "(setsid sh -c \"trap '' TERM; sleep 1000; sleep 1000\" & sleep 1000) | cat",
    ]

    async def main() -> None:
        async with boxed(tmp_path) as box:
            tasks = [await box.start(command) for command in commands]
            await until(lambda: box.sleepers() == 9 and " ".join(box.left()).count(".py") >= 3)
            if how == "stop":
                for result in await asyncio.gather(*(task.stop(0.2) for task in tasks)):
                    assert (result.code, result.reason, result.survivors) == (None, "stopped", ())
            elif how == "close":
                assert await box.runner.close(0.2, HANG)
                assert [task.result is not None and task.result.reason for task in tasks] == [
                    "stopped"
                ] * len(tasks)
            else:
                assert box.runner.kill_now(HANG)
            assert box.left() == []

    asyncio.run(main())


def test_term_is_heard_before_kill(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            task = await box.start("trap 'echo bye; exit 4' TERM; echo up; sleep 1000 & wait")
            await until(lambda: "up" in task.output_path.read_text())
            result = await task.stop(HANG)
            assert (result.code, result.reason) == (None, "stopped")
            assert task.output_path.read_text() == "up\nbye\n"

    asyncio.run(main())


def test_a_halted_command_hears_term_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            task = await box.start("kill -STOP $$; echo never")
            halted = "State:\tT"
            await until(lambda: any(halted in state for state in states(box.mark)))
            assert (await task.stop(HANG)).signal == signal.SIGTERM

    asyncio.run(main())


def test_supervisors_hold_nothing_of_each_other(tmp_path: Path) -> None:
    """A copy of a pipe would keep its reader from seeing that the other end is gone."""

    async def main() -> None:
        async with boxed(tmp_path) as box:
            tasks = [await box.start("echo $PPID; sleep 1000") for _ in range(5)]
            await until(lambda: all(task.output_path.stat().st_size for task in tasks))
            counts = {len(os.listdir(f"/proc/{int(t.output_path.read_text())}/fd")) for t in tasks}
            assert len(counts) == 1

    asyncio.run(main())


@pytest.mark.parametrize("each", ["pass", "os.setsid() if _ % 7 == 0 else None"])
def test_forking_does_not_outrun_the_sweep(tmp_path: Path, each: str) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            task = await box.start(python(tmp_path, CHAIN.format(each=each)))
            storm = await box.start(
                "f() { for i in 1 2 3 4 5; do sleep 1000 & (sleep 1000 &) done; }; "
                "for j in 1 2 3 4 5 6; do f & done; wait"
            )
            await until(lambda: len(box.left()) > 5)
            await task.stop(0.0)
            await storm.stop(0.0)
            assert box.left() == []

    asyncio.run(main())


PARENT = """
import asyncio, os, sys, time
from pathlib import Path
from kimi_cli.workspace.processes import ProcessRunner

async def main():
    runner = ProcessRunner(Path(sys.argv[1]), env=os.environ)
    for command in sys.argv[2:]:
        await runner.start(command, cwd=Path("/"))
    print(runner._helper.process.pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("also_helper", [False, True])
def test_sigkill_of_the_parent_leaves_nothing(tmp_path: Path, also_helper: bool) -> None:
    mark = f"KIMI_MARK={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    root = str(Path(__file__).parents[2])
    env = os.environ | {name: value, "PYTHONPATH": root}
    commands = [
        "trap '' TERM; setsid sleep 1000 & sleep 1000; sleep 1000",
        f"{python(tmp_path, DAEMON)}",
        "sleep 1000 & echo",
    ]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "outputs"), *commands],
        stdout=subprocess.PIPE,
        env=env,
    )
    with parent:
        assert parent.stdout is not None
        helper = int(parent.stdout.readline())
        asyncio.run(until(lambda: sum(line.startswith("sleep 1000") for line in marked(mark)) == 3))
        parent.kill()
        if also_helper:
            os.kill(helper, signal.SIGKILL)
    asyncio.run(until(lambda: marked(mark) == []))


def test_sigkill_of_the_helper_is_survived(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            task = await box.start("trap '' TERM; setsid sleep 1000 & sleep 1000; sleep 1000")
            task.to_background()
            other = await box.done("sleep 1000 & echo")
            await until(lambda: box.sleepers() == 3)
            os.kill(box.helper, signal.SIGKILL)
            result = await task.wait(HANG)
            assert result is not None
            assert (result.code, result.signal, result.reason) == (None, None, "lost")
            assert other.result is not None
            assert other.result.code == 0
            assert await task.stop() == result
            await until(lambda: box.left() == [])
            assert (await box.done("echo again")).output_path.read_text() == "again\n"
            assert list(box.runner.tasks()) == [task]

    asyncio.run(main())


def test_sigkill_of_a_supervisor_loses_its_command_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            other = await box.start("sleep 1001")
            task = await box.start("echo $PPID; setsid sleep 1000 & sleep 1000; sleep 1000")
            await until(lambda: box.sleepers() == 3)
            os.kill(int(task.output_path.read_text()), signal.SIGKILL)
            result = await task.wait(HANG)
            assert result is not None
            assert (result.code, result.reason) == (None, "lost")
            assert other.result is None
            assert [line.split()[0] for line in box.left()] == ["sleep"]

    asyncio.run(main())


def test_command_dies_with_all_its_watchers(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            task = await box.start("echo $PPID; exec sleep 1000")
            await until(lambda: box.sleepers() == 1)
            # Halted first, so that it can't do the supervisor's work.
            os.kill(box.helper, signal.SIGSTOP)
            os.kill(int(task.output_path.read_text()), signal.SIGKILL)
            os.kill(box.helper, signal.SIGKILL)
            await until(lambda: box.left() == [])

    asyncio.run(main())


def test_model_can_not_end_the_helper_by_a_signal_to_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            task = await box.done("kill -TERM $PPID; kill -HUP $PPID; kill -INT $PPID; echo on")
            assert task.output_path.read_text() == "on\n"
            os.kill(box.helper, signal.SIGTERM)
            await box.done("true")

    asyncio.run(main())


@pytest.mark.parametrize("size", [90_000, 140_000, 3_000_000])
def test_command_of_any_length(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            task = await box.done(f"cat > copy <<'END'\n{'é' * (size // 2)}\nEND\nexit 5")
            assert task.result is not None
            assert task.result.code == 5
            assert (tmp_path / "copy").stat().st_size == size + 1
            await until(lambda: not list((tmp_path / "outputs").glob("*.sh")))

    asyncio.run(main())


def test_what_can_not_be_started_is_an_oserror(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            with pytest.raises(FileNotFoundError) as caught:
                await box.runner.start("true", cwd=tmp_path / "gone")
            assert caught.value.filename == str(tmp_path / "gone")
            with pytest.raises(NotADirectoryError):
                (tmp_path / "file").touch()
                await box.runner.start("true", cwd=tmp_path / "file")
            for bad in ("echo \0", "echo \ud800"):
                with pytest.raises(OSError):
                    await box.start(bad)
            with pytest.raises(OSError, match="Argument list too long"):
                await box.runner.start("true", cwd=tmp_path, env={"BIG": "x" * 200_000})
            assert list((tmp_path / "outputs").iterdir()) == []
            assert (await box.done("echo fine")).output_path.read_text() == "fine\n"

    asyncio.run(main())


def test_many_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            tasks = await asyncio.gather(*(box.done(f"echo {n}; exit {n}") for n in range(60)))
            assert [task.result and task.result.code for task in tasks] == list(range(60))
            assert [task.output_path.read_text() for task in tasks] == [f"{n}\n" for n in range(60)]
            assert len({task.id for task in tasks}) == 60

    asyncio.run(main())


def test_two_runners_do_not_touch_each_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path / "a") as one, boxed(tmp_path / "b") as two:
            one.cwd = two.cwd = tmp_path
            kept = await two.start("setsid sleep 1000 & sleep 1000")
            await one.start("sleep 1000")
            assert await one.runner.close(0.1, HANG)
            assert one.left() == []
            assert kept.result is None
            assert len(two.left()) >= 1

    asyncio.run(main())


def test_waiting_can_be_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            task = await box.start("mkfifo go; echo ready; cat go; exit 3")
            waiting = asyncio.ensure_future(task.wait(None))
            await until(lambda: task.output_path.read_text() == "ready\n")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await task.wait(0.0) is None
            (tmp_path / "go").write_text("")
            result = await task.wait(HANG)
            assert result is not None
            assert result.code == 3

            starting = asyncio.ensure_future(box.runner.start("sleep 1000", cwd=tmp_path))
            await asyncio.sleep(0)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            await until(lambda: box.left() == [])

    asyncio.run(main())


def test_output_limit_stops_the_command(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path, limit=1 << 20) as box:
            task = await box.done("setsid yes & yes")
            assert task.result is not None
            assert (task.result.code, task.result.reason) == (None, "output limit")
            assert box.left() == []
            task = await box.done("mkfifo go; (cat go; exec yes) &")
            (tmp_path / "go").write_text("")
            await until(lambda: task.over)
            assert task.result is not None
            assert task.result.code == 0

    asyncio.run(main())


def test_run_a_program_of_our_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with boxed(tmp_path) as box:
            run = box.runner.run
            argv = ["sh", "-c", "echo out; echo err >&2; exit 4"]
            out = await run(argv, cwd=tmp_path, timeout=HANG, limit=100)
            assert out == (4, b"out\n", b"err\n")
            status, stdout, _ = await run(["yes"], cwd=tmp_path, timeout=HANG, limit=1000)
            assert (status, stdout) == (-signal.SIGKILL, b"y\n" * 500)
            with pytest.raises(FileNotFoundError):
                await run(["no-such-program"], cwd=tmp_path, timeout=HANG, limit=10)
            with pytest.raises(TimeoutError):
                await run(["sleep", "1000"], cwd=tmp_path, timeout=0.05, limit=10)
            running = asyncio.ensure_future(
                run(["sleep", "1000"], cwd=tmp_path, timeout=HANG, limit=10)
            )
            await until(lambda: any("sleep" in line for line in box.left()))
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert box.left() == []
            assert list((tmp_path / "outputs").iterdir()) == []

    asyncio.run(main())


def test_background_tasks_are_kept_others_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "outputs").mkdir()
        (tmp_path / "outputs" / "t41.txt").touch()
        async with boxed(tmp_path) as box:
            first = await box.runner.start("echo", cwd=tmp_path, background=True)
            assert first.id == "t42"
            await first.wait(HANG)
            second = await box.start("sleep 1000")
            assert list(box.runner.tasks()) == [first]
            second.to_background()
            assert list(box.runner.tasks()) == [first, second]
            gone = await box.done("true")
            await until(lambda: box.runner.task(gone.id) is None)
            await box.runner.close(0.1, HANG)
            assert second.result is not None
            assert second.result.reason == "stopped"
            with pytest.raises(OSError):
                await box.start("true")

    asyncio.run(main())


def test_unused_runner_closes(tmp_path: Path) -> None:
    async def main() -> None:
        box = Box(tmp_path)
        await box.runner.close(0.1, HANG)
        assert box.runner.kill_now(HANG)

    asyncio.run(main())


def test_no_ancestor_of_a_command_shows_a_key(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from kimi_cli.workspace.processes import ProcessRunner\n"
        "async def main():\n"
        f"    runner = ProcessRunner(Path({str(tmp_path)!r}), env=os.environ)\n"
        '    script = \'p=$PPID; while [ $p -ne %d ]; do cat /proc/$p/environ; p=$(cut -d" " -f4 '
        "/proc/$p/stat); done' % os.getpid()\n"
        "    task = await runner.start(script, cwd=Path('/'))\n"
        "    assert (await task.wait(20)).code == 0\n"
        "    print(task.output_path.read_bytes().count(b'=') > 3)\n"
        "    print(b'sk-very-secret' in task.output_path.read_bytes())\n"
        "    await runner.close()\n"
        "asyncio.run(main())\n"
    )
    env = {**os.environ, "KIMI_API_KEY": "sk-very-secret", "SHOWN": "yes"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "True\nFalse\n", done.stderr

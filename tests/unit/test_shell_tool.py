"""The shell tool over the real runner: what the model and the people at the screen get."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kimi_cli.protocol.sandbox import NOTHING, Grant
from kimi_cli.protocol.tools import Intent, ToolError, ToolOutput, schema_of
from kimi_cli.tools.shell import ShellParams, ShellTool
from kimi_cli.tools.shell_output import HEAD, TAIL, LiveTail, clean, excerpt
from kimi_cli.workspace.place import LocalWorkspace
from kimi_cli.workspace.processes import ProcessRunner

HANG = 30.0


@dataclass
class Context:
    workspace: LocalWorkspace
    call_id: str = "functions.shell:0"
    media_kinds: frozenset[str] = frozenset()
    shown: list[str] = field(default_factory=list)
    grant: Grant = NOTHING

    def progress(self, text: str) -> None:
        self.shown.append(text)

    async def shell(self, command: str = "", **more: Any) -> ToolOutput:
        params = ShellParams(command=command, **more)
        return await asyncio.wait_for(ShellTool().run(params, self), HANG)

    def living(self) -> list[str]:
        """The commands below this context's helper, by their parents in /proc."""
        parents: dict[int, int] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat") as file:
                        parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
                except OSError:
                    continue
        helper = self.workspace.processes._helper.process.pid
        found = []
        for pid in parents:
            above, chain = pid, set()
            while above in parents and above != helper:
                chain.add(above)
                above = parents[above]
            if above == helper and pid != helper:
                try:
                    with open(f"/proc/{pid}/cmdline") as file:
                        found.append(file.read().replace("\0", " ").strip())
                except OSError:
                    continue
        return [line for line in found if line.startswith("sleep ")]


@asynccontextmanager
async def context(root: Path) -> AsyncIterator[Context]:
    runner = ProcessRunner(root / ".outputs", env=os.environ)
    place = LocalWorkspace(root, outputs=root / ".outputs", blobs=None, runner=runner)
    try:
        yield Context(place)
    finally:
        assert await runner.close(0.1, HANG)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        await asyncio.sleep(0.01)


def outputs(root: Path) -> list[Path]:
    return sorted((root / ".outputs").iterdir())


def test_results(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            out = await ctx.shell("echo hi; echo there >&2")
            assert (out.text, out.failed, out.output_path) == ("hi\nthere\n", False, None)
            assert out.data == {"exit_code": 0, "task": None, "background": False}
            assert ctx.shown == ["hi\nthere\n"]
            out = await ctx.shell("true")
            assert out.text == "(no output)\n"
            out = await ctx.shell("printf x; exit 3")
            assert (out.text, out.failed) == ("x\n[exit status 3]\n", True)
            assert out.data["exit_code"] == 3
            assert out.display == "exit status 3"
            out = await ctx.shell("kill -SEGV $$")
            assert (out.text, out.failed) == ("(no output)\n[killed by SIGSEGV]\n", True)
            out = await ctx.shell("no-such-command")
            assert "not found" in out.text
            assert out.data["exit_code"] == 127
            out = await ctx.shell("cat; read x || echo closed; tty")
            assert out.text == "closed\nnot a tty\n[exit status 1]\n"
            out = await ctx.shell(r"printf '\033[31mred\033[0m \377\n10%%\r50%%\r100%%\n'")
            assert out.text == "red \ufffd\n100%\n"
            assert outputs(tmp_path) == []

    asyncio.run(main())


def test_working_folder(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "sub").mkdir()
        async with context(tmp_path) as ctx:
            assert (await ctx.shell("pwd")).text == f"{tmp_path}\n"
            assert (await ctx.shell("pwd", cwd="sub")).text == f"{tmp_path / 'sub'}\n"
            with pytest.raises(ToolError, match=r"not started: No such file or directory.*gone"):
                await ctx.shell("pwd", cwd="gone")
            with pytest.raises(ToolError, match="NUL"):
                await ctx.shell("echo \0")

    asyncio.run(main())


def test_long_output_is_cut_and_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            out = await ctx.shell("seq 1 200000; exit 1")
            path = tmp_path / ".outputs" / "t1.txt"
            assert out.output_path == str(path)
            assert path.read_text().count("\n") == 200_000
            lines = out.text.splitlines()
            assert lines[0] == "1"
            assert lines[-2:] == ["200000", "[exit status 1]"]
            note = next(i for i, line in enumerate(lines) if line.startswith("[... "))
            missing = int(lines[note + 1]) - int(lines[note - 1]) - 1
            assert f"[... {missing:,} lines (" in lines[note]
            assert str(path) in lines[note]
            assert HEAD + TAIL > len(out.text.encode()) - 300 > (HEAD + TAIL) * 0.9

    asyncio.run(main())


def memory(pid: int | str, key: str) -> int:
    """Kilobytes out of /proc/PID/status."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(key))


def forget_peak() -> int:
    """Make the peak of this process's memory its present memory, and return that."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("self", "VmRSS")


def test_100_mb_of_output_cost_no_memory(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            await ctx.shell("seq 1 300000")
            helper = ctx.workspace.processes._helper.process.pid
            before = forget_peak()
            command = "yes 0123456789abcde | head -c 100M; grep VmHWM /proc/$PPID/status"
            out = await ctx.shell(command)
            assert outputs(tmp_path)[-1].stat().st_size > 100 << 20
            supervisor = int(out.text.splitlines()[-1].split()[1])
            assert memory("self", "VmHWM") - before < 24_000
            assert memory(helper, "VmHWM") < 40_000
            assert supervisor < 40_000
            assert "6,55" in out.text
            assert sum(map(len, ctx.shown)) < 1 << 20

    asyncio.run(main())


def test_progress_shows_a_growing_output(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            running = asyncio.ensure_future(
                ctx.shell(r"mkfifo a b; printf '\033[1mon\303'; cat a; printf '\251e\n'; cat b")
            )
            await until(lambda: "on" in "".join(ctx.shown))
            (tmp_path / "a").write_text("")
            await until(lambda: "é" in "".join(ctx.shown))
            assert not running.done()
            (tmp_path / "b").write_text("end\n")
            out = await running
            assert "".join(ctx.shown) == out.text == "onée\nend\n"

    asyncio.run(main())


async def news(ctx: Context, task: str, mark: str) -> str:
    """Poll the task until its new output holds the mark; what was said of its state is cut."""
    text = ""
    deadline = time.monotonic() + HANG
    while mark not in text:
        assert time.monotonic() < deadline, text
        out = await ctx.shell(task=task, timeout=0.02)
        text += out.text.rpartition("[")[0].replace("(no new output)\n", "")
    return text


def test_timeout_moves_to_the_background(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            os.mkfifo(tmp_path / "a")
            out = await ctx.shell("cat a; echo one; cat a; exit 5", timeout=0.05)
            assert out.data == {"exit_code": None, "task": "t1", "background": True}
            assert not out.failed
            assert out.text.startswith("(no new output)\n[Still running after 0.05 s")
            assert 'task="t1"' in out.text
            assert [t.id for t in ctx.workspace.processes.tasks()] == ["t1"]
            out = await ctx.shell(task="t1")
            assert out.text.startswith("(no new output)\n[task t1 still runs")
            (tmp_path / "a").write_text("zero\n")
            assert await news(ctx, "t1", "one") == "zero\none\n"
            (tmp_path / "a").write_text("two\n")
            out = await ctx.shell(task="t1", timeout=HANG)
            assert out.text == "two\n[exit status 5]\n"
            assert (out.failed, out.data["exit_code"]) == (True, 5)
            out = await ctx.shell(task="t1")
            assert out.text == "(no new output)\n[exit status 5]\n"
            assert (tmp_path / ".outputs" / "t1.txt").exists()

    asyncio.run(main())


def test_a_character_cut_by_a_poll_is_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            os.mkfifo(tmp_path / "a")
            command = r"cat a; printf 'x\360\237'; cat a; printf '\230\200'"
            await ctx.shell(command, timeout=0.05)
            (tmp_path / "a").write_text("")
            assert await news(ctx, "t1", "x") == "x\n"
            size = (tmp_path / ".outputs" / "t1.txt").stat
            await until(lambda: size().st_size == 3)
            assert await news(ctx, "t1", "") == ""
            (tmp_path / "a").write_text("")
            assert (await ctx.shell(task="t1", timeout=HANG)).text == "😀\n"

    asyncio.run(main())


def test_background(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            out = await ctx.shell("no-such-command", background=True)
            assert out.failed
            assert out.data == {"exit_code": 127, "task": None, "background": False}
            out = await ctx.shell("echo up; sleep 1000", background=True)
            assert "[Running in the background as task t2." in out.text
            assert out.data == {"exit_code": None, "task": "t2", "background": True}
            await ctx.shell("true")
            with pytest.raises(ToolError, match=r"no task 't9'. The tasks are: t2."):
                await ctx.shell(task="t9")
            out = await ctx.shell(task="t2", stop=True)
            assert (out.text, out.failed) == ("(no new output)\n[stopped]\n", False)
            assert ctx.living() == []
            out = await ctx.shell(task="t2")
            assert out.text.endswith("[stopped]\n")

    asyncio.run(main())


def test_survivors_are_named_and_can_be_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            with pytest.raises(ToolError, match="no background tasks"):
                await ctx.shell(task="t1")
            out = await ctx.shell("setsid sleep 1001 & sleep 1000 & echo hi")
            assert out.text.startswith("hi\n[Left running as task t1, stop=true ends it: ")
            assert "sleep 1000" in out.text
            assert "sleep 1001" in out.text
            assert not out.failed
            assert len(ctx.living()) == 2
            out = await ctx.shell(task="t1", stop=True)
            assert not out.failed
            assert ctx.living() == []

    asyncio.run(main())


def test_cancelling_ends_the_command(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            running = asyncio.ensure_future(
                ctx.shell("trap '' TERM; setsid sleep 1000 & sleep 1001")
            )
            await until(lambda: len(ctx.living()) == 2)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            await until(lambda: ctx.living() == [])

    asyncio.run(main())


def test_cancelling_a_poll_leaves_the_task(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            await ctx.shell("sleep 1000", timeout=0.01)
            polling = asyncio.ensure_future(ctx.shell(task="t1", timeout=HANG))
            await until(lambda: len(ctx.living()) == 1)
            polling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await polling
            assert len(ctx.living()) == 1

    asyncio.run(main())


def test_contract(tmp_path: Path) -> None:
    async def main() -> None:
        async with context(tmp_path) as ctx:
            for wrong in ({}, {"command": "ls", "task": "t1"}, {"command": "ls", "stop": True}):
                with pytest.raises(ToolError, match="either command"):
                    await ctx.shell(**wrong)
            tool, place = ShellTool(), ctx.workspace
            params = ShellParams(command="make\nmake test")
            assert tool.intents(params, place) == [Intent("execute", "make\nmake test")]
            assert tool.intents(ShellParams(task="t1", stop=True), place) == []
            assert tool.summary(params) == "make …"
            assert tool.summary(ShellParams(command="x" * 300)) == "x" * 100 + " …"
            assert tool.summary(ShellParams(task="t1", stop=True)) == "stop t1"

    asyncio.run(main())
    with pytest.raises(ValidationError):
        ShellParams.model_validate({"cmd": "ls"})
    assert len(str(schema_of(ShellParams))) + len(ShellTool().description) < 1_000


def test_clean() -> None:
    cases = {
        "a\r\nb\r\n": "a\nb\n",
        "10%\r99%\r\n": "99%\n",
        "10%\r99%\r": "99%",
        "\x1b[1;31mx\x1b[0m\x1b[K\x1b(B": "x",
        "\x1b]0;title\x07x\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\": "xlink",
        "\x1b]52;never closed\nnext": "\nnext",
        "N\x08NA\x08A": "NA",
        "tab\there\0\x07": "tab\there",
        "\x9b31mx": "31mx",
        "\x1b": "",
    }
    assert {text: clean(text) for text in cases} == cases


@given(st.text(st.sampled_from("ab\r\n\x1b[]0;m\x07\\\x08é")))
def test_clean_leaves_nothing_a_terminal_would_obey(text: str) -> None:
    out = clean(text)
    assert not set(out) & {"\x1b", "\r", "\x07", "\x08"}
    assert clean(out) == out
    assert out.count("\n") <= text.count("\n")


@given(st.binary(max_size=80), st.lists(st.integers(0, 80)))
def test_polls_add_up_to_the_whole(raw: bytes, cuts: list[int]) -> None:
    """Reading a growing output piece by piece gives what reading it once gives."""
    path = Path(f"/dev/shm/kimi-test-{os.getpid()}")
    try:
        text, live, at = "", "", 0
        tail = LiveTail(path)
        for size in [*sorted(cuts), len(raw)]:
            path.write_bytes(raw[:size])
            part = excerpt(path, at, running=True)
            text += part.text
            at = part.end
            live += tail.news()
        text += excerpt(path, at, running=False).text
        live += tail.news(final=True)
        plain = raw.decode("utf-8", "replace")
        if not set(plain) & set("\r\x1b\x08"):
            assert text == live == clean(plain)
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "raw", [b"x" * 100_000, b"\n" * 100_000, "é漢".encode() * 30_000, b"ab\n" * 2_000_000]
)
def test_excerpt_holds_its_budget(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "out"
    path.write_bytes(raw)
    part = excerpt(path, 0, running=False)
    assert (part.cut, part.end) == (True, len(raw))
    assert len(part.text.encode()) < HEAD + TAIL + 300
    assert "left out; the whole output is in" in part.text
    head = part.text.split("[... ")[0].rstrip("\n")
    assert raw.startswith(head.encode())

"""Sessions recorded and run again in this process: what the replay makes of the odder ones."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.agent import Setup, open_session
from kimi_cli.agent.replay.check import Checked, Outcome, check, plan
from kimi_cli.agent.replay.recording import open_recording
from kimi_cli.agent.replay.scratch import ScratchError, scratch_copy
from kimi_cli.protocol.events import Compaction, SessionResumed
from kimi_cli.protocol.messages import TextPart, Usage
from kimi_cli.store.errors import SessionError
from kimi_cli.store.events_file import encode_event, read_events
from tests.e2e.conftest import git
from tests.e2e.test_replay_check import EDIT, digest, shell
from tests.support.recorded import Recorded
from tests.support.replies import Reply, text, tool_calls
from tests.support.server import Script, ScriptedServer

READ = ("read", {"path": "calc.py"})
CODE = "def add(a, b):\n    return a - b\n"


@dataclass
class Rig:
    """A project under git, and the sessions that are recorded in it."""

    tmp: Path
    work: Path
    shown: list[Checked] = field(default_factory=list)

    def record(
        self, script: Script | Sequence[Reply], *, cwd: Path | None = None, yolo: bool = True
    ) -> Path:
        """Run a turn; gives the session's folder."""

        async def turn(server: ScriptedServer) -> Path:
            flags = {"endpoint.base_url": server.base_url, "endpoint.api_key": "sk-test-key"}
            env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull}
            setup = Setup(
                env=env, home=self.tmp / "home", flags=flags, cwd=cwd or self.work, yolo=yolo
            )
            opened = await open_session(setup)
            async with opened.session as session:
                await session.run_turn("go")
            (folder,) = (self.tmp / "home" / "sessions").glob(f"*/{session.id}")
            return folder

        with ScriptedServer(script) as server:
            return asyncio.run(turn(server))

    def check(
        self,
        session: Path,
        project: Path,
        env: Mapping[str, str] | None = None,
        look: Callable[[Path], None] = lambda copy: None,
    ) -> Outcome:
        """Run it again against a project, which must stay as it is; ``look`` sees the copy."""
        before = digest(project)
        recorded = plan(open_recording(self.tmp / "home", str(session), project))
        with scratch_copy(project, recorded.name, keep=False) as scratch:
            given = scratch.environment({**os.environ, **(env or {})})
            outcome = asyncio.run(check(recorded, scratch, given, self.shown.append))
            look(scratch.root)
        assert not scratch.folder.exists()
        assert digest(project) == before
        return outcome

    @property
    def diffs(self) -> list[str]:
        return [line for one in self.shown for line in one.diff]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    (work / "calc.py").write_text(CODE)
    (work / "sub" / "x.txt").write_text("x\n")
    git(work, "init", "-q", "-b", "main")
    git(work, "add", ".")
    git(work, "commit", "-qm", "start")
    yield Rig(tmp_path, work)


@pytest.fixture
def pristine(rig: Rig) -> Path:
    return Path(shutil.copytree(rig.work, rig.tmp / "pristine", symlinks=True))


def test_an_exit_code_a_count_and_a_version_are_no_chance(rig: Rig) -> None:
    script = "echo 7 items v1.2.3\nexit 3\n"
    (rig.work / "run.sh").write_text(script)
    session = rig.record([tool_calls([shell("sh run.sh")]), text("ok")])
    assert rig.check(session, rig.work).as_recorded
    for old, new, said, says in (
        ("exit 3", "exit 4", "-[exit status 3]", "+[exit status 4]"),
        ("7 items", "8 items", "-7 items v1.2.3", "+8 items v1.2.3"),
        ("v1.2.3", "v1.2.4", "-7 items v1.2.3", "+7 items v1.2.4"),
    ):
        rig.shown.clear()
        (rig.work / "run.sh").write_text(script.replace(old, new))
        assert not rig.check(session, rig.work).as_recorded
        assert [line for line in rig.diffs[2:] if line[0] in "-+"] == [said, says]


def test_a_status_that_changed_is_a_difference(rig: Rig, pristine: Path) -> None:
    session = rig.record([tool_calls([shell("test -e calc.py && true")]), text("ok")])
    (pristine / "calc.py").unlink()
    assert not rig.check(session, pristine).as_recorded
    assert "-status: ok" in rig.diffs and "+status: error" in rig.diffs


def test_what_a_write_changes_is_compared_too(rig: Rig, pristine: Path) -> None:
    """Its text says only how many lines."""
    write = ("write", {"path": "calc.py", "content": "new\n"})
    session = rig.record([tool_calls([READ, shell("true")]), tool_calls([write]), text("ok")])
    assert rig.check(session, pristine).as_recorded
    (pristine / "calc.py").write_text(CODE.replace("a - b", "b - a"))
    assert not rig.check(session, pristine).as_recorded
    assert rig.shown[-1].diff and "--    return b - a" not in rig.shown[-1].diff
    assert "+-    return b - a" in rig.shown[-1].diff


def test_long_outputs_and_background_tasks(rig: Rig, pristine: Path) -> None:
    """What was named in the recording after it happened is found by its name of now."""

    def script(index: int, request: Recorded) -> Reply:
        results = [str(m["content"]) for m in request.messages if m["role"] == "tool"]
        if index == 0:
            return tool_calls([shell("seq 1 20000; echo $PWD")])
        if index == 1:
            path = results[0].partition("output is in ")[2].partition(" ...]")[0]
            read = ("read", {"path": path, "offset": -3})
            return tool_calls([read, shell(f"wc -l < {path}"), shell("sleep 60", background=True)])
        if index == 2:
            task = results[-1].partition('task="')[2].partition('"')[0]
            stop = ("shell", {"task": task, "stop": True})
            return tool_calls([stop, ("shell", {"task": "t99"})])
        return text("ok")

    session = rig.record(script)
    recorded = (session / "events.jsonl").read_text()
    assert "20001" in recorded and "[stopped]" in recorded
    outcome = rig.check(session, pristine)
    assert outcome.as_recorded, rig.diffs
    assert outcome.total == 6


def test_a_background_command_that_fails_now_is_a_difference(rig: Rig, pristine: Path) -> None:
    serve = shell("test -e calc.py && echo $RANDOM && sleep 60", background=True)
    session = rig.record([tool_calls([serve]), text("ok")])
    assert rig.check(session, pristine).as_recorded
    (pristine / "calc.py").unlink()
    assert not rig.check(session, pristine).as_recorded


@pytest.mark.skipif(not shutil.which("flock"), reason="there is no flock")
def test_a_former_process_took_its_background_commands_along(rig: Rig, pristine: Path) -> None:
    lock = shell("flock calc.py sleep 60", background=True)
    folder = rig.record([tool_calls([lock]), text("one")])
    second = rig.record([tool_calls([shell("flock -n calc.py true || echo busy")]), text("two")])
    # As `kimi -c` would have written them: one file.
    events = read_events(second).events
    lines = (folder / "events.jsonl").read_text() + "".join(
        json.dumps({**json.loads(encode_event(event)), "type": "session_resumed"}) + "\n"
        if event.type == "session_started"
        else encode_event(event).decode() + "\n"
        for event in events
    )
    (folder / "events.jsonl").write_text(lines)
    assert rig.check(folder, pristine).as_recorded, rig.diffs
    assert [one.turn for one in rig.shown] == [1, 2]


def test_the_copy_stands_for_the_whole_project(rig: Rig, pristine: Path) -> None:
    """The session worked in a folder of the project, and reached above it."""
    calls = [("read", {"path": "../calc.py"}), ("read", {"path": "x.txt"}), shell("pwd; ls ..")]
    session = rig.record([tool_calls(calls), text("ok")], cwd=rig.work / "sub")
    assert rig.check(session, pristine).as_recorded, rig.diffs
    with pytest.raises(ScratchError, match="worked in sub"):
        rig.check(session, pristine / "sub")
    # Beside the store nothing tells where the project began but the session itself.
    copy = rig.tmp / "copy.jsonl"
    lines = (session / "events.jsonl").read_text().splitlines(keepends=True)
    begun = {**json.loads(lines[0]), "root": str(rig.work)}
    copy.write_text("".join([json.dumps(begun) + "\n", *lines[1:]]))
    assert rig.check(copy, pristine).as_recorded


def test_git_in_the_copy_of_a_worktree_is_on_its_own(rig: Rig) -> None:
    commit = "git -c user.name=a -c user.email=b commit -am x && git branch made"
    calls = [EDIT, shell(commit), shell("git log --oneline; git worktree list | wc -l")]
    session = rig.record([tool_calls(calls), text("ok")])
    git(rig.work, "branch", "-D", "made")
    tree = rig.tmp / "tree"
    git(rig.work, "worktree", "add", "-q", str(tree), "HEAD~1", "-b", "main2")
    (tree / "untracked").touch()
    before = digest(rig.work / ".git")
    # As a hook would run it: git is told where the original is.
    git_dir = str(rig.work / ".git")
    env = {"GIT_DIR": git_dir, "GIT_INDEX_FILE": f"{git_dir}/index", "GIT_WORK_TREE": str(tree)}

    def look(copy: Path) -> None:
        assert (copy / ".git").is_dir() and (copy / "untracked").exists()
        assert (copy / ".git" / "refs" / "heads" / "made").exists()
        assert (copy / ".git" / "HEAD").read_text() == "ref: refs/heads/main2\n"

    rig.check(session, tree, env, look)
    # The name of the branch stands in what git commit says, and is the only difference.
    assert [x for x in rig.diffs if x[0] in "+-" and x[:3] not in ("+++", "---")] == [
        "-[main <commit>] x",
        "+[main2 <commit>] x",
    ]
    assert digest(rig.work / ".git") == before


def test_nothing_is_pushed(rig: Rig) -> None:
    remote = rig.tmp / "remote.git"
    git(rig.tmp, "init", "-q", "--bare", str(remote))
    git(rig.work, "remote", "add", "origin", str(remote))
    session = rig.record([tool_calls([shell("git push origin main")]), text("x")])
    git(remote, "update-ref", "-d", "refs/heads/main")
    assert not rig.check(session, rig.work).as_recorded
    assert any("does not appear to be a git repository" in line for line in rig.diffs)
    assert list((remote / "refs" / "heads").iterdir()) == []


def test_settings_have_no_part_in_it(rig: Rig, pristine: Path) -> None:
    """Budgets would end the turn before its time; a price for max_cost is not known."""
    session = rig.record([tool_calls([READ]), tool_calls([shell("ls .kimi")]), text("ok")])
    (pristine / ".kimi").mkdir()
    (pristine / ".kimi" / "config.toml").write_text("[budget]\nmax_steps = 1\nmax_cost = 0.1\n")
    env = {"KIMI_BUDGET__MAX_STEPS": "1", "KIMI_HOME": str(pristine / ".kimi")}
    outcome = rig.check(session, pristine, env)
    assert (outcome.count("same"), outcome.problems) == (1, [])
    assert "+config.toml" in rig.diffs


def test_files_outside_of_the_copy_are_not_written(
    rig: Rig, pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = rig.tmp / "outside.txt"
    calls = [("write", {"path": str(outside), "content": "x\n"}), READ]
    session = rig.record([tool_calls(calls), text("ok")])
    outside.unlink()
    (rig.tmp / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(rig.tmp / "tmp"))
    outcome = rig.check(session, pristine)
    assert outcome.as_recorded and outcome.total == 1
    assert [one.verdict for one in rig.shown] == ["not run", "same"]
    assert rig.shown[0].why.startswith("it writes outside of the copy: ")
    assert not outside.exists()


def test_denied_then_and_allowed_now_is_a_difference(rig: Rig, pristine: Path) -> None:
    """The call is still not run."""
    session = rig.record([tool_calls([READ, EDIT]), text("ok")], yolo=False)
    lines = [json.loads(line) for line in (session / "events.jsonl").open()]
    for line in lines:
        if line["type"] == "tool_result" and line["name"] == "edit":
            line.update(status="denied", parts=[{"type": "text", "text": "Denied: protected."}])
    (session / "events.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))

    def look(copy: Path) -> None:
        assert (copy / "calc.py").read_text() == CODE

    assert not rig.check(session, pristine, look=look).as_recorded
    assert rig.diffs == ["-denied: Denied: protected.", "+would be allowed"]


def test_a_recorded_compaction_is_not_made_again(rig: Rig, pristine: Path) -> None:
    """Its note is no answer of the turn, and a full window is none here."""
    session = rig.record([tool_calls([READ]), tool_calls([EDIT]), text("ok")])
    lines: list[bytes] = []
    for event in read_events(session).events:
        if event.type == "assistant_message":
            event.usage = Usage(input_tokens=10**7, output_tokens=10**6)
        lines.append(encode_event(event))
        if event.type == "tool_result":
            note = [TextPart(text="I was reading.")]
            made = Compaction(upto=3, note="I was reading.", pinned=list(note), turn=1, step=1)
            lines.append(encode_event(made))
    (session / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    outcome = rig.check(session, pristine)
    assert outcome.as_recorded and outcome.total == 2, (rig.diffs, outcome.problems)


def test_a_turn_that_goes_another_way_is_a_difference(rig: Rig, pristine: Path) -> None:
    """Six times the same result end a turn; in the recording it was another one each time."""
    again = tool_calls([shell("cat count; echo x >> count")])
    session = rig.record([*[again] * 7, text("ok")])
    (pristine / "count").mkdir()
    outcome = rig.check(session, pristine)
    assert not outcome.as_recorded
    (problem,) = outcome.problems
    assert problem.startswith("turn 1: ended 2 answers early: repeated_calls")
    assert (outcome.count("same"), outcome.total) == (0, 7)


def test_a_turn_that_goes_on_is_a_difference(rig: Rig, pristine: Path) -> None:
    session = rig.record([tool_calls([READ]), text("ok")])
    path = session / "events.jsonl"
    path.write_text(path.read_text().replace('"text":"ok"', '"text":""'))
    outcome = rig.check(session, pristine)
    assert outcome.problems == ["turn 1: goes on where the recorded one had ended"]
    assert not outcome.as_recorded


def test_calls_without_a_result_are_not_run(rig: Rig, pristine: Path) -> None:
    """The program was killed while the command ran."""
    session = rig.record([tool_calls([READ, shell("touch made")]), text("ok")])
    lines = (session / "events.jsonl").read_text().splitlines(keepends=True)
    at = next(n for n, x in enumerate(lines) if '"tool_result"' in x and '"shell"' in x)
    (session / "events.jsonl").write_text("".join(lines[:at]) + lines[at][:50])

    def look(copy: Path) -> None:
        assert not (copy / "made").exists()

    outcome = rig.check(session, pristine, look=look)
    assert outcome.as_recorded and outcome.total == 1
    assert [one.verdict for one in rig.shown] == ["same", "not run"]


def test_images_are_read_where_the_model_took_them(rig: Rig) -> None:
    """The provider of a replay has no model of its own that could say so."""
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
    (rig.work / "a.png").write_bytes(png)
    session = rig.record([tool_calls([("read", {"path": "a.png"})]), text("ok")])
    assert '"type":"media"' in (session / "events.jsonl").read_text()
    assert rig.check(session, rig.work).as_recorded, rig.diffs
    (rig.work / "a.png").write_bytes(png + b"\1")
    assert not rig.check(session, rig.work).as_recorded


def test_recordings_that_can_t_be_run_say_why(rig: Rig) -> None:
    session = rig.record([text("ok")])
    outcome = rig.check(session, rig.work)
    assert outcome.as_recorded and outcome.total == 0
    lines = (session / "events.jsonl").read_text().splitlines(keepends=True)
    moved = encode_event(SessionResumed(program="kimi", cwd="/moved")).decode()
    cases: list[tuple[list[Any], str]] = [
        (lines[1:], "has no beginning"),
        ([json.dumps({**json.loads(lines[0]), "cwd": "/"}) + "\n"], "worked in /"),
        (["x\n"], "holds no events"),
        ([*lines, moved + "\n"], "went on in another folder, /moved"),
    ]
    for content, why in cases:
        (session / "events.jsonl").write_text("".join(content))
        with pytest.raises(SessionError, match=why):
            rig.check(session, rig.work)

"""`kimi replay --check`: recorded sessions are run again against copies of their project."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.frontends.demo import RECORDING
from tests.support.program import Kimi, Run
from tests.support.recorded import Recorded
from tests.support.replies import CallSpec, Reply, text, tool_calls
from tests.support.server import ScriptedServer

pytestmark = pytest.mark.long

Serve = Callable[..., ScriptedServer]
OFFLINE = {
    "KIMI_API_KEY": None,
    "KIMI_BASE_URL": "http://127.0.0.1:9/v1",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}
VOLATILE = (
    "import os, sys, tempfile, time, uuid; "
    "print('started at', time.strftime('%Y-%m-%d %H:%M:%S'), 'pid', os.getpid()); "
    "print(tempfile.mkdtemp(), object(), uuid.uuid4(), f'took {time.process_time():.4f}s'); "
    "sys.exit(3)"
)
EDIT = ("edit", {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})


@pytest.fixture
def pristine(project: Path, tmp_path: Path) -> Path:
    """A copy of the project, made before anybody works in it, in another place."""
    return Path(shutil.copytree(project, tmp_path / "elsewhere" / "checkout", symlinks=True))


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    """The temporary folder of a check."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def shell(command: str, **more: Any) -> CallSpec:
    return ("shell", {"command": command, **more})


def record(kimi: Kimi, serve: Serve, replies: list[Reply], *args: str, code: int = 0) -> str:
    """Run a session against the scripted server; gives its id."""
    run = kimi("-p", "go", *args, server=serve(replies))
    assert run.code == code, run.err
    return kimi.sessions()[-1].name


def check(kimi: Kimi, session: str | Path, project: Path, *args: str, **options: Any) -> Run:
    """Check against `project`, from a place that is none; the project must stay as it was."""
    before = digest(project)
    options.setdefault("cwd", kimi.user_home)
    env = {**OFFLINE, **options.pop("env", {})}
    run = kimi("replay", str(session), "--check", "--project", project, *args, env=env, **options)
    assert digest(project) == before
    return run


def digest(folder: Path) -> dict[str, str]:
    """Every file, link and folder, with its mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = f"{path.lstat().st_mode:o} "
        if path.is_symlink():
            kind += os.readlink(path)
        elif path.is_file():
            kind += sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(folder))] = kind
    return found


def test_a_session_gives_the_same_results_in_another_place(
    kimi: Kimi, serve: Serve, project: Path, pristine: Path, temp: Path
) -> None:
    here = str(project)
    python = f'python -c "{VOLATILE}"'
    calls: list[list[CallSpec]] = [
        [("grep", {"pattern": "return", "path": here}), ("glob", {"pattern": "*"})],
        [("read", {"path": f"{here}/calc.py"}), ("read", {"path": "gone.py"})],
        [EDIT, shell(python), shell(f"cd {here} && pwd && ls -la && cat calc.py", cwd=here)],
        [("write", {"path": "new/run.sh", "content": f"#!/bin/sh\ncat {here}/README.md\n"})],
        [shell("sh new/run.sh; git add -A && git -c user.name=a -c user.email=b commit -m x")],
        [shell("git log --oneline && git status --short && date && echo $PWD")],
        [("todo", {"items": [{"text": "look"}]}), ("edit", {"path": "x", "edits": []})],
    ]
    session = record(kimi, serve, [*map(tool_calls, calls), text("Done.")], "--yolo")
    run = check(kimi, session, pristine, "--verbose", env={"TMPDIR": str(temp)})
    assert run.code == 0, run.out + run.err
    lines = run.out.splitlines()
    assert lines[-1].startswith("12 of 12 tool calls gave the recorded result")
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * 12
    assert lines[4] == "ok       turn 1 · edit calc.py"
    assert run.err == ""
    assert not list(temp.glob("kimi*"))


def test_a_change_in_the_project_is_a_difference(kimi: Kimi, serve: Serve, pristine: Path) -> None:
    calls: list[CallSpec] = [("read", {"path": "README.md"}), ("read", {"path": "calc.py"})]
    replies = [tool_calls(calls), tool_calls([EDIT]), text("Done.")]
    session = record(kimi, serve, replies)
    (pristine / "calc.py").write_text("def add(a, b):\n    # wrong\n    return a - b\n")
    run = check(kimi, session, pristine)
    assert run.code == 1, run.out + run.err
    # A terminal console expands the tabs.
    assert [" ".join(line.split()) for line in run.out.splitlines()[:10]] == [
        "DIFFERS turn 1 · read calc.py",
        "--- recorded",
        "+++ now",
        "@@ -1,4 +1,5 @@",
        "status: ok",
        "1 def add(a, b):",
        "-2 return a - b",
        "-[2 lines]",
        "+2 # wrong",
        "+3 return a - b",
    ]
    assert "\nDIFFERS  turn 1 · edit calc.py\n" in run.out
    assert run.out.splitlines()[-1].startswith("1 of 3 tool calls gave the recorded result")
    machine = check(kimi, session, pristine, "--json")
    assert (machine.code, machine.err) == (1, "")
    document = machine.json()
    rows = document.pop("calls")
    assert document == {
        "session_id": session, "as_recorded": False, "total": 3, "same": 1, "different": 2,
        "not_run": 0, "problems": [],
    }  # fmt: skip
    assert [(c["turn"], c["tool"], c["summary"], c["verdict"], c["why"]) for c in rows] == [
        (1, "read", "README.md", "same", ""),
        (1, "read", "calc.py", "different", ""),
        (1, "edit", "calc.py", "different", ""),
    ]
    assert not rows[0]["diff"] and "-2\treturn" in "\n".join(rows[1]["diff"]).replace(" ", "")


def test_a_check_without_differences_is_one_line(kimi: Kimi, serve: Serve, pristine: Path) -> None:
    session = record(kimi, serve, [tool_calls([EDIT]), text("Done.")])
    run = check(kimi, session, pristine)
    assert (run.code, run.err) == (0, "")
    (line,) = run.out.splitlines()
    assert line.startswith("1 of 1 tool call gave the recorded result")
    kept = check(kimi, session, pristine, "--json", "--keep")
    assert kept.code == 0 and kept.json()["as_recorded"] is True
    shutil.rmtree(Path(kept.err.removeprefix("kept: ").strip()).parent)


def test_denied_calls_are_denied_again(kimi: Kimi, serve: Serve, pristine: Path) -> None:
    calls = [
        shell("git clean -fdx"),
        ("read", {"path": ".env"}),
        ("read", {"path": "calc.py"}),
    ]
    session = record(kimi, serve, [tool_calls(calls), text("ok")])
    run = check(kimi, session, pristine, "--keep")
    assert run.code == 0, run.out
    assert run.out.splitlines()[-1].startswith("3 of 3 tool calls")
    copy = Path(run.err.removeprefix("kept: ").strip())
    assert digest(copy) == digest(pristine)
    shutil.rmtree(copy.parent)


def test_what_checks_said_is_said_again(kimi: Kimi, serve: Serve, pristine: Path) -> None:
    """Answers that --verify sent back belong to the same turn."""
    replies = [text("Done!"), tool_calls([("read", {"path": "calc.py"})]), text("Really?"),
               tool_calls([EDIT]), text("Done.")]  # fmt: skip
    session = record(kimi, serve, replies, "--verify", "grep -q 'a + b' calc.py")
    assert sum(e.get("origin") == "program" for e in kimi.stored()) == 2
    run = check(kimi, session, pristine)
    assert run.code == 0, run.out
    assert run.out.splitlines()[-1].startswith("2 of 2")


@pytest.mark.skipif(not shutil.which("flock"), reason="there is no flock")
def test_several_turns_of_several_processes(kimi: Kimi, serve: Serve, pristine: Path) -> None:
    """Turns follow each other; a command in the background ends with its process."""
    locked = "flock calc.py sleep 100"
    first = [tool_calls([shell(locked, background=True)]), tool_calls([EDIT]), text("one")]
    record(kimi, serve, first, "--yolo")
    second = [tool_calls([shell("flock -n calc.py cat calc.py || echo busy")]), text("two")]
    session = record(kimi, serve, second, "--yolo", "-c")
    assert "a + b" in json.dumps(kimi.stored()) and '"busy' not in json.dumps(kimi.stored())
    run = check(kimi, session, pristine, "-v")
    assert run.code == 0, run.out
    assert [line[9:15] for line in run.out.splitlines()[:-1]] == ["turn 1", "turn 1", "turn 2"]


def test_a_steering_message_keeps_its_place(kimi: Kimi, serve: Serve, pristine: Path) -> None:
    """It came after a final answer, and so the turn went on."""
    steered = threading.Event()
    replies = [text("Ready."), tool_calls([("read", {"path": "calc.py"})]), text("Looked.")]

    def script(index: int, request: Recorded) -> Reply:
        steered.wait(30)
        return replies[index]

    server = serve(script)
    running = kimi.start("--input-format", "stream-json", server=server, stdin=subprocess.PIPE)
    assert running.process.stdin
    with running.process.stdin as stdin:
        stdin.write(b'{"type": "user_message", "text": "start"}\n')
        stdin.flush()
        assert server.wait_until(lambda: bool(server.requests), 30)
        # The complaint about the second line shows that the first was taken.
        stdin.write(b'{"type": "steer", "text": "and look"}\nmark\n')
        stdin.flush()
        running.until(lambda: "not an operation" in running.err, "complaint")
        steered.set()
    run = running.end()
    assert run.code == 2, run.err  # For the line that was only a mark.
    origins = [e["origin"] for e in kimi.stored() if e["type"] == "user_message"]
    assert origins == ["user", "steer"]
    run = check(kimi, kimi.sessions()[-1], pristine, "-v")
    assert run.code == 0, run.out
    assert run.out.splitlines()[0] == "ok       turn 1 · read calc.py"


def test_an_interrupted_turn_ends_with_its_answers(
    kimi: Kimi, serve: Serve, pristine: Path
) -> None:
    calls = [("read", {"path": "calc.py"}), shell("touch begun; sleep 60"), shell("touch never")]
    server = serve([tool_calls([EDIT]), tool_calls(calls)])
    running = kimi.start("-p", "go", "--yolo", server=server)
    running.until(lambda: (kimi.cwd / "begun").exists(), "command")
    running.signal(signal.SIGINT)
    assert running.end().code == 130
    run = check(kimi, kimi.sessions()[-1], pristine, "--keep", "-v")
    assert run.code == 0, run.out
    lines = run.out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["ok", "ok", "-", "-"]
    assert lines[-1].startswith("2 of 2 tool calls gave the recorded result · 2 not run again")
    copy = Path(run.err.removeprefix("kept: ").strip())
    assert not (copy / "begun").exists() and "a + b" in (copy / "calc.py").read_text()
    shutil.rmtree(copy.parent)


def test_an_interrupted_check_cleans_up(
    kimi: Kimi, serve: Serve, project: Path, pristine: Path, temp: Path
) -> None:
    (project / "wait.sh").write_text("true\n")
    session = record(kimi, serve, [tool_calls([shell("sh wait.sh")]), text("ok")], "--yolo")
    (pristine / "wait.sh").write_text("echo $PWD > $TMPDIR/begun; sleep 60\n")
    running = kimi.start(
        *("replay", session, "--check", "--project", pristine),
        env={**OFFLINE, "TMPDIR": str(temp)},
        cwd=kimi.user_home,
    )
    running.until(lambda: (temp / "begun").exists(), "command")
    running.signal(signal.SIGINT)
    run = running.end(20)
    assert (run.code, run.err) == (130, "")
    assert [path.name for path in temp.iterdir()] == ["begun"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nosuchid", "--check"), "no session 'nosuchid'"),
        (("no/such/file", "--check"), "no/such/file is no session"),
        ((RECORDING, "--check", "--project", "README.md"), "is not a folder"),
        ((RECORDING, "--check", "--speed", "2"), "--speed"),
        ((RECORDING, "--keep"), "--check"),
        ((RECORDING, "--project", "."), "--check"),
        ((RECORDING, "--json"), "--json goes with --check"),
        ((RECORDING, "-v"), "--verbose goes with --check"),
    ],
)
def test_what_can_t_be_carried_out_ends_with_2(
    args: tuple[str, ...], said: str, kimi: Kimi
) -> None:
    run = kimi("replay", *args, env=OFFLINE)
    assert (run.code, run.out) == (2, "")
    assert said in run.err and len(run.err.splitlines()) == 1

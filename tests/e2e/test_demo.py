"""`kimi demo`: no key, no network, no assumptions, and a failure where the repair is none."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kimi_cli.frontends.demo import RECORDING
from tests.support.program import PROGRAM, Kimi

UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with nothing in it but git on PATH and an empty temporary folder: no HOME, no
    python, no key, no identity, and proxies that lead nowhere."""
    # A git in a temporary folder would not be trusted.
    tools = Path(tempfile.mkdtemp(prefix="kimi-demo-tools-", dir=Path.home()))
    for name in ("git", "bash", "sh"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    (tmp_path / "tmp").mkdir()
    yield {
        "PATH": str(tools),
        "TMPDIR": str(tmp_path / "tmp"),
        "HTTP_PROXY": UNREACHABLE,
        "HTTPS_PROXY": UNREACHABLE,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "LANG": "C.UTF-8",
    }
    shutil.rmtree(tools)


def demo(env: dict[str, str], *args: str, cwd: Path | None = None) -> tuple[int, str, str]:
    # Run by its interpreter: the bare PATH has none for a script to start with.
    run = subprocess.run(
        [sys.executable, str(PROGRAM), "demo", *args],
        env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return run.returncode, run.stdout, run.stderr


def test_demo_needs_nothing_and_leaves_nothing(bare: dict[str, str], tmp_path: Path) -> None:
    code, out, err = demo(bare, "--fast", cwd=tmp_path)
    assert (code, err) == (0, ""), out + err
    said = [
        "replies are recorded",
        "no model is called",
        "Everything else is real",
        "A test fails. First I want to see",  # thinking
        "● shell python -m unittest",
        "FAILED (failures=1)",
        "● edit cart.py · +1 -1",
        "+        for _ in set(self.coupons):",
        "● shell python -m unittest",
        "    OK\n",
        "Four tests, all green",
        "The change:\n    @@ ",
        "export KIMI_API_KEY=",
        'kimi -p "',
    ]
    rest = out
    for words in said:
        _, found, rest = rest.partition(words)
        assert found, words
    assert "\x1b" not in out
    assert list((tmp_path / "tmp").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp"]


def test_paced_demo_streams(bare: dict[str, str]) -> None:
    assert demo(bare)[0] == 0


def test_settings_of_the_user_have_no_part_in_it(kimi: Kimi) -> None:
    (kimi.home / "config.toml").write_text("this is [not toml")
    env = {"KIMI_BUDGET__MAX_STEPS": "1", "KIMI_BASE_URL": "http://127.0.0.1:9/v1"}
    run = kimi("demo", "--fast", env=env)
    assert run.code == 0, run.out + run.err
    assert not kimi.sessions()


def test_interrupted_demo_cleans_up(kimi: Kimi, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    running = kimi.start("demo", env={"TMPDIR": str(tmp_path / "tmp")})
    running.until(lambda: "python -m unittest" in running.out, "first command")
    running.signal(signal.SIGINT)
    assert running.end(10).code == 130
    assert list((tmp_path / "tmp").iterdir()) == []


def test_keep_keeps_the_project(bare: dict[str, str], tmp_path: Path) -> None:
    code, _, err = demo(bare, "--fast", "--keep")
    (folder,) = (tmp_path / "tmp").iterdir()
    assert code == 0
    assert f"kept: {folder}" in err
    assert "set(self.coupons)" in (folder / "project" / "cart.py").read_text()
    log = subprocess.run(
        ["git", "log", "--format=%an"], cwd=folder / "project", capture_output=True, text=True
    )
    assert log.stdout == "kimi demo\n"


@pytest.mark.parametrize("first", [".", "{cwd}"])
def test_git_is_not_one_that_lies_in_the_current_folder(
    bare: dict[str, str], tmp_path: Path, first: str
) -> None:
    here = Path(tempfile.mkdtemp(prefix="kimi-demo-here-", dir=Path.home()))
    try:
        (here / "git").write_text(f"#!/bin/sh\necho > {tmp_path}/ran\n")
        (here / "git").chmod(0o755)
        path = f"{first.format(cwd=here)}{os.pathsep}{bare['PATH']}"
        code, _, err = demo(bare | {"PATH": path}, "--fast", cwd=here)
        assert code == 2 and "any command can put a program" in err
        assert not (tmp_path / "ran").exists()
    finally:
        shutil.rmtree(here)


def test_without_git_it_says_so(bare: dict[str, str], tmp_path: Path) -> None:
    Path(bare["PATH"], "git").unlink()
    code, _, err = demo(bare, "--fast")
    assert code == 2
    assert "git" in err and len(err.splitlines()) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("what", ["an edit that repairs nothing", "tests never run red"])
def test_demo_fails_when_the_tests_did_not_turn_green(
    what: str, bare: dict[str, str], tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in RECORDING.read_text().splitlines()]
    for line in lines:
        for part in line.get("parts", []):
            if line["type"] != "assistant_message" or part["type"] != "tool_call":
                continue
            if what.startswith("an edit") and part["name"] == "edit":
                part["arguments"] = part["arguments"].replace("set(self", "list(self")
            elif what.startswith("tests") and part["name"] == "shell":
                part["arguments"] = '{"command": "true"}'
    copy = tmp_path / "session.jsonl"
    copy.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert copy.read_text() != RECORDING.read_text()
    code = (
        "import sys; from pathlib import Path; from kimi_cli.cli.demo import run_demo;"
        "sys.exit(run_demo(keep=False, pace=False, recording=Path(sys.argv[1])))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(copy)],
        env=bare, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 1, run.stdout + run.stderr
    assert "The demo failed" in run.stdout
    assert "export KIMI_API_KEY" not in run.stdout
    assert list((tmp_path / "tmp").iterdir()) == []

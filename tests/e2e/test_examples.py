"""Every example, run or linted: what stands in examples/ works as it stands there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from kimi_cli.cli.exit_codes import MEANINGS
from tests.e2e.conftest import git
from tests.e2e.helpers import last_text
from tests.support.program import PROGRAM, Kimi
from tests.support.replies import Reply, http_error, text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
EXAMPLES = Path(__file__).parents[2] / "examples"
FINDING = {"file": "calc.py", "line": 2, "severity": "error", "problem": "subtracts\n::x::"}
REVIEW = json.dumps({"findings": [FINDING]})
CLEAN = json.dumps({"findings": []})
EDIT = tool_calls([("edit", {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]})])
REPLAY = EXAMPLES / "replay-in-ci"
REPLAY_FILES = {
    f"replay-in-ci/{name}"
    for name in (
        *("README.md", "check.sh", "github-actions.yml", "session.jsonl"),
        *("project/units.py", "project/test_units.py"),
    )
}
SERVE_FILES = {
    f"serve/{name}"
    for name in ("README.md", "kimi-k2.5-lws.yaml", "kimi-k2-slurm.sh", "kimi-k2.5-skypilot.yaml")
}
# No bytecode: after an edit within a second to the same size Python would run the old one.
CHECK = "python -B check.py"


def test_every_example_is_here_and_in_the_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    files = {str(p.relative_to(EXAMPLES)) for p in EXAMPLES.rglob("*") if p.is_file()}
    files = {name for name in files if "__pycache__" not in name} - {"README.md"}
    assert files == {
        "embed.py",
        "ci/github-actions.yml",
        "ci/gitlab-ci.yml",
        "headless/review.sh",
        "headless/review.schema.json",
        "endpoint/config.toml",
        *REPLAY_FILES,
        *SERVE_FILES,
    }
    named = files - {"headless/review.schema.json"} - REPLAY_FILES - SERVE_FILES
    named |= {"replay-in-ci/README.md", "serve/README.md"}
    assert set(re.findall(r"\]\(([^)]+)\)", readme)) == named


def shell(
    script: str, kimi: Kimi, server: ScriptedServer | None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a CI step as the runner does, with the tests' interpreter as `python`."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=kimi.cwd, env={**kimi.environment(server), **(env or {})},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def lint(script: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    branches = re.findall(r"^\s*((?:\d+(?: \| )?)+)\)", script, re.M)
    codes = {int(code) for branch in branches for code in branch.split(" | ")}
    assert codes <= set(MEANINGS)


# embed.py


def test_embed(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([("read", {"path": "calc.py"})]), text("It adds.")])
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "embed.py"), "what", "is it?"],
        cwd=kimi.cwd, env=kimi.environment(server), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, "It adds.\n"), run.stderr
    assert run.stderr == "read calc.py: ok\n"
    assert last_text(server.requests[0].messages) == "what is it?"


# headless/review.sh


def review(kimi: Kimi, server: ScriptedServer, diff: str, *args: str) -> tuple[int, Any]:
    run = subprocess.run(
        [str(EXAMPLES / "headless" / "review.sh"), *args],
        cwd=kimi.cwd, env=kimi.environment(server), input=diff, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    return run.returncode, json.loads(run.stdout)


def test_review_script(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("I think it is wrong."), text(REVIEW)])
    diff = "--- a/calc.py\n+++ b/calc.py\n@@ -1 +1 @@\n-x\n+y\n"
    code, result = review(kimi, server, diff, "-m", "kimi-k2.6")
    assert (code, result["structured"]) == (0, json.loads(REVIEW))
    assert diff in last_text(server.requests[0].messages)
    assert server.requests[0].body["model"] == "kimi-k2.6"


def test_review_script_passes_the_exit_code_on(kimi: Kimi, serve: Serve) -> None:
    read = tool_calls([("read", {"path": "calc.py"})])
    code, result = review(kimi, serve([read]), "diff", "--max-steps", "1")
    assert (code, result["stop_reason"]) == (10, "step_limit")


# ci/github-actions.yml


@pytest.fixture
def pull_request(kimi: Kimi) -> str:
    """Two commits and the examples in place; gives the base commit."""
    (kimi.cwd / "examples").symlink_to(EXAMPLES)
    (kimi.cwd / "calc.py").write_text("def add(a, b):\n    return a + b\n")
    git(kimi.cwd, "commit", "-qam", "change")
    return "HEAD~1"


def github() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((EXAMPLES / "ci" / "github-actions.yml").read_text())
    return document


def github_step() -> str:
    steps = github()["jobs"]["review"]["steps"]
    (script,) = [step["run"] for step in steps if step.get("name") == "Review"]
    return str(script)


def test_github_workflow_is_sound() -> None:
    document = github()
    # YAML 1.1 reads the key `on` as true.
    assert document.pop(True) == "pull_request"  # type: ignore[call-overload]
    assert document["permissions"] == {"contents": "read"}
    job = document["jobs"]["review"]
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    for step in job["steps"]:
        script = step.get("run", "")
        lint(script)
        # An expression inside a script would be a hole for a title or branch name.
        assert "${{" not in script
        assert set(re.findall(r"\$([A-Z][A-Z_]+)", script)) <= set(step.get("env", {}))


@pytest.mark.parametrize(
    ("replies", "code", "said"),
    [
        ([text(CLEAN)], 0, ""),
        ([text(REVIEW)], 1, "::error file=calc.py,line=2::subtracts ::x::\n"),
        ([text("no"), text("no"), text("no")], 1, "kimi ended with exit code 1"),
        ([http_error(503)] * 20, 0, "::warning::no review: the model could not be reached"),
        ([http_error(401, "invalid_authentication_error")], 1, "the key is refused"),
    ],
)
def test_github_step(
    replies: list[Reply], code: int, said: str, kimi: Kimi, serve: Serve, pull_request: str
) -> None:
    server = serve(replies)
    run = shell(github_step(), kimi, server, {"BASE": pull_request})
    assert run.returncode == code, run.stdout + run.stderr
    assert said in run.stdout
    assert "+    return a + b" in last_text(server.requests[0].messages)


# ci/gitlab-ci.yml


def gitlab() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((EXAMPLES / "ci" / "gitlab-ci.yml").read_text())
    return document


def test_gitlab_job_is_sound() -> None:
    (job,) = gitlab().values()
    script = "\n".join(job["script"])
    lint(script)
    assert job["retry"] == {"max": 2, "exit_codes": [75]}
    assert job["allow_failure"]["exit_codes"] == [10, 11, 12, 13]
    assert set(job["retry"]["exit_codes"]) <= set(MEANINGS)
    for path in job["artifacts"]["paths"]:
        assert f"> {path}" in script


@pytest.mark.parametrize(
    ("replies", "code", "said"),
    [
        ([EDIT, text("Repaired.")], 0, "repaired: see repair.patch"),
        ([text("Done!")] * 5, 1, "the check still fails"),
        ([http_error(503)] * 20, 75, "GitLab tries again"),
    ],
)
def test_gitlab_job(replies: list[Reply], code: int, said: str, kimi: Kimi, serve: Serve) -> None:
    (kimi.cwd / "check.py").write_text("from calc import add\nassert add(2, 2) == 4\n")
    (job,) = gitlab().values()
    server = serve(replies)
    run = shell("\n".join(job["script"]), kimi, server, {"CHECK": CHECK})
    assert run.returncode == code, run.stdout + run.stderr
    assert said in run.stdout
    assert json.loads((kimi.cwd / "kimi.json").read_text())["exit_code"] == code
    patch = (kimi.cwd / "repair.patch").read_text()
    assert ("+    return a + b" in patch) == (code == 0)
    assert "kimi.json" not in patch


def test_gitlab_job_with_nothing_to_do(kimi: Kimi, serve: Serve) -> None:
    (job,) = gitlab().values()
    run = shell("\n".join(job["script"]), kimi, serve(), {"CHECK": "true"})
    assert (run.returncode, run.stdout) == (0, "green already, nothing to repair\n")


# endpoint/config.toml


def keys_of(table: Mapping[str, Any], *above: str) -> Iterator[str]:
    for name, value in table.items():
        path = (*above, f'"{name}"' if "." in name else name)
        if isinstance(value, dict):
            yield from keys_of(value, *path)
        else:
            yield ".".join(path)


def test_endpoint_config(kimi: Kimi, serve: Serve) -> None:
    config = (EXAMPLES / "endpoint" / "config.toml").read_text()
    (kimi.home / "config.toml").write_text(config)
    env = {"KIMI_API_KEY": None, "VLLM_API_KEY": "sk-of-the-server"}
    rows = kimi("config", "show", "--json", env=env).json()
    ours = {key: row["value"] for key, row in rows.items() if row["source"] == "user"}
    assert ours["endpoint.dialect"] == "vllm"
    assert ours.keys() - {"endpoint.api_key"} == set(keys_of(tomllib.loads(config)))
    server = serve([text("ok")], flavour="vllm", api_key="sk-of-the-server")
    run = kimi(
        "-p", "x", "--max-cost", "1", "--output-format", "json",
        env={**env, "KIMI_BASE_URL": server.base_url},
    )  # fmt: skip
    assert run.code == 0, run.err
    (request,) = server.requests
    assert request.body["model"] == "moonshotai/Kimi-K2.5"
    assert request.body["chat_template_kwargs"]["thinking"] is True
    assert request.headers["x-team"] == "compilers"
    assert run.json()["currency"] == "EUR"


def test_examples_find_the_program() -> None:
    assert os.access(EXAMPLES / "headless" / "review.sh", os.X_OK)
    assert PROGRAM.exists()


# replay-in-ci/


def replayed(kimi: Kimi, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {**kimi.environment(), "KIMI_BASE_URL": "http://127.0.0.1:9/v1"}
    del env["KIMI_API_KEY"]
    return subprocess.run(
        [str(folder / "check.sh")],
        cwd=kimi.cwd, env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_recorded_session_as_a_regression_test(kimi: Kimi) -> None:
    """It passes as it is; a change in the project shows as a diff."""
    recorded = (REPLAY / "session.jsonl").read_text()
    assert set(re.findall(r'"(/\w+)', recorded)) == {"/project"}
    folder = Path(shutil.copytree(REPLAY, kimi.user_home / "replay"))
    run = replayed(kimi, folder)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    last = run.stdout.splitlines()[-1]
    assert last.startswith("6 of 6 tool calls gave the recorded result")
    assert last.partition(" · ")[0] in (REPLAY / "README.md").read_text()
    units = folder / "project" / "units.py"
    units.write_text(units.read_text().replace("10**6", "2**20"))
    run = replayed(kimi, folder)
    assert run.returncode == 1
    assert "    -1500000\n    +1572864\n" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("4 of 6")


def test_replay_workflow(kimi: Kimi) -> None:
    document: dict[str, Any] = yaml.safe_load((REPLAY / "github-actions.yml").read_text())
    assert document["permissions"] == {"contents": "read"}
    (step,) = [s for s in document["jobs"]["replay"]["steps"] if s.get("name") == "Replay"]
    lint(step["run"])
    sessions = kimi.cwd / "tests" / "sessions"
    shutil.copytree(REPLAY / "project", sessions / "project")
    shutil.copy(REPLAY / "session.jsonl", sessions / "one.jsonl")
    assert shell(step["run"], kimi, None).returncode == 0
    (sessions / "project" / "units.py").unlink()
    assert shell(step["run"], kimi, None).returncode == 1

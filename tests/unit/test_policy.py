"""The policy until there is a sandbox: inside the workspace, and nothing else."""

from pathlib import Path

import pytest

from kimi_cli.protocol.tools import Intent
from kimi_cli.safety.policy import AllowAll, WorkspaceOnly


@pytest.fixture
def policy(tmp_path: Path) -> WorkspaceOnly:
    root = tmp_path / "work"
    (root / ".git").mkdir(parents=True)
    (tmp_path / "outputs").mkdir()
    (root / "way-out").symlink_to(tmp_path)
    return WorkspaceOnly(
        [root],
        readable=[tmp_path / "outputs", root / ".own/sessions/1"],
        protected=[".git", ".kimi"],
        private=[root / ".own"],
    )


@pytest.mark.parametrize(
    ("kind", "path", "verdict"),
    [
        ("read", "work/a.py", "allow"),
        ("write", "work/new/a.py", "allow"),
        ("read", "work/.git/config", "allow"),
        ("write", "work/.git/config", "ask"),
        ("write", "work/sub/.kimi/config.toml", "ask"),
        ("write", "work/.GIT/hooks/pre-commit", "ask"),
        ("read", "work/.own/config.toml", "ask"),
        ("write", "work/.own/trusted-folders", "ask"),
        ("read", "work/.own/sessions/1/outputs/1.txt", "allow"),
        ("write", "work/.own/sessions/1/outputs/1.txt", "ask"),
        ("read", "outputs/1.txt", "allow"),
        ("write", "outputs/1.txt", "ask"),
        ("read", "elsewhere", "ask"),
        ("read", "work/../elsewhere", "ask"),
        ("write", "work/way-out/elsewhere", "ask"),
        ("read", "workshop/a", "ask"),
    ],
)
def test_paths(policy: WorkspaceOnly, tmp_path: Path, kind: str, path: str, verdict: str) -> None:
    intent = Intent(kind, str(tmp_path / path))  # type: ignore[arg-type]
    assert policy.decide("tool", [intent]).verdict == verdict


def test_commands_ask_and_the_strictest_part_decides(policy: WorkspaceOnly, tmp_path: Path) -> None:
    fine = Intent("read", str(tmp_path / "work/a"))
    command = Intent("execute", "ls")
    assert policy.decide("shell", [fine, command]).verdict == "ask"
    assert "shell" in policy.decide("shell", [command]).reason
    assert policy.decide("shell", []).verdict == "allow"
    assert AllowAll().decide("shell", [command]).verdict == "allow"

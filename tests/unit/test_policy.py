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


def test_a_search_above_kimis_own_folder_asks(tmp_path: Path) -> None:
    (tmp_path / "home/.kimi-cli").mkdir(parents=True)
    policy = WorkspaceOnly([tmp_path / "home"], protected=[], private=[tmp_path / "home/.kimi-cli"])
    for folder, verdict in (("home", "ask"), ("home/code", "allow"), ("home/.kimi-cli/x", "ask")):
        assert policy.decide("grep", [Intent("read", str(tmp_path / folder))]).verdict == verdict


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        (".env", True),
        (".ENV.production", True),
        ("server.pem", True),
        ("id_ed25519", True),
        (".env.example", False),
        ("id_ed25519.pub", False),
        ("environment.py", False),
        ("keys.py", False),
    ],
)
def test_files_that_hold_secrets_by_custom_ask(
    policy: WorkspaceOnly, tmp_path: Path, name: str, secret: bool
) -> None:
    intent = Intent("read", str(tmp_path / "work" / name))
    assert policy.decide("read", [intent]).verdict == ("ask" if secret else "allow")


def test_the_search_tools_leave_the_same_files_out() -> None:
    from kimi_cli.safety.policy import SECRETS
    from kimi_cli.tools.ripgrep import WITHOUT_SECRETS

    assert {f"--glob=!{pattern}" for pattern in SECRETS} <= set(WITHOUT_SECRETS)

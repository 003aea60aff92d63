"""The policy of a session: places, rules and the sandbox in one decision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from kimi_cli.protocol.sandbox import Denial, Grant, SandboxState
from kimi_cli.protocol.tools import Intent
from kimi_cli.safety.places import SECRETS, Places
from kimi_cli.safety.rules import RuleSet
from kimi_cli.safety.session_policy import SessionPolicy
from kimi_cli.tools.ripgrep import WITHOUT_SECRETS

HELD = SandboxState("workspace-write", "namespaces")
READ_ONLY = SandboxState("read-only", "namespaces")
OFF = SandboxState("off", "none")
Make = Callable[..., SessionPolicy]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    root = tmp_path / "work"
    (root / ".git").mkdir(parents=True)
    (root / ".own").mkdir()
    for name in ("outputs", "temp", "secret"):
        (tmp_path / name).mkdir()
    (root / "way-out").symlink_to(tmp_path)

    def policy(
        sandbox: SandboxState = HELD, *, yolo: bool = False, keep: Any = None, **rules: list[str]
    ) -> SessionPolicy:
        held = sandbox.mode != "off"
        places = Places(
            [root],
            writable=[tmp_path / "temp"] if held else [],
            readable=[tmp_path / "outputs", root / ".own/sessions/1"],
            protected=[".git", ".kimi"],
            private=[root / ".own"],
            hidden=[tmp_path / "secret"] if held else None,
        )
        pairs: Any = {name: [(one, "here") for one in found] for name, found in rules.items()}
        return SessionPolicy(
            places,
            [root, tmp_path / "temp"],
            RuleSet.of(**pairs),
            project=root,
            home=tmp_path,
            sandbox=sandbox,
            keep=keep or (lambda rule: None),
            yolo=yolo,
        )

    return policy


PATHS = [
    # kind, path, in the sandbox, with --yolo, without a sandbox
    ("read", "work/a.py", "allow", "allow", "allow"),
    ("write", "work/new/a.py", "allow", "allow", "allow"),
    ("read", "work/.git/config", "allow", "allow", "allow"),
    ("write", "work/.git/config", "ask", "deny", "ask"),
    ("write", "work/sub/.kimi/config.toml", "ask", "deny", "ask"),
    ("write", "work/.GIT/hooks/pre-commit", "ask", "deny", "ask"),
    ("read", "work/.own/config.toml", "deny", "deny", "deny"),
    ("write", "work/.own/trusted-folders", "deny", "deny", "deny"),
    ("read", "work/.own/sessions/1/outputs/1.txt", "allow", "allow", "allow"),
    ("write", "work/.own/sessions/1/outputs/1.txt", "deny", "deny", "deny"),
    ("read", "outputs/1.txt", "allow", "allow", "allow"),
    ("write", "outputs/1.txt", "ask", "deny", "ask"),
    ("read", "elsewhere", "allow", "allow", "ask"),
    ("write", "work/way-out/elsewhere", "ask", "deny", "ask"),
    ("write", "temp/x", "allow", "allow", "ask"),
    ("read", "secret/key", "ask", "deny", "ask"),
    ("read", "workshop/../secret/key", "ask", "deny", "ask"),
    ("write", "work/../elsewhere", "ask", "deny", "ask"),
]


@pytest.mark.parametrize(("kind", "path", "held", "yolo", "off"), PATHS)
def test_paths(
    make: Make, tmp_path: Path, kind: Any, path: str, held: str, yolo: str, off: str
) -> None:
    intent = Intent(kind, str(tmp_path / path))
    assert make().decide("tool", [intent]).verdict == held
    assert make(yolo=True).decide("tool", [intent]).verdict == yolo
    assert make(OFF).decide("tool", [intent]).verdict == off
    # Without a sandbox --yolo allows all but what is kimi's own.
    free = make(OFF, yolo=True).decide("tool", [intent]).verdict
    assert free == ("deny" if off == "deny" else "allow")


@pytest.mark.parametrize("yolo", [False, True])
def test_a_session_that_only_reads(make: Make, tmp_path: Path, yolo: bool) -> None:
    policy = make(READ_ONLY, yolo=yolo, allow=["write"])
    for path in ("work/a", "temp/a", "elsewhere"):
        decision = policy.decide("write", [Intent("write", str(tmp_path / path))])
        assert decision.verdict == "deny" and "only reads" in decision.reason
    assert policy.decide("read", [Intent("read", str(tmp_path / "work/a"))]).verdict == "allow"


def test_the_strictest_part_decides(make: Make, tmp_path: Path) -> None:
    fine = Intent("read", str(tmp_path / "work/a"))
    bad = Intent("execute", "touch x")
    policy = make(deny=["shell(touch)"])
    assert policy.decide("shell", [fine]).verdict == "allow"
    assert policy.decide("shell", [fine, bad]).verdict == "deny"
    assert policy.decide("shell", [bad, fine]).verdict == "deny"
    assert policy.decide("shell", []).verdict == "allow"


def test_rules_for_paths(make: Make, tmp_path: Path) -> None:
    policy = make(
        allow=["write(~/notes/**)"], ask=["read(**/*.sql)"], deny=["write(docs)", "read(~/x)"]
    )

    def verdict(kind: Literal["read", "write"], path: str, policy: SessionPolicy = policy) -> str:
        return policy.decide("tool", [Intent(kind, str(tmp_path / path))]).verdict

    assert verdict("write", "notes/today.md") == "allow"
    assert verdict("write", "work/docs/a.md") == "deny"
    assert verdict("read", "work/db/a.sql") == "ask"
    assert verdict("read", "x") == "deny"
    assert verdict("write", "work/docs/a.md", make(yolo=True, deny=["write(docs)"])) == "deny"
    # A rule can't give away what is kimi's own.
    assert verdict("read", "work/.own/config.toml", make(allow=["read", "write"])) == "deny"


def test_commands(make: Make) -> None:
    def verdict(command: str, policy: SessionPolicy) -> str:
        return policy.decide("shell", [Intent("execute", command)]).verdict

    assert verdict("make all", make()) == "allow"
    assert verdict("make all", make(OFF)) == "ask"
    assert verdict("git status", make(OFF)) == "allow"
    assert verdict("make all", make(OFF, yolo=True)) == "allow"
    assert verdict("cat .env", make()) == "ask"
    assert verdict("python manage.py --env .env", make()) == "allow"
    assert verdict("cat .env", make(yolo=True)) == "allow"
    assert verdict("cat .env", make(allow=["shell(cat .env)"])) == "allow"
    assert verdict("echo 'never closed", make()) == "ask"


def test_what_a_rule_gives_and_what_an_answer_makes_of_it(make: Make) -> None:
    kept: list[str] = []
    policy = make(keep=kept.append)
    command = [Intent("execute", "cd sub && git push origin main")]
    assert policy.decide("shell", command).grant == Grant()
    wanted = policy.beyond(command, Denial("it has no network", Grant(network=True)))
    assert (wanted.verdict, wanted.grant) == ("ask", Grant(network=True))
    assert wanted.rule == "shell(git push) +network"
    [(start, end)] = wanted.marks
    assert command[0].target[start:end] == "git push origin main"
    policy.remember(wanted.rule, "session")
    assert kept == []
    assert policy.decide("shell", command).grant == Grant(network=True)
    assert policy.decide("shell", [Intent("execute", "git fetch")]).grant == Grant()
    policy.remember("shell(git fetch) +network", "project")
    assert kept == ["shell(git fetch) +network"]


def test_beyond_the_sandbox_is_never_given_without_a_question(make: Make) -> None:
    command = [Intent("execute", "git push && ./deploy")]
    denial = Denial("it has no network", Grant(network=True))
    asked = make().beyond(command, denial)
    assert asked.verdict == "ask" and asked.rule == ""
    refused = make(yolo=True).beyond(command, denial)
    assert refused.verdict == "deny" and "--yolo" in refused.reason
    assert make().beyond(command, Denial("kimi's own", None)).verdict == "deny"


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
    make: Make, tmp_path: Path, name: str, secret: bool
) -> None:
    intent = Intent("read", str(tmp_path / "work" / name))
    assert make().decide("read", [intent]).verdict == ("ask" if secret else "allow")


def test_patterns_of_the_user_s_name_secrets_too(tmp_path: Path) -> None:
    places = Places([tmp_path], secrets=["*.vault"])
    assert places.objection("read", tmp_path / "a.vault")
    assert not places.objection("read", tmp_path / "a.txt")


def test_a_search_above_kimis_own_folder_asks(tmp_path: Path) -> None:
    (tmp_path / "home/.kimi-cli").mkdir(parents=True)
    places = Places([tmp_path / "home"], private=[tmp_path / "home/.kimi-cli"])
    assert places.objection("read", tmp_path / "home")
    assert not places.objection("read", tmp_path / "home/code")
    found = places.objection("read", tmp_path / "home/.kimi-cli/x")
    assert found and found.never


def test_the_search_tools_leave_the_same_files_out() -> None:
    assert {f"--glob=!{pattern}" for pattern in SECRETS} <= set(WITHOUT_SECRETS)

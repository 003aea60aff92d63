"""`kimi login` and `kimi logout` for scripts: a key on stdin, tried, kept, used, forgotten."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.program import Kimi, Run
from tests.support.replies import http_error, text
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
KEY = "sk-of-my-own-server"
NO_KEY = {"KIMI_API_KEY": None}


def everywhere(folder: Path) -> bytes:
    """All that is kept in a folder, but for the keys."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.parent.name != "credentials"]
    return b"\n".join(path.read_bytes() for path in files)


def log_in(kimi: Kimi, server: ScriptedServer, *more: str, key: str = KEY) -> Run:
    args = ("login", "--base-url", server.base_url, "--model", "kimi-k2.6", *more)
    return kimi(*args, stdin=key + "\n", env=NO_KEY)


def test_a_key_is_tried_kept_and_used(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("hello"), text("done")], api_key=KEY)
    run = log_in(kimi, server)
    assert run.code == 0, run.err
    assert run.out.count("kept: ") == 2 and KEY not in run.out + run.err
    assert server.requests[0].body["model"] == "kimi-k2.6"
    assert server.requests[0].body["max_completion_tokens"] <= 64

    files = list((kimi.home / "credentials").iterdir())
    assert len(files) == 1 and stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert KEY.encode() not in everywhere(kimi.home)
    # Headless runs find endpoint, model and key, without any of them in the environment.
    run = kimi("-p", "hi", "--debug", env=NO_KEY)
    assert (run.code, run.out) == (0, "done\n"), run.err
    assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"
    assert KEY.encode() not in everywhere(kimi.home) and KEY not in run.err
    shown = kimi("config", "show", env=NO_KEY)
    assert f"# stored {files[0]}" in shown.out and KEY not in shown.out


def test_the_key_never_leaves_for_another_host(kimi: Kimi, serve: Serve) -> None:
    mine, other = serve([text("hello")], api_key=KEY), serve([text("done")], api_key=None)
    assert log_in(kimi, mine).code == 0
    run = kimi("-p", "hi", "--base-url", other.base_url, env=NO_KEY)
    assert run.code == 0
    for request in (*other.requests, *other.other_requests):
        assert "authorization" not in request.headers


def test_a_wrong_key_is_told_and_not_kept(kimi: Kimi, serve: Serve) -> None:
    server = serve([], api_key="sk-another")
    before = everywhere(kimi.home)
    run = log_in(kimi, server)
    assert run.code == 30
    assert "Invalid Authentication" in run.err and "Nothing was kept" in run.err
    assert KEY not in run.out + run.err
    assert everywhere(kimi.home) == before and not (kimi.home / "credentials").exists()

    assert log_in(kimi, server, "--no-test").code == 0
    assert (kimi.home / "credentials").exists()


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (http_error(404, "resource_not_found_error", "Not found the model kimi-k2.6"), 2),
        (http_error(429, "exceeded_current_quota_error", "no balance"), 31),
        (http_error(503, "server_error", "down"), 75),
    ],
)
def test_the_exit_code_says_what_is_wrong(
    kimi: Kimi, serve: Serve, reply: object, code: int
) -> None:
    server = serve([reply], api_key=KEY)
    run = log_in(kimi, server)
    assert run.code == code
    # Once: whoever waits for an answer wants to know at once.
    assert len(server.requests) == 1
    assert not (kimi.home / "credentials").exists()


def test_a_server_that_needs_no_key(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("hello"), text("done")], api_key=None)
    assert log_in(kimi, server, key="").code == 0
    assert not (kimi.home / "credentials").exists()
    assert kimi("-p", "hi", env=NO_KEY).out == "done\n"


@pytest.mark.parametrize(
    ("args", "stdin", "code", "words"),
    [
        (["--base-url", "nowhere"], KEY, 2, "--base-url"),
        (["--base-url", "http://127.0.0.1:9/v1"], f"{KEY}\nand more", 2, "key on stdin"),
        (["--base-url", "http://127.0.0.1:9/v1"], "schlüssel", 2, "key on stdin"),
        (["--base-url", "http://127.0.0.1:9/v1"], "k" * 20_000, 2, "more than a key"),
        (["--base-url", "http://127.0.0.1:9/v1"], KEY, 75, "connection refused"),
        ([], "", 30, "no key"),
    ],
)
def test_what_can_not_be_kept(
    kimi: Kimi, args: list[str], stdin: str, code: int, words: str
) -> None:
    run = kimi("login", *args, stdin=stdin, env=NO_KEY)
    assert run.code == code and words in run.err
    assert KEY not in run.err and "Traceback" not in run.err
    assert not (kimi.home / "credentials").exists()


def test_what_comes_before_a_kept_key_is_named(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("hello")], api_key=KEY)
    args = ("login", "--base-url", server.base_url, "--model", "kimi-k2.6")
    run = kimi(*args, stdin=KEY, env={"KIMI_API_KEY": "sk-in-force"})
    assert run.code == 0
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert "note: KIMI_API_KEY is set" in run.err


def test_a_home_that_can_not_be_written(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("hello")], api_key=KEY)
    (kimi.home / "credentials").write_text("in the way\n")
    run = log_in(kimi, server)
    assert run.code == 2 and str(kimi.home / "credentials") in run.err
    assert KEY not in run.err and "Traceback" not in run.err


def test_logout_removes_keys_and_says_which(kimi: Kimi, serve: Serve) -> None:
    assert "no key is kept" in kimi("logout", env=NO_KEY).out
    one, other = serve(api_key=KEY), serve(api_key=KEY)
    for server in (one, other):
        assert log_in(kimi, server, "--no-test").code == 0
    run = kimi("logout", "--base-url", one.base_url, env=NO_KEY)
    assert run.code == 0 and one.root_url in run.out and other.root_url not in run.out
    assert len(list((kimi.home / "credentials").iterdir())) == 1
    run = kimi("logout", env={"KIMI_API_KEY": "sk-in-force"})
    assert other.root_url in run.out
    assert "KIMI_API_KEY" in run.err and "sk-in-force" not in run.err
    assert list((kimi.home / "credentials").iterdir()) == []
    # Endpoint and model stay.
    assert f'base_url = "{other.base_url}"' in (kimi.home / "config.toml").read_text()


def test_a_missing_key_leads_to_login(kimi: Kimi) -> None:
    run = kimi("-p", "x", "--base-url", "https://api.moonshot.ai/v1", env=NO_KEY)
    assert run.code == 30 and "kimi login" in run.err


def test_scripts_load_no_terminal(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("hello")], api_key=KEY)
    env = {**NO_KEY, "PYTHONPROFILEIMPORTTIME": "1"}
    run = kimi("login", "--base-url", server.base_url, stdin=KEY, env=env)
    assert run.code == 0
    assert "kimi_cli.settings.login" in run.err and "prompt_toolkit" not in run.err


def test_a_declined_folder_is_listed_and_can_be_asked_about_again(kimi: Kimi) -> None:
    (kimi.home / "declined-folders").write_text(f'"{kimi.cwd}"\n')
    assert kimi("trust", "list").out == f"{kimi.cwd} (declined: not asked about again)\n"
    out = kimi("trust", "remove").out
    assert out == f"was not trusted: {kimi.cwd}; kimi asks about it again\n"
    assert kimi("trust").out == ""
    (kimi.home / "declined-folders").write_text(f'"{kimi.cwd}"\n')
    assert kimi("trust", "add").code == 0
    assert kimi("trust").out == f"{kimi.cwd}\n"

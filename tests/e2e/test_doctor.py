"""`kimi doctor`: each line against a real server, a broken one, and none."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Kimi, Run
from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error, leaked, text, tool_calls
from tests.support.server import ScriptedServer

pytestmark = pytest.mark.long

Serve = Callable[..., ScriptedServer]
CALL = ("look_up", {"number": 7})
NAMES = [
    *("settings", "home", "disk", "terminal", "git", "ripgrep", "sandbox", "tokenizer"),
    *("key", "endpoint", "model", "tool call"),
]


def checks(run: Run) -> dict[str, dict[str, Any]]:
    document = run.json()
    assert document["exit_code"] == run.code
    assert document["ok"] == (run.code == 0)
    assert [check["name"] for check in document["checks"]] == NAMES
    found = {check["name"]: check for check in document["checks"]}
    for check in found.values():
        assert check["detail"] and check["status"] in ("ok", "warn", "fail")
    return found


def statuses(run: Run) -> dict[str, str]:
    return {name: check["status"] for name, check in checks(run).items()}


def test_all_is_well(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([CALL], thinking="7"), text("It is Heron.")])
    run = kimi("doctor", server=server)
    assert run.code == 0, run.out
    lines = run.out.splitlines()
    assert [line[6:17].strip() for line in lines if line[:4] in ("ok  ", "warn")] == NAMES
    assert not any(line.startswith("fail") for line in lines)
    server.check()
    # The second request carries the call and its result.
    messages = server.requests[1].body["messages"]
    assert messages[-1]["role"] == "tool" and "heron" in messages[-1]["content"]
    assert messages[-2]["tool_calls"][0]["function"]["name"] == "look_up"
    assert "sk-test-key" not in run.out + run.err


def test_no_key_and_a_wrong_one(kimi: Kimi, serve: Serve) -> None:
    env = {"KIMI_API_KEY": None, "KIMI_BASE_URL": "https://api.moonshot.ai/v1"}
    env["HTTPS_PROXY"] = env["https_proxy"] = "http://127.0.0.1:9"
    run = kimi("doctor", "--json", env=env)
    assert run.code == 30
    found = checks(run)
    assert found["key"]["status"] == "fail" and "kimi login" in found["key"]["advice"]

    server = serve([])
    run = kimi("doctor", "--json", server=server, env={"KIMI_API_KEY": "sk-wrong-one"})
    assert run.code == 30
    found = checks(run)
    assert found["key"]["status"] == "fail" and found["endpoint"]["status"] == "ok"
    assert "sk-wrong-one" not in run.out + run.err
    assert server.requests == []


def test_a_model_that_is_not_there(kimi: Kimi, serve: Serve) -> None:
    server = serve([http_error(404, "resource_not_found_error", "Not found the model kimi-x")])
    run = kimi("doctor", "--json", server=server, env={"KIMI_MODEL": "kimi-x"})
    assert run.code == 2
    found = checks(run)
    assert found["model"]["status"] == "fail" and "kimi-k2.6" in found["model"]["advice"]
    assert found["tool call"]["status"] == "fail"


@pytest.mark.parametrize(
    ("script", "status", "code", "words"),
    [
        ([text("I would call look_up.")], "fail", 1, "tool-call-parser"),
        ([tool_calls([("look_up", {"number": "seven"})])], "fail", 1, "tool-call-parser"),
        ([tool_calls([("look_up", "{")])], "fail", 1, "tool-call-parser"),
        ([text(leaked([CALL])), text("heron")], "warn", 0, "tool-call-parser"),
        ([tool_calls([CALL]), text("I don't know.")], "warn", 0, ""),
        ([tool_calls([CALL]), http_error(503)], "fail", 75, "log"),
        ([http_error(429, "exceeded_current_quota_error", "no money")], "fail", 31, "Top it up"),
    ],
)
def test_the_tool_call(
    kimi: Kimi, serve: Serve, script: list[Reply], status: str, code: int, words: str
) -> None:
    server = serve(script, flavour="vllm", native_ids=None, strict=False)
    run = kimi("doctor", "--json", server=server)
    found = checks(run)["tool call"]
    assert (found["status"], run.code) == (status, code), found
    assert words in found["advice"]


def test_an_endpoint_without_a_list_of_models(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([CALL]), text("heron")], flavour="openai")
    server.overrides["GET /v1/models"] = http_error(404, "resource_not_found_error", "no page")
    run = kimi("doctor", "--json", server=server)
    assert run.code == 0
    found = statuses(run)
    assert (found["endpoint"], found["model"], found["tool call"]) == ("warn", "warn", "ok")


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never says a word."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in held:
        connection.close()


def test_a_dead_endpoint_does_not_hold_it_up(kimi: Kimi, silent: str) -> None:
    kimi.configure({"timeouts": {"connect": 1, "first_byte": 1}})
    run = kimi("doctor", "--json", env={"KIMI_BASE_URL": silent}, deadline=40)
    assert run.code == 75
    found = statuses(run)
    assert (found["endpoint"], found["model"], found["tool call"]) == ("fail", "warn", "warn")
    run = kimi("doctor", "--json", env={"KIMI_BASE_URL": "http://127.0.0.1:9/v1"})
    assert run.code == 75 and "refused" in checks(run)["endpoint"]["detail"]


def test_a_model_that_goes_silent(kimi: Kimi, serve: Serve) -> None:
    def script(index: int, request: Recorded) -> Reply:
        return text("x", stall_after="headers")

    kimi.configure({"timeouts": {"connect": 1, "first_byte": 1}})
    run = kimi("doctor", "--json", server=serve(script), deadline=40)
    assert run.code == 75
    assert checks(run)["tool call"]["status"] == "fail"


def test_settings_that_can_not_be_read(kimi: Kimi) -> None:
    (kimi.home / "config.toml").write_text("model = 3\n")
    run = kimi("doctor", "--json")
    assert run.code == 2
    found = {check["name"]: check for check in run.json()["checks"]}
    assert found["settings"]["status"] == "fail" and "line 1" in found["settings"]["detail"]
    assert found["endpoint"]["status"] == "warn"
    assert found["git"]["status"] == "ok"


def test_a_home_that_is_none(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    server = serve([tool_calls([CALL]), text("heron")])
    (tmp_path / "file").write_text("")
    for place in ("/proc/nowhere", str(tmp_path / "file" / "home"), str(tmp_path / "file")):
        run = kimi("doctor", "--json", server=server, env={"KIMI_HOME": place})
        assert run.code != 0 and place in run.out
        if place != str(tmp_path / "file"):
            assert run.code == 74 and checks(run)["home"]["status"] == "fail"


def test_programs_that_lack_or_hang(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    server = serve([tool_calls([CALL]), text("heron")] * 2)
    run = kimi("doctor", "--json", server=server, env={"PATH": str(folder)})
    git = checks(run)["git"]
    assert git["status"] == "warn" and "not on PATH" in git["detail"]
    (folder / "git").write_text("#!/bin/sh\nexec sleep 100\n")
    os.chmod(folder / "git", 0o755)
    env = {"PATH": f"{folder}:/usr/bin:/bin"}
    git = checks(kimi("doctor", "--json", server=server, env=env))["git"]
    assert git["status"] == "warn" and "does not answer" in git["detail"]


def test_a_sandbox_that_is_off_and_a_key_that_others_can_read(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([CALL]), text("heron")])
    kimi.configure({"sandbox": {"mode": "off"}})
    login = ("login", "--no-test", "--base-url", server.base_url)
    no_key = {"KIMI_API_KEY": None}
    assert kimi(*login, stdin="sk-test-key", env=no_key).code == 0
    next((kimi.home / "credentials").iterdir()).chmod(0o644)
    run = kimi("doctor", "--json", env=no_key)
    assert run.code == 0
    found = checks(run)
    assert found["sandbox"]["status"] == "warn" and "off" in found["sandbox"]["detail"]
    assert found["key"]["status"] == "warn" and "chmod 600" in found["key"]["advice"]
    assert found["settings"]["status"] == "ok"
    assert json.dumps(found).count("sk-test-key") == 0

"""The flags that choose the model, the workspace, the permissions and the checks."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.helpers import last_text, result_of, stream_of
from tests.support.program import Kimi
from tests.support.recorded import Recorded
from tests.support.replies import Reply, text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01"
SHELL = tool_calls([("shell", {"command": "echo hi > made-by-shell"})])
KEY = "sk-test-key"


def sent(server: ScriptedServer) -> dict[str, Any]:
    """The one request that the server saw, without what every request has."""
    assert len(server.requests) == 1
    common = {"messages", "tools", "stream", "stream_options", "prompt_cache_key"}
    return {k: v for k, v in server.requests[0].body.items() if k not in common}


@pytest.mark.parametrize(
    ("flavour", "args", "expected"),
    [
        ("hosted", ["-m", "kimi-k2.6"], {"model": "kimi-k2.6", "thinking": {"type": "enabled"}}),
        ("hosted", ["--thinking", "on"], {"thinking": {"type": "enabled"}}),
        ("hosted", ["--thinking", "off"], {"thinking": {"type": "disabled"}}),
        ("hosted", ["-m", "kimi-k3", "--thinking", "low"], {"reasoning_effort": "low"}),
        ("vllm", ["--thinking", "off"], {"chat_template_kwargs": {"thinking": False}}),
        ("vllm", ["--dialect", "openai-compatible", "--thinking", "on"], {}),
    ],
)
def test_model_and_thinking_as_sent(
    flavour: str, args: list[str], expected: dict[str, Any], kimi: Kimi, serve: Serve
) -> None:
    server = serve([text("ok")], flavour=flavour)
    assert kimi("-p", "x", *args, server=server).code == 0
    body = sent(server)
    switches = {"thinking", "reasoning_effort", "chat_template_kwargs"}
    assert {k: body[k] for k in switches & body.keys()} == {
        k: v for k, v in expected.items() if k in switches
    }
    assert body["model"] == expected.get("model", body["model"])
    server.check()


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--thinking", "sometimes"], "thinking can be: on, off"),
        (["-m", "kimi-k3", "--thinking", "off"], "always thinks"),
        (["-m", "kimi-k3", "--thinking", "medium"], "low, high, max"),
        (["--dialect", "esperanto"], "esperanto"),
        (["--base-url", "not a url"], "--base-url not a url: must be a URL that starts with"),
        (["--base-url", "http://u:hunter2@x"], "--base-url must not contain a user name"),
        (["--max-steps", "0"], "--max-steps 0: must be a whole number, at least 1"),
        (["--max-tokens", "-5"], "--max-tokens -5: must be a whole number, at least 1"),
        (["--max-cost", "nan"], "--max-cost nan: must be a number, above 0"),
        (["--timeout", "-1"], "--timeout -1: must be a number, above 0"),
        (["--timeout", "abc"], "--timeout abc: must be a number, above 0"),
        (["--max-steps", "1.5"], "--max-steps 1.5: must be a whole number, at least 1"),
        (["--on-ask", "x"], "--on-ask x: must be"),
        (["--thinking", "ON!"], "--thinking ON!: must be a text of a-z, 0-9, _ and - only"),
        (["-m", ""], '--model "": must be a text without control characters, not empty'),
        (["-C", "no/such/folder"], "no/such/folder"),
        (["--add-dir", "no/such/folder"], "no/such/folder"),
        (["--system-prompt-file", "missing.md"], "missing.md"),
        (["--json-schema", "missing.json"], "missing.json"),
        (["--image", "missing.png"], "missing.png"),
        (["--image", "calc.py"], "not an image"),
        (["--json-schema", "calc.py"], "not JSON"),
    ],
)
def test_bad_values_end_with_2(args: list[str], complaint: str, kimi: Kimi, serve: Serve) -> None:
    server = serve()
    run = kimi("-p", "x", *args, server=server)
    assert (run.code, run.out) == (2, "")
    assert complaint in run.err
    assert len(run.err.splitlines()) == 1
    assert not re.search("pydantic|[Ii]nput should|greater than|hunter2", run.err)
    assert not server.requests and not list(kimi.home.glob("sessions/*/*"))


def test_base_url_flag_wins(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")])
    elsewhere = {"KIMI_BASE_URL": "http://127.0.0.1:9/v1"}
    assert kimi("-p", "x", "--base-url", server.base_url, env=elsewhere).code == 0
    assert len(server.requests) == 1


def test_dialect_is_not_asked_for_when_named(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")], flavour="vllm")
    kimi.configure({"models": {"kimi-k2.5": {"context": 100_000}}})
    assert kimi("-p", "x", "--dialect", "vllm", server=server).code == 0
    assert not server.other_requests


def test_image_is_sent_as_data_url(kimi: Kimi, serve: Serve) -> None:
    (kimi.cwd / "a.png").write_bytes(PNG)
    (kimi.cwd / "b.gif").write_bytes(b"GIF89a" + bytes(10))
    server = serve([text("a cat")])
    run = kimi("-p", "what is it?", "--image", "a.png", "--image", "b.gif", server=server)
    assert run.code == 0
    words, *images = server.requests[0].messages[-1]["content"]
    assert words == {"type": "text", "text": "what is it?"}
    assert [i["image_url"]["url"].split(",")[0] for i in images] == [
        "data:image/png;base64",
        "data:image/gif;base64",
    ]
    assert base64.b64decode(images[0]["image_url"]["url"].split(",")[1]) == PNG


def test_image_for_a_model_without_eyes(kimi: Kimi, serve: Serve) -> None:
    (kimi.cwd / "a.png").write_bytes(PNG)
    server = serve()
    run = kimi("-p", "x", "--image", "a.png", "-m", "kimi-k2-thinking", server=server)
    assert run.code == 2
    assert "kimi-k2-thinking takes no images" in run.err
    assert not server.requests and not list(kimi.home.glob("sessions/*/*"))


def test_cwd_is_where_it_works(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    place.mkdir()
    server = serve(
        [
            tool_calls([("write", {"path": "a.txt", "content": "a"})]),
            tool_calls([("shell", {"command": "pwd"})]),
            text("ok"),
        ]
    )
    assert kimi("-p", "x", "-C", "../elsewhere", "--yolo", server=server).code == 0
    assert (place / "a.txt").read_text() == "a"
    assert str(place) in last_text(server.requests[2].messages, "tool")
    assert str(place) in last_text(server.requests[0].messages, "system")


def test_add_dir_widens_the_workspace(kimi: Kimi, serve: Serve, outside: Path) -> None:
    for name in ("more", "other", "home"):
        (outside / name).mkdir()
    kimi.cwd = outside / "home"
    inside, other = outside / "more" / "a.txt", outside / "other" / "a.txt"
    other.write_text("private")
    server = serve(
        [
            tool_calls(
                [
                    ("write", {"path": str(inside), "content": "a"}),
                    ("write", {"path": str(other), "content": "a"}),
                    ("shell", {"command": f"echo a > {inside}.too; echo a > {other}"}),
                    ("read", {"path": str(inside)}),
                ]
            ),
            text("ok"),
        ]
    )
    run = kimi(
        "-p", "x", "--add-dir", "../more", "--output-format", "json", server=server
    )  # fmt: skip
    result = result_of(run)
    assert inside.read_text() == "a"
    assert Path(f"{inside}.too").read_text() == "a\n"
    assert other.read_text() == "private"
    assert [denial["tool"] for denial in result["denials"]] == ["write", "shell"]
    assert [change["path"] for change in result["changed_files"]] == [str(inside)]


def test_shell_is_denied_without_a_sandbox_and_yolo(kimi: Kimi, serve: Serve) -> None:
    server = serve([SHELL, text("I could not run it.")])
    run = kimi("-p", "x", "--sandbox", "off", "--output-format", "json", server=server)
    assert run.code == 0
    told = last_text(server.requests[1].messages, "tool")
    assert "Denied" in told and "needs approval" in told
    assert [denial["reason"] for denial in result_of(run)["denials"]] == [told]
    assert not (kimi.cwd / "made-by-shell").exists()


@pytest.mark.parametrize("path", [".git/config", ".kimi/config.toml", "link/x"])
def test_protected_places_and_ways_out_are_denied(
    path: str, kimi: Kimi, serve: Serve, outside: Path
) -> None:
    (kimi.cwd / "link").symlink_to(outside)
    server = serve([tool_calls([("write", {"path": path, "content": "x"})]), text("no")])
    result = result_of(kimi("-p", "x", "--output-format", "json", server=server))
    assert len(result["denials"]) == 1 and not result["changed_files"]


def test_yolo_without_a_sandbox_allows_everything(kimi: Kimi, serve: Serve, outside: Path) -> None:
    new = outside / "new.txt"
    write = tool_calls([("write", {"path": str(new), "content": "x"})])
    server = serve([SHELL, write, text("ok")])
    args = ("--yolo", "--sandbox", "off", "--output-format", "json")
    result = result_of(kimi("-p", "x", *args, server=server))
    assert (kimi.cwd / "made-by-shell").read_text() == "hi\n"
    assert new.read_text() == "x"
    assert result["denials"] == []


def test_own_keys_never_reach_a_command(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([("shell", {"command": "env"})]), text("ok")])
    env = {"MOONSHOT_API_KEY": "sk-other-key"}
    assert kimi("-p", "x", "--yolo", server=server, env=env).code == 0
    told = last_text(server.requests[1].messages, "tool")
    assert "PATH=" in told
    assert KEY not in told and "sk-other-key" not in told


def test_on_ask_fail_ends_with_20(kimi: Kimi, serve: Serve) -> None:
    server = serve([SHELL])
    run = kimi(
        *("-p", "x", "--on-ask", "fail", "--sandbox", "off", "--output-format", "stream-json"),
        server=server,
    )  # fmt: skip
    events, result = stream_of(run)
    assert (run.code, result["stop_reason"]) == (20, "question")
    assert "echo hi" in result["detail"]
    assert [e["status"] for e in events if e["type"] == "tool_result"] == ["interrupted"]


SCHEMA = {
    "type": "object",
    "required": ["sum"],
    "properties": {"sum": {"type": "integer"}},
}
ANSWERS = {
    "at once": (['{"sum": 4}'], 0, {"sum": 4}),
    "in a fence": (['```json\n{"sum": 4}\n```'], 0, {"sum": 4}),
    "at the third try": (["four", '{"sum": "4"}', '{"sum": 4}'], 0, {"sum": 4}),
    "never": (["four", "IV", "quatre"], 1, None),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_json_schema(name: str, kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    answers, code, structured = ANSWERS[name]
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    server = serve([text(answer) for answer in answers])
    run = kimi(
        "-p", "2+2", "--json-schema", schema, "--output-format", "json", server=server
    )  # fmt: skip
    result = result_of(run)
    assert (run.code, result["structured"]) == (code, structured)
    assert (result["stop_reason"] == "schema_failed") == (code == 1)
    assert '"sum"' in last_text(server.requests[0].messages)
    if len(answers) > 1:
        assert "The answer is not JSON" in last_text(server.requests[1].messages)
        assert "$.sum" in last_text(server.requests[-1].messages) or code == 1


def test_a_schema_that_is_none(kimi: Kimi, serve: Serve) -> None:
    (kimi.cwd / "s.json").write_text('{"type": "no such type"}')
    run = kimi("-p", "x", "--json-schema", "s.json", server=serve())
    assert run.code == 2
    assert "not a JSON Schema" in run.err


def test_verify_that_passes(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("done")])
    run = kimi("-p", "x", "--verify", "pwd > seen; test -f calc.py", server=server)
    assert run.code == 0
    assert (kimi.cwd / "seen").read_text().strip() == str(kimi.cwd)
    assert len(server.requests) == 1


def test_verify_that_fails_goes_back_to_the_model(kimi: Kimi, serve: Serve) -> None:
    write = tool_calls([("write", {"path": "proof.txt", "content": "x"})])
    server = serve([text("done"), write, text("now it is")])
    run = kimi("-p", "x", "--verify", "echo where is it; test -f proof.txt", server=server)
    assert (run.code, run.out) == (0, "now it is\n")
    told = last_text(server.requests[1].messages)
    assert "failed (exit 1)" in told and "where is it" in told


def test_verify_that_never_passes(kimi: Kimi, serve: Serve) -> None:
    server = serve([text(f"try {n}") for n in range(9)])
    run = kimi("-p", "x", "--verify", "exit 3", "--output-format", "json", server=server)
    result = result_of(run)
    assert (run.code, result["stop_reason"]) == (1, "verify_failed")
    assert "exit 3" in result["detail"]
    assert len(server.requests) == 5


def test_verify_within_the_budget(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("a"), text("b"), text("c")])
    assert kimi("-p", "x", "--verify", "false", "--max-steps", "2", server=server).code == 10


def test_system_prompt_file_replaces_ours(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "prompt.md").write_text("You are a pirate. {root} Arr.")
    server = serve([text("Arr")])
    run = kimi("-p", "x", "--system-prompt-file", tmp_path / "prompt.md", server=server)
    assert run.code == 0
    assert last_text(server.requests[0].messages, "system") == "You are a pirate. {root} Arr."


def test_no_session_leaves_nothing(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = sorted(kimi.home.rglob("*"))
    server = serve([SHELL, tool_calls([("write", {"path": "n", "content": "n"})]), text("ok")])
    run = kimi(
        "-p", "x", "--no-session", "--yolo", "--output-format", "json",
        server=server, env={"TMPDIR": str(temporary)},
    )  # fmt: skip
    assert result_of(run)["session_id"] is None
    assert "kimi -r" not in run.err
    assert sorted(kimi.home.rglob("*")) == before
    assert not list(temporary.iterdir())


def test_debug_log_is_private_and_has_no_key(kimi: Kimi, serve: Serve) -> None:
    def script(index: int, request: Recorded) -> Reply:
        return SHELL if index == 0 else text("ok")

    server = serve(script)
    run = kimi("-p", "x", "--yolo", "--debug", server=server)
    assert run.code == 0
    (log,) = (kimi.home / "logs").iterdir()
    assert str(log) in run.err
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700
    content = log.read_text()
    assert "chat/completions" in content
    assert KEY not in content
    assert not re.search(r"Bearer (?!\[redacted\])", content)


def test_log_blanks_keys_wherever_they_stand(tmp_path: Path) -> None:
    from kimi_cli.cli.debug_log import start_log

    root = logging.getLogger()
    level, before = root.level, list(root.handlers)
    try:
        path = start_log(tmp_path, ["opensesame"])
        logging.getLogger("t").warning("%s %s", {"Authorization": "Bearer abc.def"}, "opensesame")
        logging.getLogger("t").warning("x sk-abcdefghijklmnop y")
    finally:
        for handler in [h for h in root.handlers if h not in before]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
    content = path.read_text()
    assert "abc.def" not in content and "opensesame" not in content
    assert "sk-abcdefghijklmnop" not in content and "sk-abcd[redacted]" in content

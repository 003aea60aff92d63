"""`kimi --local`: the server that `kimi serve` runs here, as a run finds it on disk."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kimi_cli.serve.running import Checked, Progress, Trouble
from tests.support.local_servers import KEY, LocalServer
from tests.support.program import Kimi
from tests.support.recorded import Recorded
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
Make = Callable[..., LocalServer]
JSON = ("-p", "hi", "--output-format", "json")


@pytest.fixture
def local(kimi: Kimi) -> Iterator[Make]:
    """Puts servers into KIMI_HOME: `local(server, name)`."""
    with ExitStack() as stack:

        def make(server: ScriptedServer | int, name: str = "tiny", **more: object) -> LocalServer:
            port = server if isinstance(server, int) else server.port
            made = LocalServer(kimi.home, port, name, **more)  # type: ignore[arg-type]
            return stack.enter_context(made)

        yield make


def scripted(serve: Serve, *replies: object, model: str = "tiny") -> ScriptedServer:
    """A server as vLLM would be, with the key of the local one."""
    return serve(list(replies), flavour="vllm", api_key=KEY, models=[model])


def authorization(request: Recorded) -> str:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return str(headers.get("authorization", ""))


def test_it_is_reached_with_its_key_and_model(kimi: Kimi, serve: Serve, local: Make) -> None:
    configured = serve([])
    kimi.configure({"endpoint": {"headers": {"X-Own": "secret-of-another"}}})
    server = scripted(serve, text("hello"))
    local(server)
    # A proxy must not hear of what is said on the loopback.
    proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": None}
    run = kimi("--local", *JSON, server=configured, env=proxy)
    assert run.code == 0, run.err
    assert run.json()["answer"] == "hello" and run.json()["model"] == "tiny"
    (request,) = server.requests
    assert request.body["model"] == "tiny"
    assert "temperature" not in request.body
    assert authorization(request) == f"Bearer {KEY}"
    assert "secret-of-another" not in str(request.headers)
    assert not configured.requests and not configured.other_requests
    started = kimi.stored()[0]
    assert (started["model"], started["dialect"], started["window"]) == ("tiny", "vllm", 40_960)


def test_the_key_is_nowhere_but_in_its_file(
    kimi: Kimi, serve: Serve, local: Make, project: Path
) -> None:
    place = kimi.home / "servers" / "tiny" / "key"
    look = f"env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; cat {place}"
    server = scripted(serve, tool_calls([("shell", {"command": look})]), text("done"))
    local(server)
    kimi.configure({"endpoint": {"api_key_env": "MY_OWN_KEY"}})
    env = {"MY_OWN_KEY": "sk-of-the-configured-endpoint"}
    run = kimi("--local", "-p", "hi", "--debug", "--output-format", "stream-json", env=env)
    assert run.code == 0, run.err
    result = server.requests[1].messages[-1]
    told = str(result["content"])
    assert result["role"] == "tool" and "KIMI_HOME=" in told
    for secret in (KEY, env["MY_OWN_KEY"]):
        assert secret not in told + run.out + run.err
    written = [path for path in kimi.home.rglob("*") if path.is_file()]
    assert any("logs" in path.parts for path in written)
    assert [path for path in written if KEY.encode() in path.read_bytes()] == [place]
    assert KEY not in (project / "README.md").read_text()


def test_a_stored_session_goes_on_there(kimi: Kimi, serve: Serve, local: Make) -> None:
    hosted = serve([text("first"), text("third")])
    assert kimi("-p", "one", server=hosted).code == 0
    server = scripted(serve, text("second"))
    local(server)
    assert kimi("-c", "--local", "tiny", "-p", "two", server=hosted).code == 0
    said = [message["content"] for message in server.requests[0].messages]
    assert "one" in str(said) and "first" in str(said)
    (changed,) = [event for event in kimi.stored() if event["type"] == "model_changed"]
    assert (changed["model"], changed["window"]) == ("tiny", 40_960)
    run = kimi("-c", "-m", "kimi-k2.5", "-p", "three", server=hosted)
    assert run.code == 0 and "second" in str(hosted.requests[1].messages)


def test_what_goes_without_saying_is_no_obstacle(kimi: Kimi, serve: Serve, local: Make) -> None:
    """A way of thinking that is set for another model, and flags that hold all the same."""
    (kimi.home / "config.toml").write_text('thinking = "off"\n')
    server = scripted(serve, text("a"), text("b"))
    local(server, launch={"repo": "moonshotai/Kimi-K2-Thinking"})
    run = kimi("--local", *JSON, "--max-steps", "3")
    assert run.code == 0, run.err
    assert server.requests[0].body["temperature"] == 1.0
    refused = kimi("--local", *JSON, "--thinking", "off")
    assert refused.code == 2 and "always thinks" in refused.err


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--base-url", "http://127.0.0.1:9/v1"), ("--model", "x"), ("--dialect", "vllm")],
)
def test_it_says_itself_what_such_flags_say(flag: str, value: str, kimi: Kimi) -> None:
    run = kimi("--local", flag, value, *JSON)
    assert run.code == 2 == run.json()["exit_code"]
    assert f"--local and {flag} can't be given together" in run.err


def test_none_runs(kimi: Kimi, local: Make) -> None:
    run = kimi("--local", *JSON)
    assert run.code == 2 and "`kimi serve MODEL` starts one" in run.err
    trouble = Trouble("oom", "the GPU's memory is full", "take less context")
    local(9, stage="failed", trouble=trouble).die()
    run = kimi("--local", *JSON)
    assert run.code == 2 and "tiny failed: the GPU's memory is full. Take less" in run.err
    assert run.json()["detail"] in run.err


def test_several_run(kimi: Kimi, serve: Serve, local: Make) -> None:
    one, two = scripted(serve, text("1")), scripted(serve, text("2"), model="other")
    local(one)
    local(two, "other")
    run = kimi("--local", *JSON)
    assert run.code == 2
    assert all(f"  {name}  " in run.err for name in ("tiny", "other")) and str(one.port) in run.err
    assert kimi("--local", str(two.port), "-p", "hi").out == "2\n"
    assert kimi("--local=tiny", "-p", "hi").out == "1\n"


def test_a_name_that_means_nothing_starts_nothing(kimi: Kimi, serve: Serve, local: Make) -> None:
    local(serve([]))
    run = kimi("--local", "no-such-model", *JSON, env={"PATH": os.defpath})
    assert run.code == 2 and "no local server was started for 'no-such-model'" in run.err
    assert "  tiny runs: tiny at http://127.0.0.1:" in run.err
    assert run.json()["answer"] == ""


def test_what_is_limited_is_told(kimi: Kimi, serve: Serve, local: Make) -> None:
    checks = (Checked("chat", True), Checked("tool call", False, "raw markers in the text"))
    server = scripted(serve, text("hello"))
    local(server, stage="limited", checks=checks)
    run = kimi("--local", "-p", "hi")
    assert (run.code, run.out) == (0, "hello\n")
    assert "tiny is limited: tool call: raw markers in the text" in run.err


def test_it_waits_until_the_server_is_ready(kimi: Kimi, serve: Serve, local: Make) -> None:
    server = scripted(serve, text("at last"))
    made = local(server, stage="load")
    running = kimi.start("--local", "-p", "hi")
    running.until(lambda: "waiting for tiny: " in running.err, "word of the wait")
    assert not server.requests
    made.put("ready")
    run = running.end()
    assert (run.code, run.out) == (0, "at last\n")
    # One line for each stage, where nothing can be drawn anew.
    assert run.err.count("waiting for tiny") == 1


def test_it_fails_while_it_is_waited_for(kimi: Kimi, local: Make) -> None:
    made = local(9, stage="load")
    running = kimi.start("--local", *JSON)
    running.until(lambda: "waiting for tiny: " in running.err, "word of the wait")
    made.put("failed", trouble=Trouble("oom", "the GPU's memory is full", "take less context"))
    run = running.end()
    assert run.code == 2 and "has not come up: the GPU's memory is full" in run.json()["detail"]


def test_who_does_not_wait_leaves_it_alone(kimi: Kimi, local: Make) -> None:
    made = local(9, stage="load")
    running = kimi.start("--local", *JSON)
    running.until(lambda: "waiting for tiny: " in running.err, "word of the wait")
    running.signal(signal.SIGINT)
    run = running.end()
    assert run.code == 130 == run.json()["exit_code"]
    assert "it goes on by itself" in run.err
    written = json.loads((made.folder / "state.json").read_text())
    assert Progress(**written["progress"]).stage == "load"


def test_a_server_that_died_is_told(kimi: Kimi, serve: Serve, local: Make) -> None:
    made: list[LocalServer] = []

    def script(index: int, request: Recorded) -> object:
        made[0].put("failed", trouble=Trouble("oom", "the GPU's memory is full", "use less"))
        made[0].die()
        server.close()
        return text("never")

    server = serve(script, flavour="vllm", api_key=KEY, models=["tiny"])
    made.append(local(server))
    run = kimi("--local", *JSON)
    assert run.code == 75, run.err
    detail = run.json()["detail"]
    assert "the local server tiny has ended: the GPU's memory is full. Use less" in detail
    assert "`kimi serve restart tiny` starts it again" in detail
    # It is known to be gone: nobody waits for it.
    assert "next try" not in run.err
    assert "kimi --local tiny -r " in run.err


def test_doctor_tells_of_local_servers(kimi: Kimi, serve: Serve, local: Make) -> None:
    def line(env: dict[str, str | None] | None = None) -> dict[str, str] | None:
        closed = {"KIMI_BASE_URL": "http://127.0.0.1:9/v1", "KIMI_TIMEOUTS__CONNECT": "1"}
        run = kimi("doctor", "--json", env=closed)
        found = [check for check in run.json()["checks"] if check["name"] == "local"]
        return found[0] if found else None

    assert line() is None
    made = local(9, stage="failed", trouble=Trouble("oom", "the memory is full", "use less"))
    failed = line()
    assert failed and failed["status"] == "warn" and "tiny failed: the memory" in failed["detail"]
    assert "kimi serve restart tiny" in failed["advice"]
    made.put("ready")
    up = line()
    assert up and up["status"] == "ok" and "tiny ready at http://127.0.0.1:9/v1" in up["detail"]


def test_nothing_heavy_is_imported_without_it(kimi: Kimi) -> None:
    code = (
        "import sys; import kimi_cli.cli.starting, kimi_cli.cli.headless; "
        "print([name for name in sys.modules if name.startswith('kimi_cli.serve')])"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

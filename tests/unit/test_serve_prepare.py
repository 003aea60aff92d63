"""From a request to all that is needed to start a server: real folders, a vLLM that only answers
for its options, and computers that are described."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kimi_cli.serve.describe import describe
from kimi_cli.serve.facts import Gpu, Machine, Node, NodeCommand, NoPlan, Wish
from kimi_cli.serve.installed import Vllm, find_vllm
from kimi_cli.serve.naming import name_of, server_name
from kimi_cli.serve.prepare import NotReady, Ready, needs_trust, prepare
from kimi_cli.serve.running import Launch, Request
from tests.support.tiny_model import write_model
from tests.support.vllm_program import HELP, calls, environment, install

GIB = 1 << 30
CPU = Machine((Node((Gpu("CPU", 24 * GIB, 20 * GIB),), vendor="cpu"),), described=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "kimi"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """One with no model in Hugging Face's cache and no program at all."""
    return environment(tmp_path / "none", HOME=str(tmp_path / "user"))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_model(tmp_path / "models" / "Tiny One")


def vllm_at(folder: Path, version: str = "0.33.0", *, cpu: bool = False) -> Vllm:
    found = find_vllm(environment(install(folder, version, cpu=cpu).parent))
    assert found is not None
    return found


@pytest.fixture
def vllm(tmp_path: Path) -> Vllm:
    return vllm_at(tmp_path / "vllm")


@pytest.fixture
def on_cpu(tmp_path: Path) -> Vllm:
    return vllm_at(tmp_path / "vllm-cpu", "0.32.0", cpu=True)


def ready(result: Ready | NoPlan) -> Launch:
    assert isinstance(result, Ready), result
    assert result.launch.commands == result.plan.commands
    return result.launch


def variables(command: NodeCommand) -> dict[str, str]:
    return {one.name: one.value for one in command.environment}


def option(command: NodeCommand, name: str) -> str:
    assert command.argv.count(name) == 1, command.argv
    return command.argv[command.argv.index(name) + 1]


# --- on the CPU ---


def test_a_local_folder_on_the_cpu(
    tiny: Path, env: dict[str, str], home: Path, on_cpu: Vllm
) -> None:
    request = Request(str(tiny), Wish(port=8123), ("--tool-call-parser=hermes",))
    launch = ready(prepare(request, env, home, on_cpu, machine=CPU))
    (command,) = launch.commands
    assert command.argv[:3] == (on_cpu.path, "serve", str(tiny))
    assert option(command, "--port") == "8123" and option(command, "--host") == "127.0.0.1"
    assert option(command, "--served-model-name") == "Tiny One" == launch.served_name
    assert option(command, "--tool-call-parser") == "hermes" == launch.tool_parser
    # Without the switch the parser is no use.
    assert command.argv.count("--enable-auto-tool-choice") == 1
    assert option(command, "--shutdown-timeout") == "30"
    assert option(command, "--disable-access-log-for-endpoints") == "/health,/metrics"
    found = variables(command)
    assert found["HF_HUB_OFFLINE"] == found["TRANSFORMERS_OFFLINE"] == "1"
    assert found["VLLM_LOGGING_COLOR"] == "0" and found["NO_COLOR"] == "1"
    assert found["VLLM_NO_USAGE_STATS"] == found["DO_NOT_TRACK"] == "1"
    assert (launch.name, launch.port, launch.context) == ("tiny-one", 8123, 65_536)
    assert launch.repo == str(tiny) and launch.vllm_version == "0.32.0+cpu"
    assert launch.weight_bytes > 0
    assert launch.title == "Tiny One · CPU 24 GiB · 64k context"
    assert re.fullmatch(
        r"weights 0\.0  kv cache 1\.0  overhead 2\.7  free 16\.3 GiB of memory · \d\.\dM tokens "
        r"fit",
        launch.about,
    )


def test_this_computer_is_looked_at(
    tiny: Path, env: dict[str, str], home: Path, on_cpu: Vllm
) -> None:
    request = Request(str(tiny), Wish(context=1024))
    result = prepare(request, env, home, on_cpu)
    node = (result.plan if isinstance(result, Ready) else result).machine.nodes[0]
    assert node.vendor == "cpu" and node.host == "localhost"


def test_two_nodes_of_one_computer(
    tiny: Path, env: dict[str, str], home: Path, on_cpu: Vllm
) -> None:
    node = replace(CPU.nodes[0], host="127.0.0.1")
    two = Machine((node, replace(node, host="localhost")), described=False)
    request = Request(
        str(tiny),
        Wish(tensor_parallel=2),
        ("--master-port", "18130"),
        hosts=("127.0.0.1", "localhost"),
        spans=True,
    )
    launch = ready(prepare(request, env, home, on_cpu, machine=two))
    head, other = launch.commands
    assert (head.rank, other.rank) == (0, 1)
    for command in launch.commands:
        assert command.argv[0] == on_cpu.path
        assert option(command, "--nnodes") == "2" and option(command, "--master-port") == "18130"
        assert option(command, "--master-addr") == "127.0.0.1"
        assert option(command, "--node-rank") == str(command.rank)
        assert variables(command)["VLLM_HOST_IP"] == "127.0.0.1"
    assert other.argv.count("--headless") == 1 and "--headless" not in head.argv
    assert "VLLM_API_KEY" in variables(head) and "VLLM_API_KEY" not in variables(other)


def test_a_model_too_large_for_the_cpu(env: dict[str, str], home: Path, on_cpu: Vllm) -> None:
    result = prepare(Request("kimi-k2.5"), env, home, on_cpu, machine=CPU)
    assert isinstance(result, NoPlan)
    # What does not fit is said at once, before vLLM's slow help.
    assert calls(Path(on_cpu.path)) == []


# --- on GPUs ---


def test_a_model_of_the_catalogue(env: dict[str, str], home: Path, vllm: Vllm) -> None:
    request = Request("kimi-k2.5", gpus="8xH200", trusted=True)
    result = prepare(request, env, home, vllm)
    launch = ready(result)
    assert isinstance(result, Ready) and needs_trust(result.plan) == "moonshotai/Kimi-K2.5"
    (command,) = launch.commands
    assert command.argv[:3] == (vllm.path, "serve", "moonshotai/Kimi-K2.5")
    assert option(command, "--tensor-parallel-size") == "8"
    assert command.argv.count("--trust-remote-code") == 1
    assert any("runs code that moonshotai/Kimi-K2.5" in note for note in result.launch.notes)
    assert variables(command)["VLLM_ENGINE_READY_TIMEOUT_S"] == "1200"
    assert "HF_HUB_OFFLINE" not in variables(command)
    assert launch.served_name == "kimi-k2.5" and launch.name == "kimi-k2.5"
    assert (launch.tool_parser, launch.reasoning_parser) == ("kimi_k2", "kimi_k2")
    assert launch.thinking == "switchable" and "image" in launch.inputs
    assert launch.title == "Kimi K2.5 · 8×H200 140 GiB · tensor parallel 8 · 256k context"
    assert re.fullmatch(
        r"weights 69\.\d  kv cache \d+\.\d  overhead \d+\.\d  free \d+\.\d GiB per GPU · "
        r".+ tokens fit",
        launch.about,
    )
    assert not any(note.startswith("needs vLLM") for note in launch.notes)


def test_code_of_the_repository_runs_only_where_it_is_trusted(
    tmp_path: Path, tiny: Path, env: dict[str, str], home: Path, vllm: Vllm
) -> None:
    for name, who in (("kimi-k2.5", "moonshotai/Kimi-K2.5"), (str(tiny), "")):
        result = prepare(Request(name, gpus="8xH200"), env, home, vllm)
        assert isinstance(result, Ready) and needs_trust(result.plan) == who
        assert "--trust-remote-code" not in result.launch.commands[0].argv
        assert all(flag.name != "--trust-remote-code" for flag in result.plan.flags)


def test_the_key_is_in_no_command(env: dict[str, str], home: Path, vllm: Vllm) -> None:
    request = Request("kimi-k2.5", gpus="8xH200")
    env = {**env, "VLLM_API_KEY": "sk-of-the-user"}
    launch = ready(prepare(request, env, home, vllm))
    assert "sk-of-the-user" not in repr(launch) and "--api-key" not in launch.commands[0].argv
    (key,) = [one for one in launch.commands[0].environment if one.secret]
    assert (key.name, key.value) == ("VLLM_API_KEY", "")
    without = ready(prepare(replace(request, key=False), env, home, vllm))
    assert not any(one.secret for one in without.commands[0].environment)


def test_options_by_hand(env: dict[str, str], home: Path, vllm: Vllm) -> None:
    words = ("--max-model-len", "32k", "-dcp", "8", "--served-model-name", "a", "b", "-q=awq")
    request = Request("kimi-k2.5", gpus="8xH200", extra=words)
    result = prepare(request, env, home, vllm)
    launch = ready(result)
    (command,) = launch.commands
    assert option(command, "--max-model-len") == "32k" and launch.context == 32_000
    assert option(command, "--decode-context-parallel-size") == "8"
    assert "-dcp" not in command.argv
    assert option(command, "--quantization") == "awq"
    assert launch.served_name == "a" and launch.name == "a"
    place = command.argv.index("--served-model-name")
    assert command.argv[place + 1 : place + 3] == ("a", "b")
    assert any("--max-model-len 32k as given after --" in note for note in launch.notes)
    assert isinstance(result, Ready) and result.plan.layout.decode_context == 8
    with pytest.raises(NotReady, match="has no option --max-model"):
        prepare(replace(request, extra=("--max-model", "3")), env, home, vllm)


def test_a_length_that_vllm_finds_is_the_plans(env: dict[str, str], home: Path, vllm: Vllm) -> None:
    request = Request("kimi-k2.5", gpus="8xH200", extra=("--max-model-len", "auto"))
    result = prepare(request, env, home, vllm)
    assert ready(result).context == (result.plan.context if isinstance(result, Ready) else 0)


@pytest.mark.parametrize(
    ("key", "said"), [(True, "cross the network as they are"), (False, "no key is asked for")]
)
def test_what_an_open_address_means_is_said(
    env: dict[str, str], home: Path, vllm: Vllm, key: bool, said: str
) -> None:
    request = Request("kimi-k2.5", Wish(host="0.0.0.0"), gpus="8xH200", key=key)
    assert any(said in note for note in ready(prepare(request, env, home, vllm)).notes)
    request = replace(request, wish=Wish())
    assert not any("listens" in note for note in ready(prepare(request, env, home, vllm)).notes)


def test_what_this_vllm_does_not_know_is_left_out(
    env: dict[str, str], home: Path, tmp_path: Path
) -> None:
    old = vllm_at(tmp_path / "other")
    text = (tmp_path / "other" / "help").read_text()
    gone = [line for line in text.splitlines() if "prompt-tokens" not in line]
    gone = [line for line in gone if "--shutdown-timeout" not in line]
    (tmp_path / "other" / "help").write_text("\n".join(gone))
    launch = ready(prepare(Request("kimi-k2.5", gpus="8xH200"), env, home, old))
    argv = launch.commands[0].argv
    assert "--enable-prompt-tokens-details" not in argv and "--shutdown-timeout" not in argv
    assert any(note.startswith("left out --enable-prompt-tokens-details") for note in launch.notes)
    assert not any("--shutdown-timeout" in note for note in launch.notes)


def test_too_old_a_vllm(env: dict[str, str], home: Path, tmp_path: Path) -> None:
    old = vllm_at(tmp_path / "old", "0.18.1")
    with pytest.raises(NotReady, match=r"needs vLLM 0\.19\.1 or newer; .+ is 0\.18\.1") as refused:
        prepare(Request("kimi-k2.5", gpus="8xH200", trusted=True), env, home, old)
    assert refused.value.kind == "old-vllm" and refused.value.todo
    same = vllm_at(tmp_path / "same", "0.19.1")
    ready(prepare(Request("kimi-k2.5", gpus="8xH200"), env, home, same))
    unknown = vllm_at(tmp_path / "unknown", "0.1.dev7+gabc")
    launch = ready(prepare(Request("kimi-k2.5", gpus="8xH200"), env, home, unknown))
    assert any("can't be told; Kimi K2.5 needs 0.19.1" in note for note in launch.notes)


def test_what_the_user_set_for_vllm_stays(
    tiny: Path, env: dict[str, str], home: Path, on_cpu: Vllm
) -> None:
    env = {**env, "VLLM_CPU_KVCACHE_SPACE": "3", "HF_HUB_OFFLINE": "0", "VLLM_LOGGING_COLOR": "1"}
    launch = ready(prepare(Request(str(tiny)), env, home, on_cpu, machine=CPU))
    found = variables(launch.commands[0])
    assert not found.keys() & {"VLLM_CPU_KVCACHE_SPACE", "HF_HUB_OFFLINE"}
    assert found["VLLM_LOGGING_COLOR"] == "0"


# --- several computers ---


def test_a_command_for_each_computer(env: dict[str, str], home: Path) -> None:
    machine = describe("8xH100", 2)
    nodes = zip(machine.nodes, ("gpu-a", "gpu-b"), strict=True)
    machine = replace(machine, nodes=tuple(replace(one, host=host) for one, host in nodes))
    request = Request("kimi-k2.5", hosts=("gpu-a", "gpu-b"), extra=("--brand-new", "1"))
    launch = ready(prepare(request, env, home, None, machine=machine))
    assert [command.host for command in launch.commands] == ["gpu-a", "gpu-b"]
    for command in launch.commands:
        # Each finds its own program, and nobody here knows its options.
        assert command.argv[0] == "vllm" and option(command, "--brand-new") == "1"
        assert option(command, "--master-addr") == "gpu-a"
        assert "HF_HUB_OFFLINE" not in variables(command)
    assert launch.vllm_version == ""
    assert any("options were not looked at" in note for note in launch.notes)


def test_ray_takes_one_command(env: dict[str, str], home: Path, vllm: Vllm) -> None:
    request = Request("kimi-k2.5", hosts=("localhost", "gpu-b"), ray=True, gpus="8xH100")
    launch = ready(prepare(request, env, home, vllm))
    (command,) = launch.commands
    assert command.host == "localhost"
    assert option(command, "--distributed-executor-backend") == "ray"
    assert option(command, "--pipeline-parallel-size") == "2"
    assert not {"--nnodes", "--node-rank", "--master-addr", "--headless"} & set(command.argv)


def test_ray_starts_copies_and_hands_the_gpus_out(
    env: dict[str, str], home: Path, vllm: Vllm
) -> None:
    wish = Wish(data_parallel=16)
    request = Request("kimi-k2", wish, hosts=("localhost", "gpu-b"), ray=True, gpus="8xH200")
    (command,) = ready(prepare(request, env, home, vllm)).commands
    assert option(command, "--data-parallel-backend") == "ray"
    assert not {"--data-parallel-address", "--distributed-executor-backend"} & set(command.argv)
    request = Request("qwen3.6-27b", Wish(tensor_parallel=1), gpus="4xH100")
    assert "CUDA_VISIBLE_DEVICES" in variables(ready(prepare(request, env, home, vllm)).commands[0])
    request = replace(request, ray=True)
    (command,) = ready(prepare(request, env, home, vllm)).commands
    assert "CUDA_VISIBLE_DEVICES" not in variables(command)


def test_computers_that_nobody_looked_at(env: dict[str, str], home: Path, vllm: Vllm) -> None:
    with pytest.raises(NotReady, match="nobody has looked at localhost, gpu-b"):
        prepare(Request("kimi-k2.5", hosts=("localhost", "gpu-b")), env, home, vllm)


# --- what can't be started ---


def test_no_vllm(env: dict[str, str], home: Path, tiny: Path) -> None:
    with pytest.raises(NotReady, match="vLLM is not installed") as refused:
        prepare(Request(str(tiny)), env, home, None)
    assert refused.value.kind == "no-vllm" and "KIMI_VLLM" in refused.value.todo
    with pytest.raises(NotReady) as refused:
        prepare(Request("kimi-k2.5"), env, home, None, machine=describe("8xH200"))
    assert any("uv pip install vllm" in line for line in refused.value.commands)


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        (Request("no-such-model-at-all"), "unknown-model", "no model called"),
        (Request("someone/unheard-of"), "unknown-model", "no model called"),
        (Request("/nowhere/model"), "unreadable-model", "is no folder"),
        (Request("kimi-k2.5", gpus="8xNothing"), "gpus", "no GPU is called"),
        (Request("kimi-k2.5", Wish(context=0), gpus="8xH200"), "usage", "at least 1"),
        (Request("kimi-k2.5", gpus="8xH200", extra=("--port", "1")), "extra", "--port before"),
        (Request("kimi-k2.5", gpus="8xH200", name="Bad Name"), "name", "can't be a server's name"),
    ],
)
def test_refusals(
    request_: Request, kind: str, words: str, env: dict[str, str], home: Path, vllm: Vllm
) -> None:
    with pytest.raises(NotReady, match=words) as refused:
        prepare(request_, env, home, vllm)
    assert refused.value.kind == kind


HF = """\
#!{python}
import pathlib, shutil, sys
assert sys.argv[1:3] == ["download", "someone/new"] and "--include" in sys.argv, sys.argv
if not {model!r}:
    sys.exit("a line\\nRepository Not Found for someone/new\\n")
to = pathlib.Path({cache!r}) / "models--someone--new"
(to / "refs").mkdir(parents=True)
(to / "refs" / "main").write_text("abc")
shutil.copytree({model!r}, to / "snapshots" / "abc", ignore=shutil.ignore_patterns({left_out!r}))
"""


@pytest.mark.parametrize("left_out", ["*.nothing", "*.safetensors"])
def test_a_model_that_only_the_hub_knows(
    env: dict[str, str], home: Path, on_cpu: Vllm, tmp_path: Path, left_out: str
) -> None:
    env["HF_HUB_CACHE"] = str(tmp_path / "hub")
    model = write_model(tmp_path / "new", shards=2)
    hub(on_cpu, str(model), env["HF_HUB_CACHE"], left_out)
    launch = ready(prepare(Request("someone/new"), env, home, on_cpu))
    assert launch.repo == "someone/new"
    whole = left_out == "*.nothing"
    assert ("HF_HUB_OFFLINE" in variables(launch.commands[0])) == whole
    assert any("not all of its weights" in note for note in launch.notes) != whole


def test_a_model_that_the_hub_does_not_know(env: dict[str, str], home: Path, on_cpu: Vllm) -> None:
    with pytest.raises(NotReady, match="hf is not there"):
        prepare(Request("someone/new"), env, home, on_cpu)
    hub(on_cpu, "", "", "")
    with pytest.raises(NotReady, match="Repository Not Found for someone/new"):
        prepare(Request("someone/new"), env, home, on_cpu)


def hub(vllm: Vllm, model: str, cache: str, left_out: str) -> None:
    """A ``hf`` beside vLLM that has this model to give; "": none."""
    program = Path(vllm.path).with_name("hf")
    program.write_text(
        HF.format(python=sys.executable, model=model, cache=cache, left_out=left_out)
    )
    program.chmod(0o755)


def test_gpus_are_not_for_a_build_for_the_cpu(
    env: dict[str, str], home: Path, on_cpu: Vllm
) -> None:
    with pytest.raises(NotReady, match="is built for the CPU"):
        prepare(Request("kimi-k2.5", gpus="8xH200"), env, home, on_cpu)


# --- whether anything has to be downloaded ---


def in_cache(env: dict[str, str], repo: str, model: Path) -> Path:
    """The model as `hf download` leaves it."""
    folder = Path(env["HOME"], ".cache", "huggingface", "hub", "models--" + repo.replace("/", "--"))
    snapshot = folder / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    model.rename(snapshot)
    return snapshot


@pytest.mark.parametrize(
    ("missing", "offline"),
    [("", True), ("tokenizer.json", False), ("model.safetensors", False), ("code", False)],
)
def test_offline_only_where_every_file_is_here(
    tmp_path: Path, env: dict[str, str], home: Path, on_cpu: Vllm, missing: str, offline: bool
) -> None:
    model = write_model(tmp_path / "model", shards=2 if missing == "model.safetensors" else 1)
    snapshot = in_cache(env, "someone/tiny", model)
    if missing == "model.safetensors":
        sorted(snapshot.glob("model-*.safetensors"))[-1].unlink()
    elif missing == "code":
        config = json.loads((snapshot / "config.json").read_text())
        config["auto_map"] = {"AutoConfig": "configuration_tiny.Config"}
        (snapshot / "config.json").write_text(json.dumps(config))
    elif missing:
        (snapshot / missing).unlink()
    launch = ready(prepare(Request("someone/tiny"), env, home, on_cpu, machine=CPU))
    assert launch.repo == "someone/tiny"
    assert ("HF_HUB_OFFLINE" in variables(launch.commands[0])) is offline
    if missing == "code":
        (snapshot / "configuration_tiny.py").write_text("")
        launch = ready(prepare(Request("someone/tiny"), env, home, on_cpu, machine=CPU))
        assert "HF_HUB_OFFLINE" in variables(launch.commands[0])


def test_a_second_model_may_have_to_be_downloaded(
    tiny: Path, env: dict[str, str], home: Path, on_cpu: Vllm
) -> None:
    request = Request(str(tiny), extra=("--speculative-config", '{"model": "a/draft"}'))
    launch = ready(prepare(request, env, home, on_cpu, machine=CPU))
    assert "HF_HUB_OFFLINE" not in variables(launch.commands[0])


# --- names ---


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("kimi-k2.5", "kimi-k2.5"),
        ("moonshotai/Kimi-K2.5", "kimi-k2.5"),
        ("/models/My Tune (v2)/", "my-tune-v2"),
        ("ports", "model-ports"),
        ("8000", "model-8000"),
        ("…", "model-"),
        ("x" * 99, "x" * 40),
    ],
)
def test_names_of_models_as_names_of_servers(model: str, name: str) -> None:
    assert name_of(model).rstrip("-") == name.rstrip("-")
    assert server_name(Path("/nowhere"), name_of(model).rstrip("-"), "") == name.rstrip("-")


def test_a_name_is_used_again_once_its_server_is_over(home: Path) -> None:
    folder = home / "servers" / "tiny"
    folder.mkdir(parents=True)
    assert server_name(home, "", "tiny") == "tiny"
    with (folder / "lock").open("w") as lock:
        assert server_name(home, "", "tiny") == "tiny"
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert server_name(home, "", "tiny") == "tiny-2"
        with pytest.raises(NotReady, match="a server called tiny is running"):
            server_name(home, "tiny", "x")
    assert server_name(home, "tiny", "x") == "tiny"


@pytest.mark.parametrize("name", ["ports", "..", "a/b", "8000", "Ä", "-a", "x" * 64])
def test_what_is_no_name(home: Path, name: str) -> None:
    with pytest.raises(NotReady, match="can't be a server's name"):
        server_name(home, name, "x")


def test_nothing_is_written_but_the_cache(
    tiny: Path, env: dict[str, str], home: Path, vllm: Vllm
) -> None:
    before = os.stat(HELP).st_mtime_ns
    ready(prepare(Request(str(tiny), gpus="H100"), env, home, vllm))
    assert [one.name for one in home.iterdir()] == ["cache"]
    assert os.stat(HELP).st_mtime_ns == before

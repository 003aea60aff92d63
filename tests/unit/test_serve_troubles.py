"""Why a server failed: recorded logs, and texts rebuilt from vLLM's source for what needs a GPU."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.serve.facts import NodeCommand
from kimi_cli.serve.failures import read_failures
from kimi_cli.serve.repairs import repaired
from kimi_cli.serve.running import Launch, Trouble
from kimi_cli.serve.troubles import find_trouble
from tests.support.serving import LOGS, launch, read, recorded


def _trouble(text: str, exit_code: int | None = 1, given: Launch | None = None) -> Trouble:
    return find_trouble(read(text).lines, given or launch(), exit_code=exit_code)


def _set(trouble: Trouble) -> tuple[tuple[str, str | None], ...] | None:
    return None if trouble.repair is None else trouble.repair.set


# --- recorded ---


@dataclass(frozen=True)
class Real:
    """A recorded run: how it ended, and what a person must be told."""

    log: str
    exit_code: int
    kind: str
    what: tuple[str, ...]
    todo: tuple[str, ...]
    repair: tuple[tuple[str, str | None], ...] | None = None


REAL = [
    Real(
        "unknown_flag",
        2,
        "unknown-option",
        ("--disable-log-requests",),
        ("start it without",),
        (("--disable-log-requests", ""),),
    ),
    Real("bad_value", 2, "option-value", ("--max-model-len", "'lots'"), ("--max-model-len",)),
    Real("tools_without_parser", 1, "tool-parser", ("no parser",), ("--tool-call-parser NAME",)),
    Real(
        "wrong_parser",
        1,
        "parser",
        ("0.32.0", "tool call parser kimi_k9", "kimi_k2", "kimi_k3"),
        ("--tool-call-parser kimi_k",),
    ),
    Real(
        "wrong_reasoning_parser",
        1,
        "parser",
        ("reasoning parser kimi_k9", "kimi_k2"),
        ("--reasoning-parser kimi_k",),
    ),
    Real(
        "unsuited_parser",
        1,
        "unsuited-parser",
        ("llama3_json", "tokenizer", "<|python_tag|>"),
        ("kimi serve plan",),
    ),
    Real("port_in_use", 1, "port", ("port 18100 is taken",), ("--port 18101",)),
    Real(
        "too_long",
        1,
        "context-model",
        ("32,768 tokens", "100,000"),
        ("--context 32768",),
        (("--max-model-len", "32768"),),
    ),
    Real(
        "memory_context",
        1,
        "context-memory",
        ("4,194,304", "2.0 GiB", "1.0 GiB", "2,097,024 tokens fit"),
        ("--context 2097024",),
        (("--max-model-len", "2097024"),),
    ),
    Real("truncated_weights", 1, "damaged-weights", ("damaged",), ("copy the model",)),
    Real("no_weights", 1, "no-weights", ("/models/noweights",), ("copy the model",)),
    Real("no_config", 1, "no-config", ("config.json",), ("copy the model",)),
    Real("heads", 1, "heads", ("4 attention heads", "3 GPUs"), ("--tensor-parallel 2",)),
    Real("killed_engine", 0, "engine-died", ("engine", "memory"), ("dmesg",)),
    Real("lost_node_head", 0, "node-lost", ("connection",), ("kimi serve restart",)),
    Real("killed_loading", -9, "killed", ("while starting", "signal 9", "memory"), ("dmesg",)),
]


@pytest.mark.parametrize("real", REAL, ids=lambda real: real.log)
def test_a_recorded_failure(real: Real) -> None:
    trouble = _trouble(recorded(real.log), real.exit_code)
    assert trouble.kind == real.kind, trouble
    assert [word for word in real.what if word not in trouble.what] == [], trouble.what
    assert [word for word in real.todo if word not in trouble.todo] == [], trouble.todo
    assert _set(trouble) == real.repair
    assert trouble.evidence
    assert trouble.evidence in recorded(real.log).replace("\n\n", "\n") or "…" in trouble.evidence


def test_every_recorded_failure_is_told_as_something_known() -> None:
    good = {"good_start", "shards", "compile", "two_nodes_head", "two_nodes_other"}
    for path in LOGS.glob("*.log"):
        if path.stem not in good:
            trouble = _trouble(recorded(path.stem))
            assert trouble.kind not in ("unknown", "silent"), path.stem


# --- rebuilt from vLLM's source ---

_URL = "See https://example.org/conserving_memory/ for more details."
_OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 7.00 GiB. GPU 0 has a total capacity of 79.10 GiB of "
    "which 1.23 GiB is free. Including non-PyTorch memory, this process has 77.80 GiB in use."
)


@dataclass(frozen=True)
class Rebuilt:
    """A message as vLLM or a library of it words it, as an exception of a worker."""

    name: str
    raised: str
    kind: str
    what: tuple[str, ...]
    todo: tuple[str, ...] = ()
    repair: tuple[tuple[str, str | None], ...] | None = None
    options: tuple[str, ...] = ()


REBUILT = [
    Rebuilt(
        "context with an estimate (v1/core/kv_cache_utils.py)",
        "ValueError: To serve at least one request with the model's max seq len (262144), (17.16 "
        "GiB KV cache is needed, which is larger than the available KV cache memory (12.5 GiB). "
        "Based on the available memory, the estimated maximum model length is 190944. Try "
        f"increasing `gpu_memory_utilization` or decreasing `max_model_len`. {_URL}",
        "context-memory",
        ("262,144", "17.16 GiB", "12.5 GiB", "190,944"),
        ("--context 190944",),
        (("--max-model-len", "190944"),),
    ),
    Rebuilt(
        "context with an estimate too small for an agent",
        "ValueError: To serve at least one request with the model's max seq len (262144), (17.16 "
        "GiB KV cache is needed, which is larger than the available KV cache memory (0.1 GiB). "
        "Based on the available memory, the estimated maximum model length is 1024. Try",
        "context-memory",
        ("0.1 GiB",),
        ("more GPUs", "kimi serve plan"),
    ),
    Rebuilt(
        "context without an estimate",
        "ValueError: To serve at least one request with the model's max seq len (262144), (17.16 "
        "GiB KV cache is needed, which is larger than the available KV cache memory (0.01 GiB). "
        "Try increasing `gpu_memory_utilization`",
        "context-memory",
        ("17.16 GiB",),
        ("--variant",),
    ),
    Rebuilt(
        "context, as versions before 0.9 said it",
        "ValueError: The model's max seq len (32768) is larger than the maximum number of tokens "
        "that can be stored in KV cache (9184). Try increasing `gpu_memory_utilization`",
        "context-memory",
        ("32,768", "9,184"),
        ("--context 9184",),
        (("--max-model-len", "9184"),),
    ),
    Rebuilt(
        "nothing left for the cache",
        "ValueError: No available memory for the cache blocks. Try increasing "
        f"`gpu_memory_utilization` when initializing the engine (this flag also controls). {_URL}",
        "no-cache-memory",
        ("cache",),
        ("--variant",),
    ),
    Rebuilt(
        "nothing left, fitted",
        "ValueError: Cannot auto-fit max_model_len: not enough GPU memory available to serve even "
        "a single token. Try increasing `gpu_memory_utilization`.",
        "no-cache-memory",
        ("cache",),
    ),
    Rebuilt(
        "GPU in use (v1/worker/utils.py)",
        "ValueError: Free memory on device cuda:0 (60.0/79.1 GiB) on startup is less than desired "
        "GPU memory utilization (0.92, 72.77 GiB). Decrease GPU memory utilization or reduce GPU "
        "memory used by other processes.",
        "gpu-busy",
        ("60.0 of 79.1 GiB", "GPU 0", "72.8"),
        ("--utilisation 0.75",),
        (("--gpu-memory-utilization", "0.75"),),
    ),
    Rebuilt(
        "GPU nearly full",
        "ValueError: Free memory on device cuda:3 (1.0/79.1 GiB) on startup is less than desired "
        "GPU memory utilization (0.92, 72.77 GiB). Decrease GPU memory utilization",
        "gpu-busy",
        ("1.0 of 79.1 GiB", "GPU 3"),
        ("CUDA_VISIBLE_DEVICES",),
    ),
    Rebuilt(
        "memory given back while measured (v1/worker/gpu_worker.py)",
        "AssertionError: Error in memory profiling. Initial free memory 60.0 GiB, current free "
        "memory 61.0 GiB. This happens when other processes",
        "gpu-changed",
        ("another program",),
        ("again",),
        (),
    ),
    Rebuilt(
        "weights too large (v1/worker/gpu_model_runner.py)",
        f"torch.OutOfMemoryError: {_OUT_OF_MEMORY}",
        "gpu-memory",
        ("out of memory", "7.00 GiB", "1.23 GiB"),
        ("--utilisation",),
    ),
    Rebuilt(
        "sampler (v1/worker/gpu_model_runner.py)",
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy "
        "requests. Please try lowering `max_num_seqs` or `gpu_memory_utilization`",
        "gpu-memory",
        ("256 requests",),
        ("--max-num-seqs 64",),
        (("--max-num-seqs", "64"),),
    ),
    Rebuilt(
        "RAM (c10/core/impl/alloc_cpu.cpp)",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 34359738368 bytes. Error code 12",
        "memory",
        ("RAM", "32.0 GiB"),
    ),
    Rebuilt(
        "world size (config/parallel.py)",
        "ValueError: World size (16) is larger than the number of available GPUs (8) in this node. "
        "If this is intentional and you are using:\n- ray, set '--distributed-executor-backend "
        "ray'.\n- multiprocessing, set '--nnodes' appropriately.",
        "gpus",
        ("16 GPUs", "sees 8"),
        ("--tensor-parallel 8", "--nodes"),
    ),
    Rebuilt(
        "no device (config/device.py)",
        "RuntimeError: Failed to infer device type, please set the environment variable "
        "`VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging",
        "no-gpu",
        ("no GPU",),
        ("nvidia-smi",),
    ),
    Rebuilt(
        "old GPU (platforms/cuda.py)",
        "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. "
        "Your Tesla T4 GPU has compute capability 7.5. You can use float16 instead",
        "bfloat16",
        ("float16",),
        ("--dtype half",),
        (("--dtype", "half"),),
    ),
    Rebuilt(
        "quantisation (config/vllm.py)",
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum "
        "capability: 89. Current capability: 75.",
        "quantisation",
        ("fp8", "8.9", "7.5"),
        ("--variant",),
    ),
    Rebuilt(
        "attention with an fp8 cache (platforms/cuda.py)",
        "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(). "
        "Reasons: {}.",
        "attention",
        ("fp8",),
        ("--kv-dtype auto",),
        (("--kv-cache-dtype", "auto"),),
        ("--kv-cache-dtype", "fp8"),
    ),
    Rebuilt(
        "driver (torch/csrc/cuda)",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12020).",
        "driver",
        ("driver", "too old"),
        ("update",),
    ),
    Rebuilt(
        "no Ray (v1/executor/ray_utils.py)",
        "ValueError: Failed to import Ray: No module named 'ray'.Please install Ray with `pip "
        "install ray`.",
        "no-ray",
        ("Ray",),
        ("every node",),
    ),
    Rebuilt(
        "Ray too small (v1/executor/ray_utils.py)",
        "ValueError: Cannot provide a placement group requiring 16 GPUs (placement_group_specs=[]) "
        "within 1800 seconds.\nTensor parallel size may exceed available GPUs in your cluster.",
        "ray",
        ("16 GPUs",),
        ("`ray status`",),
    ),
    Rebuilt(
        "NCCL (torch/csrc/distributed)",
        "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp:77, unhandled system "
        "error (run with NCCL_DEBUG=INFO for details), NCCL version 2.28.9\nncclSystemError: x",
        "nccl",
        ("NCCL",),
        ("NCCL_DEBUG=INFO",),
    ),
    Rebuilt(
        "a node that never came (torch TCPStore)",
        "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 "
        "clients joined.",
        "join",
        ("did not join", "1 of 2"),
        ("--node-rank", "firewall"),
    ),
    Rebuilt(
        "slow load (v1/engine/core_client.py)",
        "TimeoutError: Timed out waiting for engine core processes to start. This is often caused "
        "by slow weight loading for large models. Waited 600s (configured by "
        "VLLM_ENGINE_READY_TIMEOUT_S). To increase the timeout, set",
        "load-timeout",
        ("600 s",),
        ("VLLM_ENGINE_READY_TIMEOUT_S=3600",),
    ),
    Rebuilt(
        "own code (transformers)",
        "ValueError: The repository moonshotai/Kimi-K2.5 contains custom code which must be "
        "executed to correctly load the model.",
        "own-code",
        ("code of its own",),
        ("trust",),
    ),
    Rebuilt(
        "unknown kind (vllm/model_executor/models/registry.py)",
        "ValueError: Model architectures ['NewForCausalLM'] are not supported for now. Supported "
        "architectures: dict_keys([])",
        "architecture",
        ("NewForCausalLM",),
        ("newer vLLM",),
    ),
    Rebuilt(
        "a shard that is missing (model_loader/default_loader.py)",
        "ValueError: Following weights were not initialized from checkpoint: "
        "{'model.layers.1.mlp.down_proj.weight'}",
        "lost-weights",
        ("model.layers.1.mlp.down_proj.weight", "shard"),
        ("copy the model",),
    ),
    Rebuilt(
        "gated (huggingface_hub)",
        "huggingface_hub.errors.GatedRepoError: 403 Client Error.\nCannot access gated repo",
        "gated",
        ("asked for it",),
        ("hf auth login",),
    ),
    Rebuilt(
        "no such model (huggingface_hub)",
        "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error.\nRepository Not Found",
        "no-model",
        ("no model",),
        ("check the name",),
    ),
    Rebuilt(
        "disk full",
        "OSError: [Errno 28] No space left on device: '/var/cache/blob.incomplete'",
        "disk",
        ("disk is full",),
        ("HF_HOME",),
    ),
    Rebuilt(
        "shared memory full",
        "OSError: [Errno 28] No space left on device: '/dev/shm/psm_1'",
        "disk",
        ("/dev/shm",),
        ("--shm-size",),
    ),
    Rebuilt(
        "a package that the model's own code needs (transformers)",
        "ImportError: This modeling file requires the following packages that were not found in "
        "your environment: tiktoken, blobfile. Run `pip install tiktoken blobfile`",
        "package",
        ("tiktoken, blobfile",),
        ("uv pip install tiktoken blobfile",),
    ),
    Rebuilt(
        "a package of vLLM",
        "ModuleNotFoundError: No module named 'flashinfer.comm'",
        "package",
        ("flashinfer",),
        ("uv pip install flashinfer",),
    ),
    Rebuilt(
        "an interface that is not there (gloo)",
        "RuntimeError: Unable to find address for: eth9",
        "network",
        ("interface",),
        ("GLOO_SOCKET_IFNAME",),
    ),
    Rebuilt(
        "a port inside (zmq)",
        "zmq.error.ZMQError: Address already in use (addr='tcp://10.0.0.1:29550')",
        "port",
        ("port 29550",),
        ("kimi serve ps",),
    ),
    Rebuilt(
        "a port among nodes (torch TCPStore)",
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local "
        "network address. port: 29501, useIpv6: false, code: -98, name: EADDRINUSE, message: "
        "address already in use",
        "master-port",
        ("29501",),
        ("--master-port 29511",),
    ),
]


def _deep(message: str) -> str:
    """The log of a worker's exception and what it brings about in the processes above."""

    def printed(process: str, level: str, text: str) -> str:
        head = f"({process}) {level} 11-22 10:00:00 [file.py:1] " if level else ""
        return "".join(f"{head}{line}\n" for line in text.split("\n"))

    trace = (
        'Traceback (most recent call last):\n  File "/opt/vllm/a.py", line 1, in main\n    run()\n'
    )
    return "".join(
        (
            printed(
                "APIServer pid=1",
                "WARNING",
                "This can cause fd limit errors like `OSError: [Errno 24] Too many open files`.",
            ),
            printed("Worker_TP3 pid=3", "ERROR", trace + message),
            printed(
                "EngineCore pid=2",
                "ERROR",
                f"{trace}Exception: WorkerProc initialization failed due to an exception in a "
                "background process. See stack trace for root cause.",
            ),
            trace,
            "RuntimeError: Engine core initialization failed. See root cause above. Failed core "
            "proc(s): {'EngineCore': 1}\n",
        )
    )


@pytest.mark.parametrize("rebuilt", REBUILT, ids=lambda rebuilt: rebuilt.name)
def test_a_message_rebuilt_from_the_source(rebuilt: Rebuilt) -> None:
    trouble = _trouble(_deep(rebuilt.raised), given=launch(*rebuilt.options))
    assert trouble.kind == rebuilt.kind, trouble
    assert [word for word in rebuilt.what if word not in trouble.what] == [], trouble.what
    assert [word for word in rebuilt.todo if word not in trouble.todo] == [], trouble.todo
    assert _set(trouble) == rebuilt.repair
    assert trouble.evidence


def test_weights_that_do_not_fit_are_told_rather_than_the_allocation() -> None:
    text = (
        "(Worker pid=3) ERROR 11-22 10:00:00 [gpu_model_runner.py:5147] Failed to load model - not "
        "enough GPU memory. Try lowering --gpu-memory-utilization to free memory for weights "
        f"(original error: {_OUT_OF_MEMORY})\n" + _deep(f"torch.OutOfMemoryError: {_OUT_OF_MEMORY}")
    )
    trouble = _trouble(text, given=launch("--tensor-parallel-size", "8"))
    assert trouble.kind == "weights-memory"
    assert "cut over 8" in trouble.what


# --- the cause, not the last line ---


def test_an_unknown_exception_is_that_of_the_innermost_process() -> None:
    trouble = _trouble(_deep("vllm.errors.OddError: the flux is reversed"))
    assert trouble.kind == "unknown"
    assert "Worker_TP3" in trouble.what
    assert "OddError: the flux is reversed" in trouble.what
    assert "kimi serve logs" in trouble.todo
    assert "not known" in trouble.todo


def test_what_an_exception_was_raised_from_is_the_cause() -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
    link = "\nThe above exception was the direct cause of the following exception:\n\n"
    trouble = _trouble(f"{trace}KeyError: 'flux'\n{link}{trace}RuntimeError: it did not work\n")
    assert "KeyError: 'flux'" in trouble.what


def test_what_came_up_while_handling_explains() -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
    link = "\nDuring handling of the above exception, another exception occurred:\n\n"
    trouble = _trouble(f"{trace}KeyError: 3\n{link}{trace}ValueError: no flux 3\n")
    assert "ValueError: no flux 3" in trouble.what


def test_the_innermost_process_comes_first_whenever_it_spoke() -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
    lines = f"{trace}OddError: of the server\n".splitlines()
    for process, what in (("EngineCore", "engine"), ("Worker_TP0", "worker"), ("APIServer", "api")):
        for text in f"{trace}OddError: of the {what}".splitlines():
            lines.append(f"({process} pid={len(what)}) ERROR 11-22 10:00:00 [a.py:1] {text}")
    assert "OddError: of the worker" in find_trouble(lines, launch(), exit_code=1).what


def test_lines_of_several_workers_that_mingle() -> None:
    first = ["Traceback (most recent call last):", '  File "a.py", line 1', "OddError: one"]
    other = ["Traceback (most recent call last):", '  File "b.py", line 2', "OddError: two"]
    lines = [
        f"(Worker pid={pid}) ERROR 11-22 10:00:00 [a.py:1] {text}"
        for pair in zip(first, other, strict=True)
        for pid, text in enumerate(pair)
    ]
    raised = read_failures(lines).raised
    assert [one.text for one in raised] == ["OddError: one", "OddError: two"]


def test_a_validation_error_is_told_in_its_own_words() -> None:
    trouble = _trouble(
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n"
        "  Value error, the flux can't be 7 [type=value_error, input_value=1, input_type=int]\n"
    )
    assert trouble.what.endswith("failed: the flux can't be 7")


def test_what_was_said_before_it_served_is_no_cause() -> None:
    text = _deep("OSError: [Errno 28] No space left on device") + (
        "INFO:     Application startup complete.\n"
    )
    assert _trouble(text, -9).kind == "killed"


def test_an_old_error_of_a_request_is_no_cause() -> None:
    text = recorded("killed_engine")
    place = text.index("\n", text.index("Application startup complete")) + 1
    old = _deep("vllm.errors.OddError: the flux is reversed").rpartition("RuntimeError")[0]
    requests = 'INFO:     127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n' * 100
    trouble = _trouble(text[:place] + old + requests + text[place:], 0)
    assert trouble.kind == "engine-died"


def test_a_lost_node_is_named() -> None:
    given = launch(hosts=("gpu1", "gpu2"))
    trouble = _trouble(recorded("lost_node_head"), 0, given)
    assert "connection to gpu2 broke" in trouble.what
    assert "kimi serve restart" in trouble.todo
    lost = _trouble(recorded("lost_node_other"), -9, given)
    assert (lost.kind, "signal 9" in lost.what) == ("killed", True)


def test_a_warning_is_no_cause() -> None:
    text = "(Worker pid=1) WARNING 11-22 10:00:00 [a.py:1] [Errno 28] No space left on device\n"
    assert _trouble(text, 1).kind == "ended"


# --- how it ended ---


@pytest.mark.parametrize(
    ("exit_code", "kind", "words"),
    [
        (-9, "killed", "memory (RAM)"),
        (137, "killed", "memory (RAM)"),
        (-15, "stopped", "signal 15"),
        (-11, "killed", "segmentation fault"),
        (-7, "killed", "/dev/shm"),
        (-4, "killed", "processor"),
        (-33, "killed", "signal 33"),
        (0, "ended", "without an error"),
        (3, "ended", "exit code 3"),
        (None, "silent", "still runs"),
    ],
)
def test_an_end_without_words(exit_code: int | None, kind: str, words: str) -> None:
    trouble = _trouble("(Worker pid=1) INFO 11-22 10:00:00 [a.py:1] all is well\n", exit_code)
    assert trouble.kind == kind
    assert words in trouble.what
    assert trouble.todo
    assert trouble.evidence == "all is well"


def test_an_engine_that_the_system_killed() -> None:
    trouble = _trouble(
        'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core "
        "proc(s): {'EngineCore': -9}\n"
    )
    assert trouble.kind == "engine-died"
    assert "signal 9" in trouble.what


def test_a_worker_that_the_system_killed() -> None:
    # The text of v1/executor/multiproc_executor.py.
    trouble = _trouble(
        "(EngineCore pid=2) ERROR 11-22 10:00:00 [multiproc_executor.py:315] Worker proc "
        "VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.\n"
        + _deep("RuntimeError: cancelled")
    )
    assert trouble.kind == "worker-died"
    assert "VllmWorker-0" in trouble.what
    assert "signal 9" in trouble.what


def test_holders_are_named() -> None:
    lines = read(recorded("port_in_use")).lines
    trouble = find_trouble(lines, launch(), exit_code=1, holders=lambda: "nginx (pid 42)")
    assert "taken by nginx (pid 42)" in trouble.what
    busy = next(one for one in REBUILT if one.name.startswith("GPU in use"))
    told = find_trouble(
        read(_deep(busy.raised)).lines, launch(), exit_code=1, holders=lambda: "python (pid 7)"
    )
    assert "python (pid 7)" in told.what


# --- repairs ---


def test_an_option_that_the_user_gave_is_not_dropped() -> None:
    given = launch(extra=("--disable-log-requests",))
    assert _trouble(recorded("unknown_flag"), given=given).repair is None


def test_a_repair_changes_the_command() -> None:
    trouble = _trouble(recorded("memory_context"))
    assert trouble.repair is not None
    before = (NodeCommand("localhost", 0, ("vllm", "serve", "m", "--max-model-len", "9"), ()),)
    assert repaired(before, trouble.repair)[0].argv[-2:] == ("--max-model-len", "2097024")


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 999), st.integers(1, 1000), st.integers(5, 99))
def test_a_share_of_the_gpu_is_free_and_smaller(free: int, total: int, share: int) -> None:
    wanted = share * total / 100
    trouble = _trouble(
        f"ValueError: Free memory on device cuda:0 ({free}.0/{total}.0 GiB) on startup is less "
        f"than desired GPU memory utilization ({share / 100}, {wanted:.2f} GiB). Decrease"
    )
    assert trouble.kind == "gpu-busy"
    if trouble.repair is not None:
        ((name, value),) = trouble.repair.set
        assert name == "--gpu-memory-utilization"
        assert value is not None
        assert float(value) * total <= free
        assert float(value) < share / 100


# --- properties ---


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=40),
            st.sampled_from(
                [line for one in REBUILT for line in _deep(one.raised).splitlines()]
                + ["Traceback (most recent call last):", "The above exception was the direct cause"]
            ),
        ),
        max_size=40,
    ),
    st.one_of(st.none(), st.integers(-300, 300)),
)
def test_there_is_a_trouble_for_every_log(lines: list[str], exit_code: int | None) -> None:
    trouble = find_trouble(lines, launch(), exit_code=exit_code)
    assert re.fullmatch(r"[a-z0-9-]+", trouble.kind)
    assert trouble.what
    assert trouble.todo
    assert len(trouble.evidence) <= 400


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(REBUILT), st.text("0123456789.-", min_size=1, max_size=30), st.randoms())
def test_no_number_upsets_it(one: Rebuilt, digits: str, chance: Random) -> None:
    text = re.sub(r"\d+", lambda found: chance.choice((found[0], digits)), _deep(one.raised))
    trouble = _trouble(text)
    assert trouble.what
    assert trouble.kind != "silent"


def test_troubles_without_a_command() -> None:
    bare = Launch("x", launch().request, (), "127.0.0.1", 1, "x", "", 0)
    for one in REBUILT:
        assert _trouble(_deep(one.raised), given=bare).kind == one.kind

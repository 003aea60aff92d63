"""Which stage of a start a line of vLLM's log belongs to, and what a silence means.

The texts are those of vLLM 0.32: v1/worker/gpu_model_runner.py and cpu_model_runner.py (loading,
graphs), compilation/backends.py and monitor.py, v1/worker/gpu_worker.py (profile),
v1/core/kv_cache_utils.py, v1/engine/core.py, entrypoints/launchers/api_server/entry.py,
model_executor/warmup/*.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kimi_cli.serve.log_lines import Bar
from kimi_cli.serve.running import LOADING, Stage
from kimi_cli.serve.wording import count

LISTENING = ("Application startup complete", "Uvicorn running on")
JOINED = "is assigned as DP rank"
LOADED = ("Loading weights took", "Model loading took")
EAGER = "disabling torch.compile"

_SIGNS: tuple[tuple[str, Stage], ...] = (
    ("Time spent downloading weights", "load"),
    ("Filesystem type for checkpoints", "load"),
    ("Prefetching checkpoint files", "load"),
    *((text, "load") for text in LOADED),
    ("Starting torch.compile", "compile"),
    ("for vLLM's torch.compile", "compile"),
    ("Dynamo bytecode transform time", "compile"),
    ("Compiling a graph for", "compile"),
    ("Directly load AOT compilation", "compile"),
    ("Directly load the compiled graph", "compile"),
    ("Warming up model for the compilation", "compile"),
    ("saved AOT compiled function", "compile"),
    ("torch.compile took", "profile"),
    ("torch.compile and initial profiling", "profile"),
    ("Initial profiling/warmup run took", "profile"),
    ("Available KV cache memory", "profile"),
    ("KV cache size:", "profile"),
    ("Profiling CUDA graph memory", "profile"),
    ("JIT kernel warmup starting", "profile"),
    ("Running FlashInfer autotune", "profile"),
    ("Graph capturing finished", "warmup"),
    ("init engine (profile, create kv cache, warmup model) took", "warmup"),
    ("Supported tasks:", "warmup"),
    ("Starting vLLM server on", "warmup"),
    *((text, "warmup") for text in LISTENING),
)
_BARS: tuple[tuple[str, Stage], ...] = (
    ("checkpoint shards", "load"),
    ("Loading", "load"),
    ("Multi-thread loading", "load"),
    ("Prefetching checkpoint files", "load"),
    ("CUDA graphs", "graphs"),
    ("graph", "graphs"),
    ("warmup", "profile"),
    ("CuTeDSL", "profile"),
    ("Fetching", "download"),
    ("Downloading", "download"),
    (".safetensors", "download"),
)
_REMINDERS = (
    "No available shared memory broadcast block",
    "Waiting for creating a placement group",
    "Waiting for in-flight",
    "[c10d] The",
    "Retrying in",
)
"""What vLLM, Ray, torch and the hub's library write while nothing moves."""

_PATIENCE: dict[Stage, float] = {
    "starting": 60.0,
    "download": 30.0,
    "load": 60.0,
    "compile": 180.0,
    "profile": 120.0,
    "graphs": 60.0,
    "warmup": 90.0,
}
_JOIN_PATIENCE = 20.0
_SLOW = 5


def later(one: Stage, other: Stage) -> Stage:
    """The one of two stages of a start that comes later."""
    return one if LOADING.index(one) >= LOADING.index(other) else other


def stage_of(text: str) -> Stage | None:
    """The stage that a line says was reached; None for most lines."""
    return _first(text, _SIGNS)


def stage_of_bar(bar: Bar) -> Stage | None:
    """The stage that draws such a bar."""
    return _first(bar.name, _BARS)


def _first(text: str, table: Iterable[tuple[str, Stage]]) -> Stage | None:
    return next((stage for part, stage in table if part in text), None)


def is_reminder(text: str) -> bool:
    """Whether the line says that something is still awaited: no sign of life."""
    return any(part in text for part in _REMINDERS)


@dataclass(frozen=True, slots=True)
class Quiet:
    """How it stands when nothing has moved for `seconds`. `bar` and `pace` (the mean seconds of
    one of its steps) are those of the stage. `last` is the text of the last line that is about
    the start. `absent` names the nodes that have to join, `master` where; `nodes` counts all.
    `placed`: one of several processes has begun to look for the others; `joined`: they have found
    each other."""

    stage: Stage
    seconds: float
    last: str = ""
    bar: Bar | None = None
    pace: float | None = None
    repo: str = ""
    here: int = 0
    weight_bytes: int = 0
    nodes: int = 1
    absent: tuple[str, ...] = ()
    master: str = ""
    placed: bool = False
    joined: bool = False


def waiting_words(quiet: Quiet) -> str:
    """What it seems to wait for, as it reads after "waiting for"; "" while that is no concern."""
    since = f"{quiet.seconds:.0f} s"
    if "Waiting for creating a placement group" in quiet.last:
        return "Ray to give it the GPUs: `ray status` shows what the cluster has"
    if "No available shared memory broadcast block" in quiet.last:
        return "a worker that is busy or hangs: vLLM has had no word from it for a minute"
    apart = quiet.placed and not quiet.joined and quiet.stage == "starting"
    if apart and quiet.nodes > 1:
        return _others(quiet, since) if quiet.seconds >= _JOIN_PATIENCE else ""
    if quiet.seconds < _patience(quiet):
        return ""
    if quiet.stage == "download":
        return _download(quiet, since)
    if quiet.bar is not None and quiet.bar.done < quiet.bar.total:
        return _step(quiet, quiet.bar, since)
    if "nccl" in quiet.last.lower() or apart:
        return (
            f"the processes to find each other, silent for {since}: NCCL_DEBUG=INFO shows over "
            "which network they try"
        )
    return _silent(quiet, since)


def _patience(quiet: Quiet) -> float:
    patience = _PATIENCE.get(quiet.stage, 0.0)
    if quiet.stage not in _PATIENCE:
        return float("inf")
    return max(patience, _SLOW * quiet.pace) if quiet.pace else patience


def _others(quiet: Quiet, since: str) -> str:
    who = ", ".join(quiet.absent) or count(quiet.nodes - 1, "other node")
    where = f" at {quiet.master}" if quiet.master else ""
    return f"{who} to join{where}, for {since}: is it started, and may it reach this computer?"


def _download(quiet: Quiet, since: str) -> str:
    what = f"the download of {quiet.repo}" if quiet.repo else "the download"
    of = f" of {quiet.weight_bytes / 1e9:,.1f}" if quiet.weight_bytes else ""
    return f"{what}: no byte for {since}, {quiet.here / 1e9:,.1f}{of} GB are here"


def _step(quiet: Quiet, bar: Bar, since: str) -> str:
    pace = f"; the ones before took {quiet.pace:,.0f} s each" if quiet.pace else ""
    number = f"{bar.done + 1:.0f} of {bar.total:.0f}"
    if quiet.stage == "load":
        return f"shard {number} from the disk, for {since}{pace}"
    return f"step {number} of {bar.name or quiet.stage}, for {since}{pace}"


def _silent(quiet: Quiet, since: str) -> str:
    if quiet.stage == "starting" and "Starting to load model" in quiet.last:
        return f"the weights, silent for {since}: a download shows nothing, nor does a slow disk"
    if quiet.stage == "starting":
        return f"vLLM to get going, silent for {since}: its libraries come from a slow disk?"
    if quiet.stage == "load":
        return f"the weights to get into place, silent for {since}"
    if quiet.stage == "compile":
        return (
            f"torch.compile, silent for {since}: the first start of a model takes minutes, the "
            "next finds it in the cache"
        )
    if quiet.stage == "warmup":
        return f"the engine's first answer, silent for {since}"
    return f"the engine to measure its memory, silent for {since}"

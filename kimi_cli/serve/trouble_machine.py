"""Troubles with GPUs, drivers, several nodes and processes that were killed. The texts are those of
vllm/platforms/cuda.py, config/{parallel,device,vllm,model}.py, v1/executor/*.py, v1/engine/*.py,
PyTorch and NCCL."""

from __future__ import annotations

import re

from kimi_cli.serve.running import Repair
from kimi_cli.serve.trouble_case import Case, Row, Told, fixed, row
from kimi_cli.serve.wording import count

_KILLED = 9
_DEATHS = {
    4: (
        "by an instruction that this processor does not have",
        "this build of vLLM is for other processors: install one that fits this computer",
    ),
    6: ("by itself (abort)", "the lines of the log before that say why: kimi serve logs"),
    7: (
        "by a bus error: most often the shared memory (/dev/shm) is full",
        "make /dev/shm larger (in a container: --shm-size=16g or --ipc=host)",
    ),
    11: (
        "by a segmentation fault, a mistake in vLLM or a library of it",
        "a newer vLLM or GPU driver may mend it; the log has the last lines: kimi serve logs",
    ),
}


def death(number: int, who: str, served: bool) -> Told:
    """What it means that the signal ended `who`; `served`: it had taken requests before."""
    when = "" if served else " while starting"
    if number == _KILLED:
        return Told(
            f"{who} was killed from outside{when} (signal 9): most often the system does that when "
            "the computer's memory (RAM) is used up",
            "`dmesg | grep -i 'killed process'` tells whether it was that; then more memory, a "
            "smaller model or a smaller context",
        )
    if number in (2, 15):
        return Told(
            f"{who} was told to stop from outside{when} (signal {number})", "start it again"
        )
    why, todo = _DEATHS.get(number, (f"by signal {number}", "kimi serve logs shows its last lines"))
    return Told(f"{who} was ended{when} {why}", todo)


def _worker_died(found: re.Match[str], case: Case) -> Told:
    code = int(found[2][:8])
    name = f"a worker of vLLM ({found[1]})"
    if code < 0:
        return death(-code, name, served=False)
    return Told(f"{name} ended by itself with exit code {code}", "kimi serve logs shows why")


def _core_died(found: re.Match[str], case: Case) -> Told:
    return death(int(found[1][:4]), "vLLM's engine", served=False)


def _engine_gone(found: re.Match[str], case: Case) -> Told:
    if case.nodes > 1:
        return Told(
            f"vLLM's engine stopped working: a process of it is gone, here or on {case.others()}",
            f"look whether {case.others()} runs and can be reached, then {case.again()}",
        )
    return Told(
        "vLLM's engine process vanished without a word, as when something kills it: most often "
        "the system does, when the computer's memory (RAM) is used up",
        f"`dmesg | grep -i 'killed process'` tells whether it was that; then {case.again()}",
    )


def _peer_lost(found: re.Match[str], case: Case) -> Told:
    return Told(
        f"the connection to {case.others() if case.nodes > 1 else 'another process'} broke",
        "look whether it still runs and why it ended (kimi serve logs), then: kimi serve restart",
    )


def _world(found: re.Match[str], case: Case) -> Told:
    world, here = int(found[1]), int(found[2])
    few = case.again("--tensor-parallel", str(here)) if here else case.again()
    return Told(
        f"the plan is for {count(world, 'GPU')}, and vLLM sees {here} here",
        f"{few}, or name the other computers with --nodes; CUDA_VISIBLE_DEVICES may hide some",
    )


def _no_device(found: re.Match[str], case: Case) -> Told:
    return Told(
        "vLLM sees no GPU here: the driver is missing or not loaded, or this is a build of vLLM "
        "for something else",
        "`nvidia-smi` (or `amd-smi list`) must show the GPUs; in a container start it with "
        "--gpus all",
    )


def _bfloat(found: re.Match[str], case: Case) -> Told:
    return Told(
        "these GPUs are too old for bfloat16 numbers; float16 works",
        case.again("--", "--dtype", "half"),
        Repair((("--dtype", "half"),), "numbers as float16: these GPUs have no bfloat16"),
    )


def _quantisation(found: re.Match[str], case: Case) -> Told:
    numbers = ""
    if found[2] and found[3]:
        numbers = f": it needs capability {_dotted(found[2])}, they have {_dotted(found[3])}"
    name = f" ({found[1]})" if found[1] else ""
    return Told(
        f"these GPUs can't compute with this quantisation{name}{numbers}",
        f"other weights of the model: {case.again('--variant', 'NAME')}; `kimi serve plan "
        f"{case.launch.request.model}` lists them",
    )


def _dotted(capability: str) -> str:
    return f"{capability[:-1]}.{capability[-1]}" if len(capability) > 1 else capability


def _attention(found: re.Match[str], case: Case) -> Told:
    dtype = case.option("--kv-cache-dtype")
    backend = case.option("--attention-backend")
    what = "vLLM has no way to compute attention for this model with these settings on these GPUs"
    if dtype and dtype != "auto":
        return Told(
            f"{what} (cache as {dtype})",
            case.again("--kv-dtype", "auto"),
            Repair((("--kv-cache-dtype", "auto"),), f"cache as the model has it, not {dtype}"),
        )
    if backend:
        return Told(f"{what} (backend {backend})", f"without {backend}: {case.again()}")
    return Told(what, "a newer vLLM, or another model")


def _heads(found: re.Match[str], case: Case) -> Told:
    heads, cut = int(found[1]), int(found[2])
    fits = next((n for n in range(max(1, cut - 1), 0, -1) if heads % n == 0), 1)
    return Told(
        f"{heads} attention heads can't be cut over {cut} GPUs",
        case.again("--tensor-parallel", str(fits)),
    )


def _package(found: re.Match[str], case: Case) -> Told:
    names = (found[1] or found[2].partition(".")[0]).replace(",", " ").split()
    return Told(
        f"a Python package is missing where vLLM is: {', '.join(names)}",
        f"into vLLM's environment: uv pip install {' '.join(names)}",
    )


def _timeout(found: re.Match[str], case: Case) -> Told:
    seconds = int(found[1] or 600)
    return Told(
        f"the model was not loaded within the {seconds:,} s that vLLM waits for it",
        f"VLLM_ENGINE_READY_TIMEOUT_S={max(3600, 2 * seconds)} {case.again()}; a faster disk "
        "helps as well",
    )


def _join(found: re.Match[str], case: Case) -> Told:
    joined = f": {found[1]} of {found[2]} processes came" if found[1] else ""
    return Told(
        f"{case.others()} did not join in time{joined}",
        "is the same command with its own --node-rank started on each, and do firewalls let "
        f"port {case.option('--master-port') or '29501'} through? GLOO_SOCKET_IFNAME and "
        "NCCL_SOCKET_IFNAME name the network interface",
    )


def _placement(found: re.Match[str], case: Case) -> Told:
    many = f"{found[1]} GPUs" if found[1] else "the GPUs"
    return Told(
        f"the Ray cluster did not give {many} in time",
        "`ray status` shows what it has; start Ray on the missing nodes, or a smaller "
        f"{case.again('--tensor-parallel', 'N')}",
    )


_NCCL = fixed(
    "the GPUs could not talk to each other (NCCL)",
    "NCCL_DEBUG=INFO before the command shows what it tried; often NCCL_SOCKET_IFNAME must name "
    "the network interface, or /dev/shm is too small (--shm-size=16g)",
)
_INTERFACE = fixed(
    "there is no network interface of the name that is set",
    "`ip -br address` lists them; GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name the one between "
    "the nodes",
)
_DRIVER = fixed(
    "the GPU driver is too old for this vLLM",
    "update the driver, or install a vLLM built for an older CUDA (uv pip install vllm "
    "--torch-backend=auto)",
)
_BUILD = fixed(
    "this build of vLLM does not suit this computer's GPUs or libraries",
    "install vLLM anew: uv pip install vllm --torch-backend=auto",
)

MACHINE: tuple[Row, ...] = (
    row(
        "gpus",
        r"World size \((\d{1,6})\) is larger than the number of available GPUs \((\d{1,6})\)",
        _world,
    ),
    row(
        "driver", r"NVIDIA driver on your system is too old|driver version is insufficient", _DRIVER
    ),
    row(
        "no-gpu",
        r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA",
        _no_device,
    ),
    row("bfloat16", r"Bfloat16 is only supported on GPUs", _bfloat),
    row(
        "quantisation",
        r"[Qq]uantization (?:method|scheme) ?([\w-]*) ?is not supported for the current GPU\."
        r"(?: Minimum capability: (\d+)\. Current capability: (\d+))?",
        _quantisation,
    ),
    row("attention", r"No valid attention backend found for", _attention),
    row(
        "heads",
        r"attention heads \((\d{1,6})\) must be divisible by tensor parallel size \((\d{1,6})\)",
        _heads,
    ),
    row(
        "build",
        r"no kernel image is available|undefined symbol: |cannot open shared object",
        _BUILD,
    ),
    row(
        "compiler",
        r"Failed to find C compiler|Could not find nvcc|Python\.h: No such file",
        fixed(
            "a C compiler or Python's headers are missing, which vLLM needs to build its kernels",
            "install them (Debian: apt install build-essential python3-dev), then start it again",
        ),
    ),
    row(
        "package",
        r"packages that were not found in your environment: ([\w, .-]+?)(?:\. Run|\n|$)"
        r"|No module named '(?!ray')([\w.]+)'",
        _package,
    ),
    row(
        "no-ray",
        r"Failed to import Ray|No module named 'ray'",
        fixed(
            "Ray is not installed where vLLM is; vLLM does not bring it",
            "uv pip install 'ray[default]' into vLLM's environment, on every node; or start "
            "without --ray",
        ),
    ),
    row("ray", r"Cannot provide a placement group (?:requiring (\d+) GPUs)?", _placement),
    row(
        "load-timeout",
        r"Timed out waiting for engine core processes(?:.*?Waited (\d{1,7}))?",
        _timeout,
    ),
    row("join", r"Timed out after \d+ seconds waiting for clients\. (\d+)/(\d+) clients", _join),
    row("join", r"client socket has timed out(?:()()) after \d+ms while trying to connect", _join),
    row("join", r"connectFullMesh failed(?:()())", _join),
    row("network", r"Unable to find (?:address|interface)|no socket interface found", _INTERFACE),
    row("nccl", r"NCCL error|nccl(?:Internal|System|UnhandledCuda|Remote|InvalidUsage)\w*", _NCCL),
    row(
        "files",
        r"\[Errno 24\]",
        fixed(
            "too many files are open at once",
            "raise the limit in this terminal, then start it again: ulimit -n 65535",
        ),
    ),
)

DEATHS: tuple[Row, ...] = (
    row(
        "worker-died",
        r"Worker proc (\S+) died unexpectedly \(exit code: (-?\d+)\)",
        _worker_died,
    ),
    row("engine-died", r"Failed core proc\(s\): \{'[^']+': -(\d+)", _core_died),
    row(
        "node-lost",
        r"Connection (?:closed|reset) by peer|Socket closed|recvValue failed|Broken pipe \[",
        _peer_lost,
    ),
    row(
        "engine-died",
        r"engine core exited unexpectedly|EngineCore encountered an issue|EngineDeadError",
        _engine_gone,
        anywhere=True,
    ),
    row(
        "stopped",
        r"API server: shutdown triggered|EngineCore: trigger received signal=SIG(?:TERM|INT)",
        fixed("vLLM was told to stop from outside", "start it again: kimi serve restart"),
        anywhere=True,
    ),
)
"""Looked for after everything else: a process is gone, and its own words, if any, say why."""

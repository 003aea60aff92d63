"""Troubles with the model's files and with getting them. The texts are those of transformers,
huggingface_hub, safetensors and vllm/model_executor/{models/registry,model_loader}/*.py."""

from __future__ import annotations

import re

from kimi_cli.serve.trouble_case import Case, Row, Told, row


def _is_folder(case: Case) -> bool:
    repo = case.launch.repo or case.launch.request.model
    return repo.startswith(("/", "./", "../", "~"))


def _fetch(case: Case) -> str:
    """How to get the files anew."""
    repo = case.launch.repo or case.launch.request.model
    if _is_folder(case):
        return f"copy the model into {repo} again, all of its files"
    return f"fetch it again: hf download {repo}"


def _damaged(found: re.Match[str], case: Case) -> Told:
    return Told(
        "a weights file is damaged or was not copied to its end (safetensors: "
        f"{found[1].strip() or 'unreadable'})",
        _fetch(case),
    )


def _no_weights(found: re.Match[str], case: Case) -> Told:
    return Told(f"there are no weights in {found[1]}", _fetch(case))


def _lost_file(found: re.Match[str], case: Case) -> Told:
    name = found[1].rpartition("/")[2]
    return Told(f"the weights file {name} is missing", _fetch(case))


def _lost_weights(found: re.Match[str], case: Case) -> Told:
    names = re.findall(r"'([^']+)'", found[1])
    which = f", {names[0]} among them" if names else ""
    return Told(
        f"some of the model's weights are in none of its files{which}: a shard is missing, or the "
        "config.json is of another model",
        _fetch(case),
    )


def _no_config(found: re.Match[str], case: Case) -> Told:
    return Told("the model's config.json is missing or can't be read", _fetch(case))


def _own_code(found: re.Match[str], case: Case) -> Told:
    return Told(
        "the model comes with Python code of its own, and that has not been allowed to run",
        f"only if you trust its source: {case.again('--', '--trust-remote-code')}",
    )


def _architecture(found: re.Match[str], case: Case) -> Told:
    version = f" {case.launch.vllm_version}" if case.launch.vllm_version else ""
    return Told(
        f"vLLM{version} can't run models of the kind {found[1].strip()}",
        "a newer vLLM may: uv pip install -U vllm; or another model "
        "(`kimi serve plan` lists those that are known)",
    )


def _shape(found: re.Match[str], case: Case) -> Told:
    return Told(
        "the weights don't have the shape that config.json says: files of two models are mixed",
        _fetch(case),
    )


def _gated(found: re.Match[str], case: Case) -> Told:
    return Told(
        f"{case.launch.repo} is given out only to those who have asked for it",
        "ask for access on the model's page, then `hf auth login` (or set HF_TOKEN) and "
        f"{case.again()}",
    )


def _nowhere(found: re.Match[str], case: Case) -> Told:
    return Told(
        f"there is no model {case.launch.repo} on the hub, or it is private",
        "check the name; for a private one `hf auth login` first; for a folder give its path "
        "(./NAME)",
    )


def _offline(found: re.Match[str], case: Case) -> Told:
    return Told(
        f"{case.launch.repo} is not on this computer, and the hub can't be reached (or "
        "HF_HUB_OFFLINE forbids it)",
        f"with a network: hf download {case.launch.repo}; or give the path of a folder that has it",
    )


def _disk(found: re.Match[str], case: Case) -> Told:
    size = case.launch.weight_bytes
    needs = f"; the weights take {size / 1e9:,.0f} GB" if size else ""
    if "/dev/shm" in found.string:
        return Told(
            "the shared memory (/dev/shm) is full, over which vLLM's processes talk",
            "make it larger (in a container: --shm-size=16g or --ipc=host)",
        )
    return Told(
        f"the disk is full{needs}",
        "free some space, or put the cache elsewhere: HF_HOME=/big/disk " + case.again(),
    )


def _tokenizer(found: re.Match[str], case: Case) -> Told:
    return Told("the model's tokenizer is missing or can't be read", _fetch(case))


MODEL: tuple[Row, ...] = (
    row("disk", r"\[Errno 28\]|No space left on device", _disk),
    row("gated", r"GatedRepoError|Cannot access gated repo|access a gated repo", _gated),
    row(
        "own-code",
        r"contains custom code which must be executed|consider setting `?trust_remote_code"
        r"|[Pp]lease pass the argument `trust_remote_code=True`",
        _own_code,
    ),
    row(
        "offline",
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|[Cc]ouldn't connect to '?http"
        r"|Cannot (?:find|reach) .{0,60}offline|outgoing traffic has been disabled",
        _offline,
    ),
    row("no-config", r"Invalid repository ID or local directory specified:\s*'[./~]", _no_config),
    row(
        "no-model",
        r"RepositoryNotFoundError|Repository Not Found for url|is not a valid model identifier"
        r"|Invalid repository ID or local directory",
        _nowhere,
    ),
    row(
        "architecture",
        r"Model architectures \[([^\]]*)\] (?:are not supported|failed)",
        _architecture,
    ),
    row(
        "architecture",
        r"model type `?([\w-]+)`? but Transformers does not recognize this architecture",
        _architecture,
    ),
    row(
        "no-config",
        r"does not appear to have a file named config\.json|Unrecognized model in"
        r"|Failed to load the model config|config\.json' is not a valid JSON",
        _no_config,
    ),
    row(
        "damaged-weights",
        r"SafetensorError: (?:Error while deserializing[^:]*: )?([^\n]*)",
        _damaged,
    ),
    row("no-weights", r"Cannot find any model weights with [`']?([^`'\n]+)", _no_weights),
    row(
        "lost-weights",
        r"No such file or directory: \"?'?([^'\"\n]*\.(?:safetensors|bin|pt))",
        _lost_file,
    ),
    row("lost-weights", r"weights were not initialized from\s+checkpoint: ([^\n]*)", _lost_weights),
    row(
        "wrong-weights",
        r"size mismatch for|There is no module or parameter named|Attempted to load weight"
        r"|param_data\.shape == loaded_weight\.shape|must match the size of tensor",
        _shape,
    ),
    row(
        "tokenizer",
        r"Can't load tokenizer|Couldn't instantiate the backend tokenizer"
        r"|does not appear to have a file named tokenizer",
        _tokenizer,
    ),
)

"""The facts of a model: from its own files where they are here, else the catalogue's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from kimi_cli.serve import read_config
from kimi_cli.serve.catalogue import UnknownModel, find_model
from kimi_cli.serve.facts import KvShape, ModelFacts, Needs, Variant
from kimi_cli.serve.local_files import (
    CONFIG,
    ReadError,
    Weights,
    cached,
    model_folder,
    read_json,
    weights,
)
from kimi_cli.serve.parsers import parsers_of

BLACKWELL = Needs(capability="10.0", why="NVFP4 is computed by Blackwell GPUs")
LARGE = 300_000_000_000
LARGE_OVERHEAD = 10 << 30
"""Models of a checkpoint this large need about so much a GPU for activations and CUDA, smaller ones
what ModelFacts says by default: a rule of thumb."""


def read_model(name: str, env: Mapping[str, str]) -> ModelFacts:
    """The facts of the model that a folder, an id at Hugging Face or a name of the catalogue means.

    Nothing is downloaded. Raises UnknownModel for a name that means nothing, ReadError for files
    that can't be read or planned with.
    """
    known = _bare(name)
    folder = None if known else model_folder(name, env)
    if folder is None:
        found = _with_cached_sizes(known or find_model(name), env)
        if (Path(name) / CONFIG).is_file():
            found = replace(found, notes=(*found.notes, f"./{name} would mean the folder here"))
        return found
    # A path says where vLLM finds it; an id, which vLLM looks up in the same cache, stays one.
    is_id = cached(name, env) == folder
    folder = folder.absolute()
    config = read_json(folder / CONFIG)
    repo = name if is_id else str(folder)
    found = _read(repo, folder, config)
    known = _catalogued(name, folder, config)
    return found if known is None or not _alike(known, found) else _joined(known, found, repo)


def _bare(name: str) -> ModelFacts | None:
    """The catalogue's model that a name without any path means. It comes before a folder of that
    name: one could have been put into a project, with code of its own."""
    try:
        return None if "/" in name or "\\" in name else find_model(name)
    except UnknownModel:
        return None


def _with_cached_sizes(known: ModelFacts, env: Mapping[str, str]) -> ModelFacts:
    """The catalogue's facts with the sizes of those variants that are in Hugging Face's cache."""
    variants, notes = [], list(known.notes)
    for variant in known.variants:
        folder = cached(variant.repo, env)
        size = _size(folder) if folder else None
        if size is None or not size.bytes:
            variants.append(variant)
            continue
        state = "is" if size.complete else "is partly"
        notes.append(f"{variant.repo} {state} in the cache of Hugging Face")
        variants.append(_sized(variant, size, f"the files in {folder}"))
    return replace(known, variants=tuple(variants), notes=tuple(notes))


def _size(folder: Path) -> Weights | None:
    try:
        return weights(folder)
    except ReadError:
        return None


def _sized(variant: Variant, size: Weights, source: str) -> Variant:
    return replace(variant, weight_bytes=size.bytes, weights_known=True, source=source)


def _read(repo: str, folder: Path, config: Mapping[str, Any]) -> ModelFacts:
    """The facts as far as the files alone tell them. Raises ReadError."""
    text = read_config.text_part(config)
    size = weights(folder)
    if not size.bytes:
        raise ReadError(f"{folder} has no weights whose size can be read (*.safetensors)")
    try:
        shape = read_config.kv_shape(text)
        layers, heads = read_config.layers(text), read_config.heads(text)
        longest = read_config.max_context(text)
    except read_config.ConfigError as error:
        raise ReadError(f"{folder}: {error}") from None
    kind = read_config.quantisation(config)
    tool, reasoning, notes = parsers_of(str(config.get("model_type", "")), _template(folder))
    if not size.complete:
        notes = (*notes, f"not all of its weights are in {folder}")
    return ModelFacts(
        id=Path(repo).name,
        name=Path(repo).name,
        variants=(
            Variant(
                repo=repo,
                quantisation=kind,
                weight_bytes=size.bytes,
                min_vllm="",
                needs=BLACKWELL if kind == "nvfp4" else Needs(),
                source=f"the files in {folder}",
            ),
        ),
        layers=layers,
        heads=heads,
        kv=shape,
        max_context=longest,
        experts=read_config.experts(text),
        overhead_bytes=LARGE_OVERHEAD if size.bytes > LARGE else 4 << 30,
        tool_parser=tool,
        reasoning_parser=reasoning,
        thinking="always" if reasoning else "none",
        inputs=("text", "image") if read_config.sees(config) else ("text",),
        trust_remote_code=read_config.runs_own_code(config),
        notes=notes,
        estimated=("what activations and CUDA take on each GPU",),
        source=str(folder / CONFIG),
    )


def _template(folder: Path) -> str:
    """The chat template; "" when there is none to read."""
    with suppress(OSError):
        return (folder / "chat_template.jinja").read_text("utf-8", "replace")
    try:
        found = read_json(folder / "tokenizer_config.json").get("chat_template", "")
    except ReadError:
        return ""
    return found if isinstance(found, str) else str(found)


def _catalogued(name: str, folder: Path, config: Mapping[str, Any]) -> ModelFacts | None:
    """The catalogue's entry that one of the names of a folder means."""
    for one in (name, str(config.get("_name_or_path") or ""), folder.name):
        if not one:
            continue
        try:
            return find_model(one)
        except UnknownModel:
            continue
    return None


def _alike(known: ModelFacts, found: ModelFacts) -> bool:
    """Whether both are of one architecture, so that what the catalogue says holds."""
    return _form(known) == _form(found)


def _form(model: ModelFacts) -> tuple[object, ...]:
    kv: KvShape = model.kv
    return (model.layers, model.heads, model.experts, kv.kind, kv.layers, kv.width, kv.kv_heads)


def _joined(known: ModelFacts, found: ModelFacts, repo: str) -> ModelFacts:
    """The catalogue's facts with what the files tell: sizes, context, and for a folder where to
    load it from."""
    (own,) = found.variants
    size = Weights(own.weight_bytes, True)
    variants = tuple(
        _sized(one, size, own.source) if one.repo == repo else one for one in known.variants
    )
    if not any(one.repo == repo for one in known.variants):
        like = [one for one in known.variants if one.quantisation == own.quantisation]
        base = like[0] if like else own
        variants = (_sized(replace(base, repo=repo), size, own.source),)
    return replace(
        known,
        variants=variants,
        kv=found.kv,
        max_context=found.max_context,
        notes=(*known.notes, *(note for note in found.notes if "weights" in note)),
        source=found.source,
    )

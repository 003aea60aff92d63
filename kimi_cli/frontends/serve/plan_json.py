"""A plan, or why there is none, as JSON has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kimi_cli.frontends.serve.plan_view import Asked
from kimi_cli.serve.facts import Machine, ModelFacts, NodeCommand, NoPlan, Plan
from kimi_cli.serve.install import Install


def result_fields(
    result: Plan | NoPlan, asked: Asked, notes: Sequence[str], install: Install | None
) -> dict[str, Any]:
    """The plan, or why there is none: sizes in bytes, lengths in tokens. docs/serve.md says what
    each field means."""
    if isinstance(result, NoPlan):
        return _no_plan_fields(result, asked, notes)
    return {**_plan_fields(result, notes), "install": install_fields(install)}


def install_fields(install: Install | None) -> dict[str, Any] | None:
    """How vLLM gets here; None where it is."""
    return None if install is None else asdict(install)


def _plan_fields(plan: Plan, notes: Sequence[str]) -> dict[str, Any]:
    layout = plan.layout
    return {
        "fits": True,
        "model": _model(plan.model),
        "variant": {
            "repo": plan.variant.repo,
            "quantisation": plan.variant.quantisation,
            "weight_bytes": plan.variant.weight_bytes,
            "min_vllm": plan.variant.min_vllm,
            "source": plan.variant.source,
        },
        "machine": _machine(plan.machine),
        "parallel": {
            "tensor": layout.tensor,
            "pipeline": layout.pipeline,
            "data": layout.data,
            "expert": layout.expert_ranks,
            "decode_context": layout.decode_context,
        },
        "context": plan.context,
        "tokens": plan.tokens,
        "sessions": plan.sessions,
        "kv_cache_dtype": plan.kv_dtype,
        "kv_bytes_per_token": plan.kv_token_bytes,
        "kv_bytes_per_token_per_gpu": plan.kv_token_gpu_bytes,
        "gpu_memory_utilization": plan.utilisation,
        "memory": [asdict(row) for row in plan.memory],
        "reasons": [asdict(reason) for reason in plan.reasons],
        "flags": [asdict(flag) for flag in plan.flags],
        "options": [asdict(option) for option in plan.options],
        "commands": [_command(one) for one in plan.commands],
        "notes": [*plan.notes, *notes],
        "estimated": list(plan.estimated),
    }


def _no_plan_fields(refused: NoPlan, asked: Asked, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "fits": False,
        "model": _model(refused.model),
        "machine": _machine(refused.machine),
        "short_by_bytes": refused.short_by_bytes,
        "why": refused.why,
        "ways": [
            {
                "kind": way.kind,
                "text": way.text,
                "command": asked.command(way) if way.options else None,
            }
            for way in refused.ways
        ],
        "notes": list(notes),
    }


def _model(model: ModelFacts) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "max_context": model.max_context,
        "layers": model.layers,
        "heads": model.heads,
        "experts": model.experts,
        "thinking": model.thinking,
        "inputs": list(model.inputs),
        "tool_parser": model.tool_parser or None,
        "reasoning_parser": model.reasoning_parser or None,
        "source": model.source,
    }


def _machine(machine: Machine) -> dict[str, Any]:
    return {
        "described": machine.described,
        "nodes": [asdict(node) for node in machine.nodes],
    }


def _command(one: NodeCommand) -> dict[str, Any]:
    return {
        "host": one.host,
        "rank": one.rank,
        "argv": list(one.argv),
        "environment": [asdict(variable) for variable in one.environment],
    }

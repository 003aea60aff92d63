"""The settings in force as people and programs see them: each value with where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from kimi_cli.settings.keys import dotted, flatten

if TYPE_CHECKING:
    from kimi_cli.settings import Loaded

Row = Mapping[str, Any]


def setting_rows(loaded: Loaded) -> dict[str, Row]:
    """``value``, ``source`` and ``detail`` of each setting, by its dotted key; keys are masked."""
    values = {dotted(key): value for key, value in flatten(loaded.settings.model_dump()).items()}
    return {
        key: {"value": _shown(values[key]), "source": source.kind, "detail": source.detail}
        for key, source in loaded.sources.items()
    }


def setting_lines(rows: Mapping[str, Row]) -> Iterator[str]:
    """``model = "kimi-k2.5"  # default`` for each row."""
    for key, row in rows.items():
        source = " ".join(filter(None, (row["source"], row["detail"])))
        yield f"{key} = {value_text(row)}  # {source}"


def value_text(row: Row) -> str:
    """The value as TOML writes it."""
    # JSON's form is TOML's too, for all types that we have.
    return (
        "(not set)" if row["value"] in (None, "") else json.dumps(row["value"], ensure_ascii=False)
    )


def masked(secret: str) -> str:
    """A secret as it may be shown: enough to recognise a long one, nothing of a short one."""
    if len(secret) < 16:
        return "…" if secret else ""
    return f"{'sk-' if secret.startswith('sk-') else ''}…{secret[-4:]}"


def _shown(value: Any) -> Any:
    return masked(value.get_secret_value()) if isinstance(value, SecretStr) else value

"""The todo tool, and what all the tools cost in the prompt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from kimi_cli.protocol.tools import schema_of
from kimi_cli.tools.registry import default_tools
from kimi_cli.tools.todo import TodoParams, TodoTool
from tests.support.workspace import PlainContext, PlainWorkspace


def test_the_list_is_replaced_and_counted(tmp_path: Path) -> None:
    params = TodoParams.model_validate(
        {
            "items": [
                {"text": "read", "status": "done"},
                {"text": "write", "status": "in_progress"},
                {"text": "test"},
            ]
        }
    )
    output = asyncio.run(TodoTool().run(params, PlainContext(PlainWorkspace(tmp_path))))
    assert output.text == "3 items: 1 done, 1 in progress, 1 pending"
    assert output.data["todos"] == [
        {"text": "read", "status": "done"},
        {"text": "write", "status": "in_progress"},
        {"text": "test", "status": "pending"},
    ]
    assert list(TodoTool().intents(params, PlainWorkspace(tmp_path))) == []


def test_an_empty_list(tmp_path: Path) -> None:
    output = asyncio.run(
        TodoTool().run(TodoParams(items=[]), PlainContext(PlainWorkspace(tmp_path)))
    )
    assert (output.text, output.data) == ("no items", {"todos": []})


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(ValidationError, match="status"):
        TodoParams.model_validate({"items": [{"text": "x", "status": "started"}]})


def properties(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for value in schema.get("properties", {}).values():
        yield value
        yield from properties(value)
        yield from properties(value.get("items", {}))


def test_the_tools_are_cheap_and_every_property_has_a_type() -> None:
    tools = default_tools()
    assert [tool.name for tool in tools] == [
        "shell", "read", "write", "edit", "grep", "glob", "todo",
    ]  # fmt: skip
    for tool in tools:
        schema = schema_of(tool.params)
        found = list(properties(schema))
        assert found and all("type" in value for value in found)
        text = json.dumps([tool.name, tool.description, schema], separators=(",", ":"))
        # About four characters a token.
        assert len(text) < (1_120 if tool.name == "edit" else 880), (tool.name, len(text))
        for noise in ("$defs", "$ref", "title", "anyOf", "additionalProperties", "default"):
            assert f'"{noise}"' not in text


class Leaf(BaseModel):
    """Not for the model."""

    size: int | None = None


class Tree(BaseModel):
    leaf: Leaf
    leaves: list[Leaf] = []
    title: str = "x"
    either: int | str = 1


class Endless(BaseModel):
    inner: list[Endless] = []


def test_schemas_are_inlined() -> None:
    leaf = {"type": "object", "properties": {"size": {"type": "integer"}}}
    assert schema_of(Tree) == {
        "type": "object",
        "properties": {
            "leaf": leaf,
            "leaves": {"type": "array", "items": leaf},
            "title": {"type": "string"},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        },
        "required": ["leaf"],
    }
    with pytest.raises(ValueError, match="contains itself"):
        schema_of(Endless)
    ready = {"type": "object", "properties": {"x": {"type": "string", "title": "X"}}}
    assert schema_of(ready) == ready

"""The tools and prompts that have to bring a call, each for one thing that servers get wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TEXT: dict[str, Any] = {"type": "string"}
_WHOLE: dict[str, Any] = {"type": "integer"}

LONG_LINES = 160
LONG_TEXT = "".join(
    f"{number:03d} the quick brown fox jumps over a lazy dog, then rests\n"
    for number in range(1, LONG_LINES + 1)
)
"""Above 8 KiB: vLLM once cut longer arguments (vllm#34442)."""
UNICODE_TEXT = "Größe: 10 °C, naïve café, 中文字符, кириллица, ✓, 🦊👩‍💻"
CODE_TEXT = 'path = "C:\\new\\table"\nprint(f\'{path}\\t"ok"\')  # {"a": [1]}\n'


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool as it is offered."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def document(self, strict: bool = False) -> dict[str, Any]:
        """As an entry of `tools`; `strict` has the server hold the arguments to the schema."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
            **({"strict": True} if strict else {}),
        }
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt that has to bring a call of `tools[0]`, with the arguments `want`. `output` is
    about how many tokens the call takes."""

    name: str
    prompt: str
    tools: tuple[Tool, ...]
    want: Mapping[str, Any]
    output: int = 80


def _object(required: tuple[str, ...] | None = None, **properties: Any) -> dict[str, Any]:
    """A closed object; all properties are required unless told otherwise."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


LOOK_UP = Tool(
    "look_up",
    "Looks up what is kept under a number.",
    _object(number={"type": "integer", "description": "The number."}),
)
WEATHER = Tool("get_weather", "Tells the weather in one city.", _object(city=_TEXT))
_WRITE = Tool("write_file", "Writes a file.", _object(path=_TEXT, content=_TEXT))
_ORDER = Tool(
    "create_order",
    "Creates an order.",
    _object(
        customer=_object(name=_TEXT, address=_object(street=_TEXT, city=_TEXT, postcode=_TEXT)),
        items={
            "type": "array",
            "minItems": 1,
            "items": _object(sku=_TEXT, quantity={"type": "integer", "minimum": 1}),
        },
    ),
)
_MODE = Tool(
    "set_mode",
    "Sets how a machine runs.",
    _object(
        mode={"type": "string", "enum": ["eco", "normal", "turbo"]},
        level={"type": "integer", "enum": [1, 2, 3]},
    ),
)
_SEARCH = Tool(
    "search",
    "Searches documents. Leave out what was not asked for.",
    _object(("query",), query=_TEXT, limit=_WHOLE, language=_TEXT, exact={"type": "boolean"}),
)
_REMIND = Tool(
    "add_reminder",
    "Adds a reminder.",
    _object(
        title=_TEXT,
        days={"type": "array", "items": {"type": "string", "enum": ["mon", "tue", "wed", "thu"]}},
        hour={"type": "number"},
        repeat={"type": "boolean"},
        until={"anyOf": [{"type": "string"}, {"type": "null"}]},
    ),
)
_SCORES = Tool(
    "set_scores",
    "Sets the scores of players, by name.",
    _object(scores={"type": "object", "additionalProperties": {"type": "integer"}}),
)
_MOVE = Tool("move", "Moves the arm, in millimetres.", _object(x={"type": "number"}, y=_WHOLE))
_USERS = Tool("list_users", "Lists all users.", {"type": "object", "properties": {}})
_OTHERS = tuple(
    Tool(f"{verb}_{thing}", f"{verb.capitalize()}s a {thing}.", _object(name=_TEXT))
    for verb in ("open", "close", "lock", "archive")
    for thing in ("ticket", "branch", "account")
)

CASES: tuple[Case, ...] = (
    Case("simple", "Use get_weather to find the weather in Paris.", (WEATHER,), {"city": "Paris"}),
    Case(
        "enums",
        "Use set_mode: the mode is turbo, the level is 3.",
        (_MODE,),
        {"mode": "turbo", "level": 3},
    ),
    Case(
        "optional",
        "Use search for the query: sqlite wal. Give nothing but the query.",
        (_SEARCH,),
        {"query": "sqlite wal"},
    ),
    Case(
        "nested",
        "Use create_order. The customer is Ada Byron, 12 Mill Lane, Leeds, postcode LS1 4AP. The "
        "items: 2 of sku A-100 and 1 of sku B-7.",
        (_ORDER,),
        {
            "customer": {
                "name": "Ada Byron",
                "address": {"street": "12 Mill Lane", "city": "Leeds", "postcode": "LS1 4AP"},
            },
            "items": [{"sku": "A-100", "quantity": 2}, {"sku": "B-7", "quantity": 1}],
        },
        160,
    ),
    Case(
        "arrays",
        "Use add_reminder: title standup, days mon and thu, hour 9.5, repeat true, until null.",
        (_REMIND,),
        {"title": "standup", "days": ["mon", "thu"], "hour": 9.5, "repeat": True, "until": None},
    ),
    Case(
        "map",
        "Use set_scores: ann has 12, bob has -3, cem has 0.",
        (_SCORES,),
        {"scores": {"ann": 12, "bob": -3, "cem": 0}},
    ),
    Case("numbers", "Use move with x -12.25 and y 40.", (_MOVE,), {"x": -12.25, "y": 40}),
    Case("no arguments", "Use list_users.", (_USERS,), {}),
    Case(
        "many tools",
        "Use archive_branch for the branch named main-old.",
        (_OTHERS[10], *_OTHERS[:10], _OTHERS[11]),
        {"name": "main-old"},
    ),
    Case(
        "unicode",
        f"Use write_file with the path übung.txt and exactly this content: {UNICODE_TEXT}",
        (_WRITE,),
        {"path": "übung.txt", "content": UNICODE_TEXT},
        160,
    ),
    Case(
        "code",
        "Use write_file with the path a.py and exactly this content, with the new line at its end:"
        f"\n```\n{CODE_TEXT}```",
        (_WRITE,),
        {"path": "a.py", "content": CODE_TEXT},
        120,
    ),
    Case(
        "long",
        "Use write_file with the path fox.txt and exactly this content, every line of it:\n"
        f"```\n{LONG_TEXT}```",
        (_WRITE,),
        {"path": "fox.txt", "content": LONG_TEXT},
        3_500,
    ),
)

HELLO = "Count from 1 to 40 in words, and say nothing else."
RESTRAINT = "Do not use any tool. How much is 2 + 2? Answer with the number."
CITIES = ("Oslo", "Lima", "Cairo")
PARALLEL = (
    f"Find the weather in {', '.join(CITIES)}: make all {len(CITIES)} calls of get_weather at "
    "once, in this one answer."
)
WORD = "heron"
STEPS = (
    "Call look_up with the number 3. It tells another number: call look_up with that. Then tell "
    "me the word that it gives. Make one call at a time."
)
STEP_RESULTS = ((3, "go on with number 58"), (58, f"the word is {WORD}"))


def numbered(number: int) -> str:
    """The prompt of one of several requests at once."""
    return f"Call look_up with the number {number}."

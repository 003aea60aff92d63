"""Secrets are found by their forms, and nothing else is touched."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.frontends.export.masked import masked
from kimi_cli.protocol.events import ToolResult, UserMessage
from kimi_cli.protocol.messages import TextPart
from kimi_cli.safety.tokens import TokenMask

A36 = "abcdefghijABCDEFGHIJ0123456789abcdef"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\nq8h3\n-----END RSA PRIVATE KEY-----"

SECRETS = [
    ("ghp_" + A36, ""),
    ("github_pat_" + A36 + A36, ""),
    ("glpat-" + A36[:20], ""),
    ("AKIAIOSFODNN7EXAMPLE", ""),
    ("AIza" + A36[:35], ""),
    ("xoxb-123456789012-abcdefghijkl", ""),
    ("sk_live_" + A36, ""),
    ("npm_" + A36, ""),
    ("pypi-AgE" + A36 + A36, ""),
    ("hf_" + A36, ""),
    ("sk-" + A36, ""),
    ("sk-ant-api03-" + A36, ""),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N", ""),
    (KEY, ""),
    (
        "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXX",
        "https://hooks.slack.com",
    ),
    ("Authorization: Bearer abcdef1234567890", "Authorization: Bearer "),
    ("postgres://user:hunter2x@db.example/x", "postgres://user:"),
    ('DB_PASSWORD="correct-horse-battery"', 'DB_PASSWORD="'),
    ("client_secret = 0123456789abcdef", "client_secret = "),
    ('"api_key": "0123456789abcdef"', '"api_key": "'),
]

HARMLESS = [
    "def password_of(user: str) -> str:",
    "password = os.environ['PASSWORD']",
    "password = get_password2(user)",
    "secret=some_name",
    "api_key=$API_KEY",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "https://example.com/a:b@c",
    "git clone https://github.com/kimi/kimi.git",
    "the token is read from a file",
    "total_tokens: 12345",
    "task-queue-with-a-long-name-of-many-words",
]


@pytest.mark.parametrize(("text", "stays"), SECRETS, ids=[text[:12] for text, _ in SECRETS])
def test_a_secret_is_masked_wherever_it_stands(text: str, stays: str) -> None:
    for around in ("{}", "before {} after", "export TOKEN={}\n", '{{"x": "{}"}}'):
        shown = TokenMask().mask(around.format(text))
        assert "[masked: " in shown
        assert stays in shown
        secret = text.removeprefix(stays).strip('"')
        assert secret[-12:] not in shown.replace("@db.example/x", "")


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert TokenMask().mask(text) == text


def test_the_user_s_own_patterns_and_keys() -> None:
    mask = TokenMask([r"ACME-\d{6}", r"pin=(?P<secret>\d+)"], ["my-own-key-1", "short"])
    assert mask.mask("ACME-123456 pin=4711 my-own-key-1 short") == (
        "[masked: secret] pin=[masked: secret] [masked: key] short"
    )


@given(st.text(max_size=400))
def test_masking_again_changes_nothing(text: str) -> None:
    mask = TokenMask()
    once = mask.mask(text)
    assert mask.mask(once) == once


@given(st.text(alphabet=string.ascii_letters + string.digits, min_size=36, max_size=36))
def test_any_token_of_a_form(body: str) -> None:
    assert body not in TokenMask().mask(f"x ghp_{body} y")


def test_every_text_of_an_event() -> None:
    secret = "ghp_" + A36
    result = ToolResult(
        call_id="c",
        name="shell",
        status="ok",
        parts=[TextPart(text=f"a {secret}")],
        data={"x": [secret]},
    )
    said = UserMessage(parts=[TextPart(text="nothing")])
    [shown, same] = masked([result, said], TokenMask().mask)
    assert secret not in shown.model_dump_json()
    assert same is said

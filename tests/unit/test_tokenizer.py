"""Exact counting: finding a model's tokenizer, loading it, counting as it does."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.model.build import ModelConfig, build_provider
from kimi_cli.model.catalogue import lookup
from kimi_cli.model.tokenizer import (
    FILE,
    PATTERN,
    LateCounter,
    exact_counter,
    find_tokenizer,
    load_tokenizer,
)
from kimi_cli.protocol.messages import TextPart, UserTurn
from kimi_cli.protocol.provider import ModelRequest
from tests.support.replies import text
from tests.support.server import ScriptedServer
from tests.support.tokenizers import model_file, ranks_of, write_tokenizer

RANKS = ranks_of()
REFERENCE = tiktoken.Encoding("t", pat_str=PATTERN, mergeable_ranks=RANKS, special_tokens={})
COUNT = exact_counter(REFERENCE)
MIXED = st.text(st.sampled_from("the token xx中文混合English1234567890don't\n\r\t  <|im_end|>é🎉"))


@given(st.one_of(st.text(), MIXED))
def test_it_counts_what_tiktoken_counts(words: str) -> None:
    assert COUNT(words) == len(REFERENCE.encode(words, disallowed_special=()))


def test_a_loaded_file_counts_like_its_ranks(tmp_path: Path) -> None:
    count = exact_counter(load_tokenizer(write_tokenizer(tmp_path)))
    for words in ("the token the", "中文English混合", "no word of it", "", "é\ud800x"):
        assert count(words) == COUNT(words)


@pytest.mark.parametrize(
    ("words", "tokens"),
    [
        # Han runs stand by themselves, or "文E" would begin a word.
        ("中文English混合", 3),
        # Digits go by three.
        ("123456123", 3),
        ("1234561", 3),
        # A word takes the blank before it and the end of its contraction.
        ("the the token token", 4),
        ("don't", 1),
        # Line ends belong to the signs before them, not to the words behind.
        ("the\nthe", 3),
    ],
)
def test_text_is_split_as_kimi_splits_it(words: str, tokens: int) -> None:
    assert COUNT(words) == tokens


def test_names_of_special_tokens_in_a_text_are_text(tmp_path: Path) -> None:
    encoding = load_tokenizer(write_tokenizer(tmp_path))
    assert exact_counter(encoding)("<|im_end|>") > 1
    special = len(RANKS) + 2
    assert encoding.encode("<|im_end|>", allowed_special="all") == [special]
    assert "[BOS]" in encoding.special_tokens_set
    assert f"<|reserved_token_{len(RANKS) + 1}|>" in encoding.special_tokens_set


def test_the_special_tokens_may_have_no_names(tmp_path: Path) -> None:
    path = write_tokenizer(tmp_path)
    for broken in ("{", "[]", '{"added_tokens_decoder": {"x": 1}}'):
        path.with_name("tokenizer_config.json").write_text(broken)
        assert exact_counter(load_tokenizer(path))("the token") == 2
    path.with_name("tokenizer_config.json").unlink()
    assert exact_counter(load_tokenizer(path))("the token") == 2


def test_long_runs_are_cut_as_the_model_cuts_them() -> None:
    """Every 25,000 characters of a kind, and every 400,000 of all: an odd run leaves one over."""
    assert COUNT("x" * 25_001) == 12_500 + 1
    assert COUNT("x" * 60_000) == 30_000
    assert COUNT("the " + "x" * 75_003) == 1 + 1 + 3 * 12_500 + 2
    assert COUNT(("x" * 24_999 + " ") * 17) == 17 * (12_499 + 1) + 17


def test_the_models_own_code_is_never_run(tmp_path: Path) -> None:
    path = write_tokenizer(tmp_path)
    mark = tmp_path / "ran"
    (tmp_path / "tokenization_kimi.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    assert LateCounter(str(tmp_path)).load() is not None
    assert path.exists() and not mark.exists()


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2 + 1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"this is no tokenizer\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2795286\n",
        cut(model_file(RANKS)),
        model_file({**RANKS, b"the end": 5}),
        model_file({token: rank for token, rank in RANKS.items() if token != b"A"}),
        b"\xff\xfe\x00 1\n",
    ],
)
def test_a_damaged_file_is_no_failure(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(content)
    with caplog.at_level(logging.DEBUG):
        assert LateCounter("m", configured=str(tmp_path)).load() is None
    assert "can't be used" in caplog.text


def test_a_path_where_nothing_is_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert LateCounter("m", configured=str(tmp_path / "no")).load() is None
    assert "no tokenizer at" in caplog.text


def cache(hub: Path, name: str, commit: str = "c1", main: str | None = "c1") -> Path:
    """A repository in a Hugging Face cache, with its file behind a link as it is there."""
    folder = hub / f"models--{name.replace('/', '--')}"
    blob = write_tokenizer(folder / "blobs")
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / FILE).symlink_to(blob)
    if main:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(main)
    return snapshot / FILE


@pytest.mark.parametrize(
    ("variables", "hub"),
    [
        ({"HF_HUB_CACHE": "{}/a", "HF_HOME": "{}/no"}, "a"),
        ({"HUGGINGFACE_HUB_CACHE": "{}/a"}, "a"),
        ({"HF_HOME": "{}/b", "HOME": "{}/no"}, "b/hub"),
        ({"XDG_CACHE_HOME": "{}/c", "HOME": "{}/no"}, "c/huggingface/hub"),
        ({"HOME": "{}"}, ".cache/huggingface/hub"),
    ],
)
def test_the_hugging_face_cache(variables: dict[str, str], hub: str, tmp_path: Path) -> None:
    env = {name: value.format(tmp_path) for name, value in variables.items()}
    wanted = cache(tmp_path / hub, "moonshotai/Kimi-K2.5")
    repository = lookup("kimi-k2.5").repository
    assert find_tokenizer("kimi-k2.5", repository, "", env) == wanted
    assert find_tokenizer("moonshotai/Kimi-K2.5", "", "", env) == wanted
    assert find_tokenizer("kimi-k2.6", lookup("kimi-k2.6").repository, "", env) is None
    assert find_tokenizer("kimi-k2.5", repository, "", {}) is None


def test_the_snapshot_that_main_names_else_the_newest(tmp_path: Path) -> None:
    env = {"HF_HUB_CACHE": str(tmp_path)}
    old = cache(tmp_path, "a/b", "old", main="old")
    new = cache(tmp_path, "a/b", "new", main=None)
    os.utime(old.parent, (1, 1))
    assert find_tokenizer("a/b", "", "", env) == old
    for main in ("gone", "../../elsewhere", ""):
        (tmp_path / "models--a--b" / "refs" / "main").write_text(main)
        assert find_tokenizer("a/b", "", "", env) == new


def test_a_folder_a_file_and_what_is_neither(tmp_path: Path) -> None:
    own = write_tokenizer(tmp_path / "own")
    other = write_tokenizer(tmp_path / "other")
    assert find_tokenizer(str(own.parent), "", "", {}) == own
    assert find_tokenizer("m", str(own.parent), "", {}) == own
    assert find_tokenizer(str(own.parent), "", str(other), {}) == other
    assert find_tokenizer("m", "", str(other.parent), {}) == other
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert find_tokenizer("m", "", str(fifo), {}) is None
    assert find_tokenizer("m\0", "x/\0", "", {"HF_HUB_CACHE": str(tmp_path)}) is None


def test_a_relative_folder_of_the_project_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tokenizer(tmp_path / "moonshotai" / "Kimi-K2.5")
    monkeypatch.chdir(tmp_path)
    assert find_tokenizer("moonshotai/Kimi-K2.5", "", "", {}) is None


def test_it_is_loaded_beside_the_first_answer(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)

    def loading() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "kimi-tokenizer"]

    async def go(base_url: str) -> None:
        config = ModelConfig(
            base_url, "kimi-k2.5", "sk-test-key", dialect="moonshot", tokenizer=str(tmp_path)
        )
        client = build_provider(config)
        client.warm()
        assert client.counter is None and not loading()
        message = client.encoder().encode(UserTurn((TextPart(text="hi"),))).data
        async for _ in client.stream(ModelRequest([message])):
            pass
        for thread in loading():
            thread.join(30)
        assert client.counter is not None
        assert client.counter("the token") == 2
        await client.close()

    with ScriptedServer([text("a")]) as server:
        asyncio.run(asyncio.wait_for(go(server.base_url), 60))

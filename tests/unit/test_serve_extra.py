"""Options for vLLM given by hand: taken apart, checked, and put in place of the plan's."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kimi_cli.serve.extra import Given, into_wish, names, override, parse, values
from kimi_cli.serve.facts import Flag, Wish
from kimi_cli.serve.not_ready import NotReady
from kimi_cli.serve.options import Options, read_help
from tests.support.vllm_program import HELP

KNOWN = read_help(HELP.read_text())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--max-model-len", "4k"], [("--max-model-len", "4k")]),
        (["--max-model-len=4k"], [("--max-model-len", "4k")]),
        (["--max_model_len=4k"], [("--max-model-len", "4k")]),
        (["--max-model-len", "-1"], [("--max-model-len", "-1")]),
        (["-q", "awq"], [("--quantization", "awq")]),
        (["--no-enable-prefix-caching"], [("--no-enable-prefix-caching",)]),
        (["--no_enable_prefix_caching"], [("--no-enable-prefix-caching",)]),
        (["--enforce-eager", "--seed", "3"], [("--enforce-eager",), ("--seed", "3")]),
        (
            ["--middleware", "a.B", "--middleware", "c.D"],
            [("--middleware", "a.B"), ("--middleware", "c.D")],
        ),
        (["--served-model-name", "one", "two"], [("--served-model-name", "one", "two")]),
        (["--compilation-config.level=3"], [("--compilation-config.level", "3")]),
        (['--hf-overrides={"a": "b=c"}'], [("--hf-overrides", '{"a": "b=c"}')]),
        (["-O3"], [("-O3",)]),
        ([], []),
    ],
)
def test_options_are_taken_apart(words: list[str], expected: list[tuple[str, ...]]) -> None:
    found = parse(words, KNOWN)
    assert [(one.name, *one.values) for one in found] == expected


def test_a_second_value_does_not_follow_an_equals_sign() -> None:
    with pytest.raises(NotReady, match="'b' after -- is no option"):
        parse(["--served-model-name=a", "b"], KNOWN)
    with pytest.raises(NotReady, match="'a' after -- is no option"):
        parse(["a", "--seed", "1"], KNOWN)


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("--max-model-length", "--max-model-len"),
        ("--gpu-memory-utilisation=0.5", "--gpu-memory-utilization"),
        ("-tpp", "-tp"),
        ("--no-such-option-at-all", ""),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(word: str, near: str) -> None:
    with pytest.raises(NotReady, match="has no option") as refused:
        parse([word], KNOWN)
    assert refused.value.kind == "extra"
    assert refused.value.todo == (
        f"did you mean {near}?" if near else "`vllm serve --help=all` shows them"
    )


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (["--port", "80"], "--port before --"),
        (["--port=80"], "--port before --"),
        (["--host", "::"], "--host before --"),
        (["--api-key", "secret"], "--no-key"),
        (["--api_key=secret"], "--no-key"),
        (["--trust-remote-code"], "--yes"),
        (["--no-trust-remote-code"], "--yes"),
        (["-n", "2"], "--nodes"),
        (["--nnodes", "2"], "--nodes"),
        (["-r", "1"], "--nodes"),
        (["--uds", "/tmp/s"], "port"),
        (["--grpc"], "HTTP"),
        (["--config", "options.yaml"], "one by one"),
        (["-h"], "--help=all"),
    ],
)
@pytest.mark.parametrize("options", [KNOWN, None], ids=["known", "not asked"])
def test_what_kimi_sets_itself_is_refused(
    words: list[str], instead: str, options: Options | None
) -> None:
    with pytest.raises(NotReady) as refused:
        parse(words, options)
    assert instead in refused.value.message and "secret" not in refused.value.message


@pytest.mark.parametrize("word", ["--trust-remote", "--trust_rem", "--api=secret", "--por"])
def test_the_beginning_of_such_a_name_is_no_way_around(word: str) -> None:
    for options in (KNOWN, None):
        with pytest.raises(NotReady):
            parse([word], options)


def test_names_in_full() -> None:
    words = ["--max_model_len=4", "-tp", "2", "--enforce-eager", "-1", "four"]
    assert names(words) == {"--max-model-len", "--tensor-parallel-size", "--enforce-eager"}


def test_without_an_answer_from_vllm_every_name_passes() -> None:
    (found,) = parse(["--brand-new", "1"], None)
    assert found == Given("--brand-new", ("1",))


@pytest.mark.parametrize("options", [KNOWN, None], ids=["known", "not asked"])
def test_the_cut_of_the_model_changes_the_plan(options: Options | None) -> None:
    given_ = parse(["-tp", "4", "--seed", "1", "--pipeline-parallel-size=2", "-dcp", "2"], options)
    wish, rest = into_wish(given_, Wish(tensor_parallel=8, context=1024))
    assert wish == Wish(
        tensor_parallel=4, pipeline_parallel=2, decode_context_parallel=2, context=1024
    )
    assert rest == (Given("--seed", ("1",)),)
    for wrong in (["-tp", "four"], ["-tp"], ["-tp", "1", "2"], ["-tp", "²"]):
        with pytest.raises(NotReady, match="a whole number is needed"):
            into_wish(parse(wrong, options), Wish())


def test_options_by_hand_take_the_place_of_the_plans_with_a_note() -> None:
    planned = [
        Flag("--max-model-len", "262144", "all"),
        Flag("--enforce-eager", None, "quick"),
        Flag("--dtype", "bfloat16", "same"),
        Flag("--served-model-name", "kimi", "the name"),
    ]
    by_hand = parse(
        ["--max-model-len=8k", "--no-enforce-eager", "--dtype", "bfloat16", "--seed", "1"], KNOWN
    )
    kept, notes = override(planned, by_hand, KNOWN)
    assert [flag.name for flag in kept] == ["--served-model-name"]
    assert notes == (
        "--max-model-len 8k as given after --, in place of --max-model-len 262144",
        "--no-enforce-eager as given after --, in place of --enforce-eager",
    )


def test_a_field_of_an_option_leaves_the_option() -> None:
    planned = [Flag("--compilation-config", '{"a": 1}', "recipe")]
    kept, notes = override(planned, parse(["--compilation-config.level", "3"], KNOWN), KNOWN)
    assert kept == tuple(planned) and not notes


def test_the_last_value_counts() -> None:
    found = parse(["--seed", "1", "--seed", "2"], KNOWN)
    assert values(found, "--seed") == ("2",)
    assert values(found, "--dtype") is None


ONE = ("--seed", "--dtype", "--quantization", "--hf-overrides", "--tool-call-parser")
MANY = ("--middleware", "--lora-modules", "--allowed-origins")
SWITCHES = ("--enforce-eager", "--no-enable-prefix-caching", "--enable-auto-tool-choice")
TEXTS = st.text(min_size=0, max_size=12)


@st.composite
def options_by_hand(draw: st.DrawFn) -> list[Given]:
    found = []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["one", "many", "switch"]))
        if kind == "one":
            found.append(Given(draw(st.sampled_from(ONE)), (draw(TEXTS),)))
        elif kind == "many":
            some = draw(st.lists(TEXTS, min_size=1, max_size=3))
            assume(not any(text.startswith("-") for text in some))
            found.append(Given(draw(st.sampled_from(MANY)), tuple(some)))
        else:
            found.append(Given(draw(st.sampled_from(SWITCHES))))
    return found


@settings(max_examples=100, deadline=None)
@given(options_by_hand())
def test_what_is_taken_apart_and_put_together_stays_the_same(wanted: list[Given]) -> None:
    words = [word for one in wanted for word in one.words]
    assert list(parse(words, KNOWN)) == wanted


@settings(max_examples=100, deadline=None)
@given(options_by_hand())
def test_argparse_reads_the_words_as_we_do(wanted: list[Given]) -> None:
    # Of an option with one value each, argparse keeps the last.
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ONE:
        reader.add_argument(name)
    for name in MANY:
        reader.add_argument(name, nargs="+", action="append")
    for name in SWITCHES:
        reader.add_argument(name, action="store_true")
    read = vars(reader.parse_args([word for one in wanted for word in one.words]))
    for name in ONE:
        mine = values(wanted, name)
        assert read[name[2:].replace("-", "_")] == (None if mine is None else mine[0])
    for name in MANY:
        expected = [list(one.values) for one in wanted if one.name == name] or None
        assert read[name[2:].replace("-", "_")] == expected

"""How far a start is, from vLLM's log: recorded ones, and texts rebuilt from vLLM's source for what
needs a GPU."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.serve.log_reader import LogReader
from kimi_cli.serve.running import LOADING, Progress
from tests.support.serving import LOGS, read, recorded, stages_of

GOOD = ["good_start", "shards", "compile", "two_nodes_head"]
_SHARDS = "Loading safetensors checkpoint shards"


def _logged(process: str, text: str, level: str = "INFO") -> str:
    return f"({process} pid=7) {level} 11-22 10:00:00 [file.py:1] {text}\n"


def _drawn(name: str, done: int, total: int, left: str = "00:10") -> str:
    """A bar as tqdm draws it by itself, over the one before."""
    return f"\r{name}:  {100 * done // total}%|████▌     | {done}/{total} [00:05<{left},  1.5it/s]"


def _shards(done: int, total: int, left: str) -> str:
    """vLLM's own bar for the weights."""
    share = 100 * done // total
    return f"{_SHARDS}: {share:3d}% Completed | {done}/{total} [09:30<{left},  5.16s/it]\n"


# Texts of vllm/v1/worker/gpu_model_runner.py, compilation/backends.py, gpu_worker.py, entry.py.
REBUILT_GPU_START = "".join(
    (
        _logged("APIServer", "Using max model len 262144"),
        _logged("Worker_TP0", "Starting to load model moonshotai/Kimi-K2.5..."),
        _shards(0, 163, "?"),
        _shards(105, 163, "04:59"),
        _shards(163, 163, "00:00"),
        _logged("Worker_TP0", "Loading weights took 801.11 seconds"),
        _logged("Worker_TP0", "Model loading took 70.1 GiB memory and 802.500000 seconds"),
        _logged("Worker_TP0", "Using cache directory: /c for vLLM's torch.compile"),
        _logged("Worker_TP0", "Dynamo bytecode transform time: 12.34 s"),
        _logged("Worker_TP0", "Compiling a graph for compile range (1, 8192) takes 40.00 s"),
        _logged("Worker_TP0", "torch.compile took 52.34 s in total"),
        _logged("Worker_TP0", "Initial profiling/warmup run took 2.50 s"),
        _logged("Worker_TP0", "Available KV cache memory: 46.81 GiB"),
        _logged(
            "EngineCore",
            "Auto-fit max_model_len: reduced from 262144 to 200000 to fit in available KV cache "
            "memory (46.81 GiB GPU)",
        ),
        _logged(
            "EngineCore",
            "GPU KV cache size: 715,072 tokens, Maximum concurrency for 200,000 tokens per "
            "request: 3.58x",
        ),
        _drawn("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE)", 0, 51, "?"),
        _drawn("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE)", 24, 51),
        _drawn("Capturing CUDA graphs (decode, FULL)", 1, 35),
        "\n",
        _logged("Worker_TP0", "Graph capturing finished in 20 secs, took 1.25 GiB"),
        _logged("EngineCore", "init engine (profile, create kv cache, warmup model) took 99.00 s"),
        _logged("APIServer", "Starting vLLM server on http://127.0.0.1:8000"),
        "INFO:     Application startup complete.\n",
    )
)


# --- recorded and rebuilt starts ---


@pytest.mark.parametrize("name", GOOD)
def test_a_good_start_gets_to_listening(name: str) -> None:
    reader = read(recorded(name))
    assert reader.listening
    assert reader.progress(1.0).stage == "warmup"
    assert reader.progress(1e6).waiting == ""
    assert reader.tokens > reader.context == 16_384


def test_stages_of_a_recorded_start() -> None:
    assert stages_of(recorded("good_start")) == ["starting", "load", "profile", "warmup"]


def test_a_recorded_start_that_compiles() -> None:
    assert stages_of(recorded("compile")) == ["starting", "load", "compile", "profile", "warmup"]


def test_stages_of_a_start_on_gpus() -> None:
    assert stages_of(REBUILT_GPU_START) == [
        "starting",
        "load",
        "compile",
        "profile",
        "graphs",
        "warmup",
    ]


def test_what_vllm_says_of_its_cache() -> None:
    told = read(recorded("good_start"))
    assert (told.context, told.tokens) == (16_384, 2_097_152)
    fitted = read(REBUILT_GPU_START)
    assert (fitted.context, fitted.tokens) == (200_000, 715_072)


def test_listening_is_told_with_the_line_and_not_before() -> None:
    text = recorded("good_start")
    place = text.index("Application startup complete")
    assert not read(text[:place]).listening
    assert read(text[: text.index("\n", place) + 1]).listening


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in LOGS.glob("*.log") if path.stem not in GOOD)
)
def test_a_start_that_failed_has_listened_only_where_it_died_later(name: str) -> None:
    later = ("killed_engine", "lost_node_head")
    assert read(recorded(name)).listening == (name in later)


def test_shards_of_a_recorded_start_count_up() -> None:
    reader = LogReader()
    shares: list[float] = []
    for line in recorded("shards").splitlines(keepends=True):
        reader.feed(line, 0.0)
        progress = reader.progress(0.0)
        if progress.stage == "load" and progress.done is not None:
            shares.append(progress.done)
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert len(set(shares)) > 2


# --- share, detail, time left ---


def _at(text: str, now: float = 0.0) -> Progress:
    return read(text).progress(now)


def test_the_bar_of_the_shards() -> None:
    progress = _at(_shards(105, 163, "04:59"))
    assert progress.stage == "load"
    assert progress.done == pytest.approx(105 / 163)
    assert progress.detail == "105/163"
    assert progress.eta == 299


def test_the_time_left_runs_down_and_not_below_nothing() -> None:
    reader = read(_shards(105, 163, "1:04:59"))
    assert reader.progress(99.0).eta == 3800
    assert reader.progress(1e9).eta == 0


def test_without_a_time_of_the_bar_it_is_measured() -> None:
    reader = LogReader()
    reader.feed(_shards(0, 10, "?"), 100.0)
    assert reader.progress(100.0).eta is None
    reader.feed(_shards(4, 10, "?"), 140.0)
    assert reader.progress(140.0).eta == pytest.approx(60.0)


def test_a_new_bar_is_measured_anew() -> None:
    reader = LogReader()
    for name, done, now in (("one", 0, 0.0), ("one", 10, 100.0), ("two", 0, 100.0)):
        reader.feed(_drawn(f"Capturing CUDA graphs ({name})", done, 10, "?"), now)
    reader.feed(_drawn("Capturing CUDA graphs (two)", 5, 10, "?"), 105.0)
    assert reader.progress(105.0).eta == pytest.approx(5.0)


def test_a_bar_that_is_not_ended_yet_counts() -> None:
    progress = _at(_drawn("Capturing CUDA graphs (decode, FULL)", 20, 40))
    assert (progress.stage, progress.done, progress.detail) == ("graphs", 0.5, "20/40")


def test_files_read_ahead_count_as_loading() -> None:
    progress = _at(_logged("Worker", "Prefetching checkpoint files: 50% (4/8)"))
    assert (progress.stage, progress.done, progress.detail) == ("load", 0.5, "4/8")


def test_the_weights_loaded_the_stage_is_full() -> None:
    text = _shards(3, 3, "00:00") + _logged("Worker", "Loading weights took 2.00 seconds")
    assert _at(text).done == 1.0


def test_since_is_when_the_stage_began() -> None:
    reader = LogReader()
    reader.feed("hello\n", 10.0)
    assert reader.progress(15.0).since == 10.0
    reader.feed(_shards(0, 3, "?"), 20.0)
    reader.feed(_shards(1, 3, "?"), 30.0)
    assert reader.progress(30.0).since == 20.0


def test_a_silent_download_shows_by_its_bytes() -> None:
    reader = LogReader(100 * 10**9, repo="owner/name")
    reader.feed(_logged("Worker", "Starting to load model owner/name..."), 0.0)
    reader.downloaded(20 * 10**9, 0.0)
    assert reader.progress(0.0).stage == "starting"
    reader.downloaded(30 * 10**9, 10.0)
    progress = reader.progress(10.0)
    assert progress.stage == "download"
    assert progress.done == pytest.approx(0.3)
    assert progress.detail == "30.0/100.0 GB"
    assert progress.eta == pytest.approx(70.0)
    reader.feed(_shards(0, 9, "?"), 20.0)
    reader.downloaded(40 * 10**9, 30.0)
    assert reader.progress(30.0).stage == "load"


def test_what_was_there_before_is_no_download() -> None:
    reader = LogReader(100 * 10**9)
    for now in range(5):
        reader.downloaded(100 * 10**9 + now * 1000, float(now))
    assert reader.progress(5.0).stage == "starting"


def test_a_download_of_unknown_size_shows_what_came() -> None:
    reader = LogReader()
    reader.downloaded(0, 0.0)
    reader.downloaded(3 * 10**9, 1.0)
    progress = reader.progress(1.0)
    assert (progress.stage, progress.done, progress.detail) == ("download", None, "3.0 GB")


# --- what it waits for ---

_JOINING = _logged(
    "EngineCore",
    "DP group leader: node_rank=0, node_rank_within_dp=0, master_addr=10.0.0.1, "
    "mq_connect_ip=10.0.0.1 (local), world_size=16, local_world_size=8",
) + _logged(
    "Worker",
    "world_size=16 rank=0 local_rank=0 distributed_init_method=tcp://10.0.0.1:29501 backend=nccl",
)
_JOINED = _logged("Worker_TP0", "rank 0 in world size 16 is assigned as DP rank 0, PP rank 0")


@pytest.mark.parametrize(
    ("text", "quiet", "words"),
    [
        ("", 30.0, []),
        ("", 90.0, ["get going", "90 s"]),
        (_logged("Worker", "Starting to load model m..."), 90.0, ["weights", "download", "disk"]),
        (_JOINING, 10.0, []),
        (_JOINING, 40.0, ["1 other node to join", "10.0.0.1:29501", "40 s"]),
        (_JOINING + _JOINED, 40.0, []),
        (
            _JOINING + _JOINED + _logged("Worker_TP0", "vLLM is using nccl==2.28.9"),
            90.0,
            ["find each other", "NCCL_DEBUG"],
        ),
        (_shards(105, 163, "04:59"), 30.0, []),
        (_shards(105, 163, "04:59"), 90.0, ["shard 106 of 163", "90 s"]),
        (_logged("Worker", "Starting torch.compile"), 100.0, []),
        (_logged("Worker", "Starting torch.compile"), 200.0, ["torch.compile", "minutes"]),
        (_drawn("Capturing CUDA graphs (decode, FULL)", 23, 51), 90.0, ["24 of 51", "graphs"]),
        (_logged("Worker", "Available KV cache memory: 4 GiB"), 150.0, ["memory", "150 s"]),
        (_logged("APIServer", "Supported tasks: ['generate']"), 100.0, ["first answer"]),
        (
            _logged("EngineCore", "No available shared memory broadcast block found in 60 s"),
            1.0,
            ["worker", "hangs"],
        ),
        (
            _logged("EngineCore", "Waiting for creating a placement group of specs for 30 s"),
            1.0,
            ["Ray", "`ray status`"],
        ),
    ],
)
def test_what_a_silence_means(text: str, quiet: float, words: list[str]) -> None:
    reader = LogReader()
    reader.feed(text, 1000.0)
    waiting = reader.progress(1000.0 + quiet).waiting
    assert bool(waiting) == bool(words), waiting
    assert [word for word in words if word not in waiting] == []


def test_a_real_head_waits_for_the_other_node() -> None:
    reader = LogReader(hosts=("10.0.0.1", "gpu2"))
    text = recorded("two_nodes_head")
    reader.feed(text[: text.index("\n", text.index("distributed_init_method")) + 1], 0.0)
    assert reader.progress(10.0).waiting == ""
    waiting = reader.progress(30.0).waiting
    assert waiting.startswith("gpu2 to join")
    assert "127.0.0.1:" in waiting


def test_real_nodes_that_joined_wait_for_nobody() -> None:
    text = recorded("two_nodes_head")
    joined = text.index("is assigned as DP rank")
    assert read(text[: text.index("\n", joined) + 1]).progress(40.0).waiting == ""


def test_slow_shards_are_waited_for_longer() -> None:
    reader = LogReader()
    for number in range(5):
        reader.feed(_shards(number, 20, "?"), 100.0 * number)
    assert reader.progress(700.0).waiting == ""
    waiting = reader.progress(1000.0).waiting
    assert "shard 5 of 20" in waiting
    assert "100 s each" in waiting


def test_a_download_that_stands_still() -> None:
    reader = LogReader(594 * 10**9, repo="moonshotai/Kimi-K2.5")
    reader.downloaded(0, 0.0)
    reader.downloaded(41_200_000_000, 10.0)
    assert reader.progress(35.0).waiting == ""
    assert reader.progress(75.0).waiting == (
        "the download of moonshotai/Kimi-K2.5: no byte for 65 s, 41.2 of 594.0 GB are here"
    )
    reader.downloaded(42_000_000_000, 76.0)
    assert reader.progress(80.0).waiting == ""


def test_reminders_are_no_sign_of_life() -> None:
    reader = LogReader()
    reader.feed(_shards(1, 9, "?"), 0.0)
    reader.feed(_logged("Worker", "[c10d] The client socket cannot be initialized", ""), 59.0)
    assert reader.progress(70.0).waiting != ""
    reader.feed(_logged("Worker", "something else"), 70.0)
    assert reader.progress(80.0).waiting == ""


# --- lines ---


def test_of_a_bar_one_line_is_kept() -> None:
    reader = read("".join(_shards(number, 50, "?") for number in range(51)) + "done\n")
    assert len(reader.lines) == 2
    assert "50/50" in reader.lines[0]


def test_lines_are_clean_and_bounded() -> None:
    reader = LogReader()
    reader.feed("\x1b[31mred\x1b[0m\x07 \n\x1b]0;title\x07x\n", 0.0)
    assert reader.lines == ["red", "x"]
    for number in range(9000):
        reader.feed(f"line {number}\n", 0.0)
    assert len(reader.lines) == 2400
    assert reader.lines[:3] == ["red", "x", "line 0"]
    assert reader.lines[-2:] == ["line 8998", "line 8999"]


def test_an_endless_line_stays_small() -> None:
    reader = LogReader()
    for _ in range(50):
        reader.feed("x" * 100_000, 0.0)
    assert max(map(len, reader.lines)) <= 8192
    assert len(reader.lines) <= 2401


# --- properties ---

_PIECES = st.sampled_from(
    [
        *(line for line in REBUILT_GPU_START.splitlines(keepends=True)),
        "\r",
        "\n",
        "\x1b[1m",
        "(Worker pid=1) ",
        _drawn("Capturing CUDA graphs", 1, 3),
        _shards(1, 3, "?"),
        "100%|",
        " | 3/0 [00:00<?, ?it/s]",
        "KV cache size: ,, tokens",
        "(EngineCore pid=99999999999999999999999) INFO",
        "x" * 5000,
    ]
)
_ANY = st.lists(
    st.one_of(_PIECES, st.binary(max_size=30).map(lambda b: b.decode(errors="replace")))
)


def _told(reader: LogReader) -> tuple[object, ...]:
    return (
        reader.progress(9.0),
        reader.progress(1e4),
        reader.listening,
        reader.tokens,
        reader.context,
        reader.lines,
    )


@settings(max_examples=150, deadline=None)
@given(_ANY.map("".join), st.lists(st.integers(0, 2000), max_size=20))
def test_any_cut_gives_the_same(text: str, cuts: list[int]) -> None:
    reader = LogReader()
    before = 0
    for cut in sorted(cuts):
        reader.feed(text[before:cut], 5.0)
        before = max(before, cut)
    reader.feed(text[before:], 5.0)
    whole = LogReader()
    whole.feed(text, 5.0)
    assert _told(reader) == _told(whole)


@pytest.mark.parametrize("name", ["shards", "memory_context"])
def test_recorded_logs_cut_anywhere(name: str) -> None:
    text = recorded(name)
    whole = read(text)
    for seed in range(5):
        chance = random.Random(seed)
        reader = LogReader()
        place = 0
        while place < len(text):
            step = chance.randint(1, 200)
            reader.feed(text[place : place + step], 0.0)
            place += step
        assert _told(reader) == _told(whole)


@settings(max_examples=150, deadline=None)
@given(st.lists(_ANY.map("".join)), st.lists(st.integers(0, 10**12), max_size=5))
def test_stages_only_go_on_and_numbers_make_sense(texts: list[str], sizes: list[int]) -> None:
    reader = LogReader(10**10)
    reached = 0
    now = 0.0
    for place, text in enumerate(texts):
        now += 7.0
        reader.feed(text, now)
        if place < len(sizes):
            reader.downloaded(sizes[place], now)
        progress = reader.progress(now + 100.0)
        at = LOADING.index(progress.stage)
        assert at >= reached
        reached = at
        assert progress.done is None or 0.0 <= progress.done <= 1.0
        assert progress.eta is None or progress.eta >= 0.0
        assert progress.since <= now + 100.0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_upset_it(data: bytes) -> None:
    for encoding in ("utf-8", "latin-1"):
        reader = read(data.decode(encoding, errors="replace"))
        reader.progress(1e6)
        assert not any(sign < " " and sign != "\t" for line in reader.lines for sign in line)

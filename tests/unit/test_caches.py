"""Private cache layers: whose they are, where they are, and what leads to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kimi_cli.workspace.caches import CACHES, make_layers, project_name, prune_slots, take_slot
from kimi_cli.workspace.offline import OFFLINE, offline_environment


def test_two_sessions_of_a_project_never_share_a_slot(tmp_path: Path) -> None:
    first = take_slot(tmp_path, Path("/p/a"))
    second = take_slot(tmp_path, Path("/p/a"))
    other = take_slot(tmp_path, Path("/q/a"))
    assert len({first.folder, second.folder, other.folder}) == 3
    first.close()
    again = take_slot(tmp_path, Path("/p/a"))
    assert again.folder == first.folder
    for slot in (second, other, again):
        slot.close()
        slot.close()


def test_a_slot_is_free_again_when_its_process_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from kimi_cli.workspace.caches import take_slot\n"
        "slot = take_slot(Path(sys.argv[1]), Path('/p/a'))\n"
        "print(slot.folder, flush=True); input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as holder:
        assert holder.stdout is not None
        held = holder.stdout.readline().strip()
        mine = take_slot(tmp_path, Path("/p/a"))
        assert str(mine.folder) != held
        holder.kill()
        holder.wait()
        after = take_slot(tmp_path, Path("/p/a"))
        assert str(after.folder) == held
        mine.close()
        after.close()


def test_names_of_projects_are_readable_and_their_own() -> None:
    assert project_name(Path("/a/My Project!")).startswith("My-Project-")
    assert project_name(Path("/a/x")) != project_name(Path("/b/x"))
    assert project_name(Path("/")).startswith("root-")
    assert "/" not in project_name(Path("/a/é/../ü" + "x" * 300))


def test_overlays_over_what_is_there_and_variables_for_the_rest(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".npm").mkdir(parents=True)
    layers = make_layers(tmp_path / "slot", user_home=home, env={}, overlays=True)
    ((target, upper, work),) = layers.overlays
    assert target == home / ".npm"
    assert upper.is_dir() and work.is_dir()
    assert upper.stat().st_dev == work.stat().st_dev
    assert not any(work.iterdir())
    # A fresh home folder has no ~/.cache, and a command can't make one there.
    variables = dict(layers.variables)
    assert Path(variables["XDG_CACHE_HOME"]) in layers.write
    assert Path(variables["PIP_CACHE_DIR"]).is_relative_to(variables["XDG_CACHE_HOME"])
    assert "npm_config_cache" not in variables
    assert variables["UV_LINK_MODE"] == "copy"
    linked = make_layers(
        tmp_path / "linked", user_home=home, env={"UV_LINK_MODE": "symlink"}, overlays=True
    )
    assert "UV_LINK_MODE" not in dict(linked.variables)


def test_without_overlays_variables_lead_to_private_folders(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for place in (".cache/huggingface", ".npm", ".cargo/registry", "go/pkg/mod", ".m2/repository"):
        (home / place).mkdir(parents=True)
    layers = make_layers(tmp_path / "slot", user_home=home, env={}, overlays=False)
    assert layers.overlays == ()
    variables = dict(layers.variables)
    for name in ("XDG_CACHE_HOME", "PIP_CACHE_DIR", "UV_CACHE_DIR", "GOCACHE", "npm_config_cache"):
        assert any(Path(variables[name]).is_relative_to(folder) for folder in layers.write)
    # Models are read where they are.
    assert variables["HF_HOME"] == str(home / ".cache/huggingface")
    assert "TORCH_HOME" not in variables
    # Offline the warm registry is all there is, so it moves only with the network.
    assert "CARGO_HOME" not in variables and "GOMODCACHE" not in variables
    assert {"CARGO_HOME", "GOMODCACHE"} == set(dict(layers.online))


def test_the_users_own_variables_say_where_a_cache_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    moved = tmp_path / "moved"
    (moved / "registry").mkdir(parents=True)
    (moved / "pkg/mod").mkdir(parents=True)
    env = {"CARGO_HOME": str(moved), "GOPATH": f"{moved}:/other", "XDG_CACHE_HOME": "relative"}
    layers = make_layers(tmp_path / "slot", user_home=home, env=env, overlays=True)
    assert {t for t, _, _ in layers.overlays} == {moved / "registry", moved / "pkg/mod"}


def test_caches_in_the_workspace_are_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".cache").mkdir(parents=True)
    (home / ".npm").mkdir()
    layers = make_layers(
        tmp_path / "slot", user_home=home, env={}, overlays=True, own=[home / ".cache/project"]
    )
    assert {t for t, _, _ in layers.overlays} == {home / ".npm"}
    whole = make_layers(tmp_path / "slot", user_home=home, env={}, overlays=True, own=[home])
    assert whole.overlays == () and whole.variables == ()


def test_every_cache_is_below_the_home_folder_and_named_once() -> None:
    assert len({cache.name for cache in CACHES}) == len(CACHES)
    for cache in CACHES:
        assert not os.path.isabs(cache.place) and ".." not in cache.place
        assert not cache.variable or cache.place.endswith(cache.below)


def test_old_slots_go_and_used_ones_stay(tmp_path: Path) -> None:
    old, used, young = (take_slot(tmp_path, Path(f"/p/{name}")) for name in "abc")
    for slot in (old, used):
        os.utime(slot.folder / "lock", (1000, 1000))
    # As an overlay leaves its work folder.
    (old.folder / "work/x/work").mkdir(parents=True)
    (old.folder / "work" / "x" / "work" / "f").write_text("")
    (old.folder / "work/x/work").chmod(0)
    (old.folder / "link").symlink_to(young.folder)
    old.close()
    young.close()
    now = young.folder.stat().st_mtime
    assert prune_slots(tmp_path, 30, now) == 1
    assert not old.folder.exists() and used.folder.exists() and young.folder.exists()
    used.close()
    assert prune_slots(tmp_path / "none", 30, now) == 0


@pytest.mark.parametrize("name", sorted(OFFLINE))
def test_what_the_user_set_stays(name: str) -> None:
    assert name not in offline_environment({name: "mine"})
    assert offline_environment({name: ""})[name] == OFFLINE[name]

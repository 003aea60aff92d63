"""Settings: the layers, their errors, what an untrusted folder can do, and `kimi config`."""

import json
import os
import pwd  # noqa: F401 - here, because a stranger may not be able to import it
import re
import stat
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from kimi_cli.settings import (
    Loaded,
    Settings,
    SettingsError,
    Source,
    is_trusted,
    kimi_home,
    load_settings,
    trust,
)
from kimi_cli.settings.edit import set_value
from kimi_cli.settings.files import MAX_BYTES
from kimi_cli.settings.keys import Key, dotted, flatten, key_lines, known_keys, split_key

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = "sk-abcdefghijklmnop1234"

# A value for every key, other than its default.
SAMPLES: dict[str, Any] = {
    "model": "kimi-k3",
    "thinking": "off",
    "endpoint.base_url": "http://evil.example/v1",
    "endpoint.api_key": SECRET,
    "endpoint.api_key_env": "HOME",
    "endpoint.dialect": "vllm",
    "endpoint.headers.NAME": "x",
    "sampling.temperature": 1.5,
    "sampling.top_p": 0.5,
    "sampling.max_output_tokens": 10,
    "budget.max_steps": 499,
    "budget.max_tokens": 5,
    "budget.max_cost": 0.5,
    "budget.timeout": 5,
    "budget.warn_at": 0.5,
    "timeouts.connect": 1,
    "timeouts.first_byte": 1,
    "timeouts.first_byte_per_1k_tokens": 1,
    "timeouts.between_chunks": 1,
    "retry.attempts": 2,
    "retry.base_seconds": 0,
    "retry.cap_seconds": 5,
    "retry.overload_minutes": 0,
    "prices.NAME.input": 0,
    "prices.NAME.output": 0,
    "prices.NAME.cached_input": 0,
    "prices.NAME.currency": "CNY",
    "prices.NAME.source": "a page",
    "models.NAME.context": 1000,
    "models.NAME.same_as": "kimi-k2.5",
    "models.NAME.tokenizer": "/models/k",
    "models.NAME.max_output_tokens": 10,
    "models.NAME.thinking": "none",
    "models.NAME.efforts": ["low"],
    "models.NAME.media": ["image"],
    "shell.timeout": 1,
    "shell.max_timeout": 200,
    "headless.on_ask": "fail",
    "headless.heartbeat": 5,
    "workspace.add_dirs": ["/"],
    "context.auto_compact": False,
    "context.compact_at": 0.5,
    "context.recent_tokens": 7,
    "session.keep": False,
    "session.outputs_days": 1.5,
    "sandbox.mode": "read-only",
    "sandbox.network": True,
    "sandbox.write": ["/opt/x"],
    "sandbox.hide": ["~/notes"],
    "sandbox.show": ["~/.ssh"],
    "policy.allow": ["shell(make)"],
    "policy.ask": ["shell(rm)"],
    "policy.deny": ["shell(git push)"],
    "secrets.files": ["*.vault"],
    "secrets.tokens": ["ACME-[0-9]{6}"],
    "undo.enabled": False,
    "undo.max_file_mb": 1.5,
    "undo.max_files": 9,
    "undo.days": 3,
    "terminal.theme": "light",
    "terminal.notify": False,
}
HARMLESS = {"model", "thinking", "headless.heartbeat", "policy.ask", "policy.deny"} | {
    k for k in SAMPLES if "budget." in k
}


class Place:
    """A home and a project to put settings files in."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.root = folder / "project"
        (self.root / ".kimi").mkdir(parents=True)
        self.home.mkdir()
        self.env = {"HOME": str(folder), "KIMI_HOME": str(self.home)}

    @property
    def user_file(self) -> Path:
        return self.home / "config.toml"

    @property
    def project_file(self) -> Path:
        return self.root / ".kimi" / "config.toml"

    def load(self, trusted: bool = True, flags: dict[str, object] | None = None) -> Loaded:
        return load_settings(
            env=self.env, project_root=self.root, flags=flags or {}, trusted=trusted
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def toml(key: str, value: Any) -> str:
    return f"{key} = {json.dumps(value)}\n"


# --- layers


def test_nothing_configured_gives_the_defaults(place: Place) -> None:
    loaded = place.load()
    assert loaded.settings == Settings()
    assert loaded.settings.model == "kimi-k2.5"
    assert set(loaded.sources.values()) == {Source("default")}
    assert set(loaded.sources) == {dotted(key) for key, _ in known_keys() if "NAME" not in key}
    assert loaded.warnings == []


def test_the_defaults_are_valid_values() -> None:
    plain = Settings().model_dump(exclude_none=True)
    assert Settings.model_validate(plain) == Settings()


def test_each_layer_wins_over_the_one_below_and_says_so(place: Place) -> None:
    def now() -> tuple[str, Source]:
        loaded = place.load(flags=flags)
        return loaded.settings.model, loaded.sources["model"]

    flags: dict[str, object] = {"budget.max_steps": None}
    assert now() == ("kimi-k2.5", Source("default"))
    place.user_file.write_text('\nmodel = "user"')
    assert now() == ("user", Source("user", f"{place.user_file}:2"))
    place.project_file.write_text('# ours\n\nmodel = "project"')
    assert now() == ("project", Source("project", f"{place.project_file}:3"))
    place.env["KIMI_MODEL"] = "variable"
    assert now() == ("variable", Source("environment", "KIMI_MODEL"))
    flags["model"] = "flag"
    assert now() == ("flag", Source("flag"))
    place.env["KIMI_MODEL"] = ""
    del flags["model"]
    assert now()[0] == "project"


def test_tables_are_merged_key_by_key(place: Place) -> None:
    place.user_file.write_text(
        'endpoint.headers.A = "1"\nendpoint.headers.B = "2"\nprices."kimi-k2.5".input = 1'
    )
    place.project_file.write_text(
        '[endpoint.headers]\nB = "3"\n[prices."kimi-k2.5"]\noutput = 2\n[shell]\ntimeout = 5'
    )
    loaded = place.load()
    headers = loaded.settings.endpoint.headers
    assert {name: value.get_secret_value() for name, value in headers.items()} == {
        "A": "1",
        "B": "3",
    }
    price = loaded.settings.prices["kimi-k2.5"]
    assert (price.input, price.output, price.cached_input) == (1, 2, None)
    assert loaded.sources['prices."kimi-k2.5".output'] == Source(
        "project", f"{place.project_file}:4"
    )
    assert loaded.sources['prices."kimi-k2.5".currency'] == Source("default")
    assert loaded.sources["endpoint.headers.A"] == Source("user", f"{place.user_file}:1")


@pytest.mark.parametrize(("key", "value"), SAMPLES.items())
def test_every_key_can_be_set_in_a_file_and_is_shown_with_its_line(
    place: Place, key: str, value: Any
) -> None:
    extra = {"prices.NAME.input": 1, "prices.NAME.output": 1} if "prices." in key else {}
    text = "".join(toml(name, one) for name, one in {**extra, key: value}.items())
    place.user_file.write_text(text)

    loaded = place.load()

    line = text.splitlines().index(toml(key, value).strip()) + 1
    assert loaded.sources[key] == Source("user", f"{place.user_file}:{line}")
    assert loaded.settings != Settings()


def test_there_is_a_sample_for_every_key() -> None:
    assert set(SAMPLES) == {dotted(key) for key, _ in known_keys()}


def test_generic_variables(place: Place) -> None:
    place.env |= {
        "KIMI_BUDGET__MAX_STEPS": "20",
        "KIMI_SESSION__KEEP": "false",
        "KIMI_ENDPOINT__DIALECT": "vllm",
        "KIMI_WORKSPACE__ADD_DIRS": '["~/a", "b"]',
        "KIMI_UNRELATED": "x",
        "KIMI_SHELL__TIMEOUT": " ",
    }
    loaded = place.load()
    assert loaded.settings.budget.max_steps == 20
    assert loaded.settings.session.keep is False
    assert loaded.settings.endpoint.dialect == "vllm"
    assert loaded.settings.workspace.add_dirs == (f"{place.env['HOME']}/a", "b")
    assert loaded.sources["budget.max_steps"] == Source("environment", "KIMI_BUDGET__MAX_STEPS")


def test_project_folders_are_relative_to_the_project(place: Place) -> None:
    place.project_file.write_text('workspace.add_dirs = ["../lib", "/abs", "~/x"]')
    assert place.load().settings.workspace.add_dirs == (
        f"{place.root}/../lib",
        "/abs",
        f"{place.env['HOME']}/x",
    )


# --- errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = [1,\n", r", line 3, at its end: "),
        ("model = \n", r", line 1, column 9: "),
        ("[shell]\n[shell]\n", r", line 2, column \d+: "),
        ("\nmodle = 'x'", r", line 2: modle is not a setting \(did you mean model\?\)"),
        ("[shell]\n\ntimout = 1", r", line 3: shell\.timout is not .*mean shell\.timeout\?"),
        ("[budgett]\nmax_steps = 1", r", line 1: budgett is not .*mean budget\?"),
        ("base_url = 'x'", r", line 1: base_url is not .*mean endpoint\.base_url\?"),
        ('[prices."a.b"]\ninptu = 1', r', line 2: prices\."a\.b"\.inptu .*"a\.b"\.input\?'),
        ('"\\u001b[31m" = 1', r', line 1: "\\U0000001b\[31m" is not a setting$'),
        ("\nbudget.max_steps = 'many'", r", line 2: budget\.max_steps must be a valid integer"),
        ("[budget]\n#\nmax_steps = 0", r", line 3: budget\.max_steps must be greater than or eq"),
        ("[budget]\nmax_steps = true", r", line 2: budget\.max_steps must be a valid integer"),
        ("[timeouts]\nconnect = inf", r", line 2: timeouts\.connect must be a finite number"),
        ("model = 5", r", line 1: model must be a valid string"),
        ("shell = 5", r", line 1: shell must be "),
        (
            "x = '''\n\n'''\n[headless]\non_ask='maybe'",
            r", line 5: headless\.on_ask must be 'deny'",
        ),
        ("workspace = { add_dirs = [1] }", r", line 1: workspace\.add_dirs must be a valid string"),
        ("endpoint.base_url = 'ftp://x'", r", line 1: endpoint\.base_url must be a URL that"),
        ("endpoint.base_url = 'http://u:p@x'", r"must not contain a user name"),
        ("endpoint.base_url = 'http://[x'", r"endpoint\.base_url must be a URL"),
        ("endpoint.headers.'a b' = 'x'", r", line 1: endpoint\.headers header names must be"),
        ("[endpoint]\napi_key='a'\napi_key_env='B'", r", line 3: endpoint\.api_key_env conflicts "),
        ("[shell]\ntimeout = 9000", r"shell\.timeout \(9000, user .*:2\) is greater .*default\)"),
        ("[prices.x]\n\ninput = 1", r", line 3: prices\.x\.output is missing"),
        ("[" * 5000, r"config\.toml"),
        ("a = " + "[" * 50_000, r"config\.toml: is nested too deeply"),
        ("a = " + "9" * 5000, r"config\.toml"),
    ],
)
def test_an_error_names_file_line_and_key(place: Place, text: str, message: str) -> None:
    place.user_file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        place.load()
    assert str(place.user_file) in str(caught.value)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_all_wrong_keys_of_a_file_are_named_at_once(place: Place) -> None:
    place.user_file.write_text("model = 1\n[shell]\ntimeout = 'x'")
    with pytest.raises(SettingsError) as caught:
        place.load()
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        f"{place.user_file}, line 1",
        f"{place.user_file}, line 3",
    ]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"KIMI_BUDGET__MAX_STEPS": "x"}, r"KIMI_BUDGET__MAX_STEPS: budget\.max_steps must be"),
        ({"KIMI_BUDGET__MAX_STPES": "1"}, r"budget\.max_stpes .*did you mean budget\.max_steps"),
        ({"KIMI_SHELL__TIMEOUT__X": "1", "KIMI_SHELL__TIMEOUT": "2"}, r"KIMI_SHELL__TIMEOUT__X: "),
        ({"KIMI_MODEL__": "1"}, "KIMI_MODEL__: model"),
        ({"KIMI_BASE_URL": "x"}, r"KIMI_BASE_URL: endpoint\.base_url must"),
        ({"KIMI_BASE_URL": "http://a", "KIMI_ENDPOINT__BASE_URL": "http://a"}, "set the same"),
        ({"KIMI_API_KEY": f"{SECRET}\n{SECRET}"}, r"KIMI_API_KEY: endpoint\.api_key must be pri"),
        ({"MOONSHOT_API_KEY": f"{SECRET} é"}, "MOONSHOT_API_KEY: the key must be printable"),
    ],
)
def test_a_wrong_variable_is_named(place: Place, variables: dict[str, str], message: str) -> None:
    place.env |= variables
    with pytest.raises(SettingsError, match=message) as caught:
        place.load()
    assert SECRET not in str(caught.value)


def test_a_wrong_flag_is_an_error(place: Place) -> None:
    with pytest.raises(SettingsError, match=r"command line: budget\.max_steps must"):
        place.load(flags={"budget.max_steps": 0})


def test_files_that_are_no_text_are_named(place: Place) -> None:
    place.user_file.write_bytes(b"model = 'x'\n# \xff\n")
    with pytest.raises(SettingsError, match=r"config\.toml, line 2: is not UTF-8"):
        place.load()
    place.user_file.write_bytes(b"\xef\xbb\xbfmodel = 'with a byte order mark'")
    assert place.load().settings.model == "with a byte order mark"
    place.user_file.unlink()
    place.user_file.mkdir()
    with pytest.raises(SettingsError, match=r"config\.toml: is not a regular file"):
        place.load()


def test_a_file_without_permission_is_named(place: Place) -> None:
    place.user_file.write_text("")
    place.user_file.chmod(0)
    said = as_stranger(place, place.load)
    assert said == f"SettingsError: {place.user_file}: cannot be read: Permission denied"


# --- where keys stand

STATEMENTS = [
    '{} = "a # b [c"',
    "{} = '''\n[x]\nk = 1 \" '''",
    '{} = """\n\\"""\n[y]\n"""',
    '{} = """"quoted""""',
    "{} = [ # list\n  1, # ]\n  [2,\n 3],\n]",
    "{} = {{ a = 1, b = [1] }}",
    "  {} = 1 # [z]",
    "{} = ''",
]
names = st.sampled_from(["a", '"b.c"', "'d e'", "f-1", '"\\u0041"', '"]"', '"#"'])


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(names, min_size=1, max_size=2),
            st.lists(st.sampled_from(STATEMENTS), max_size=3),
            st.sampled_from(["", "\n", "# comment ' \"\n", "\t\n"]),
        ),
        max_size=4,
    )
)
def test_the_line_of_every_key_is_found(
    tables: list[tuple[list[str], list[str], str]],
) -> None:
    lines: list[str] = []
    expected: dict[Key, int] = {}
    for number, (path, statements, between) in enumerate(tables):
        table = ".".join([f"t{number}", *path])
        expected[split_key(table)] = len(lines) + 1
        lines += [f"[{table}]"]
        for place, statement in enumerate(statements):
            lines += between.splitlines()
            expected[split_key(f"{table}.k{place}.x")] = len(lines) + 1
            lines += statement.format(f"k{place} . x").splitlines()
    text = "\n".join(lines)
    tomllib.loads(text)  # the test's own text is valid

    assert key_lines(text) == expected


@given(st.lists(st.text(), min_size=1, max_size=3).map(tuple))
def test_a_dotted_key_is_read_back_and_safe_to_print(key: Key) -> None:
    written = dotted(key)
    assert written.isprintable()
    assert split_key(written) == tuple(part[:60] for part in key)


# --- trust


@pytest.mark.parametrize(("key", "value"), SAMPLES.items())
def test_an_untrusted_project_sets_harmless_keys_only(place: Place, key: str, value: Any) -> None:
    place.project_file.write_text("# theirs\n" + toml(key, value))

    loaded = place.load(trusted=False)

    if key in HARMLESS:
        assert loaded.warnings == []
        assert loaded.sources[key].kind == "project"
    else:
        assert loaded.settings == Settings()
        warning = f"{place.project_file}, line 2: {key} ignored: this folder is not trusted"
        assert loaded.warnings == [warning]


@pytest.mark.parametrize(
    ("mine", "theirs", "in_force"),
    [(None, 1001, 1000), (None, 500, 500), (10, 11, 10), (10, 9, 9), (1000, 999, 999)],
)
def test_an_untrusted_project_can_only_lower_a_limit(
    place: Place, mine: int | None, theirs: int, in_force: int
) -> None:
    if mine:
        place.user_file.write_text(f"budget.max_steps = {mine}")
    place.project_file.write_text(f"budget.max_steps = {theirs}")
    loaded = place.load(trusted=False)
    assert loaded.settings.budget.max_steps == in_force
    assert len(loaded.warnings) == (theirs != in_force)
    assert place.load(trusted=True).settings.budget.max_steps == theirs


@pytest.mark.parametrize(
    "text",
    [
        "model = ",
        "model = 5",
        "nonsense = 1",
        "budget.nonsense = 1",
        "budget = 5",
        "[headless]\nheartbeat = 1e9",
        'model = "\\u001b[2J"',
        "[endpoint]\napi_key='a'\napi_key_env='B'",
        "a = " + "[" * 50_000,
    ],
)
def test_nothing_in_an_untrusted_file_is_an_error(place: Place, text: str) -> None:
    place.project_file.write_text(text)
    loaded = place.load(trusted=False)
    assert loaded.settings == Settings()
    assert len(loaded.warnings) >= 1
    assert all("ignored" in warning and warning.isprintable() for warning in loaded.warnings)


def test_a_huge_untrusted_file_gives_few_warnings(place: Place) -> None:
    place.project_file.write_text("".join(f'"k{n}.{n}".b = 1\n' for n in range(40_000)))
    warnings = place.load(trusted=False).warnings
    assert len(warnings) == 11
    assert warnings[-1] == "and 39990 more settings ignored there"


def test_a_project_file_that_leads_elsewhere_is_refused(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.toml").write_text("model = 'outside'")

    def refused(reason: str) -> None:
        with pytest.raises(SettingsError, match=reason):
            place.load(trusted=True)
        loaded = place.load(trusted=False)
        assert loaded.settings == Settings()
        assert len(loaded.warnings) == 1 and reason in loaded.warnings[0]
        with pytest.raises(SettingsError, match=reason):
            set_value(place.env, place.root, "model", "x")
        assert (outside / "config.toml").read_text() == "model = 'outside'"

    place.project_file.symlink_to(outside / "config.toml")
    refused("leads out of the project")
    place.project_file.unlink()
    place.project_file.parent.rmdir()
    place.project_file.parent.symlink_to(outside)
    refused("leads out of the project")
    place.project_file.parent.unlink()
    place.project_file.parent.mkdir()
    os.mkfifo(place.project_file)
    refused("is not a regular file")
    place.project_file.unlink()
    place.project_file.write_bytes(b"#" * (MAX_BYTES + 1))
    refused("is larger than")
    place.project_file.unlink()
    (place.root / "shared.toml").write_text("model = 'inside'")
    place.project_file.symlink_to("../shared.toml")
    assert place.load().settings.model == "inside"


def test_the_kimi_folder_in_the_home_is_another_programs(place: Place) -> None:
    place.project_file.write_text("theirs = 'another program'")
    place.env["HOME"] = str(place.root)
    assert place.load(trusted=True).settings == Settings()
    with pytest.raises(SettingsError, match="in other use"):
        set_value(place.env, place.root, "model", "x")
    place.env["HOME"] = "/nonexistent"
    place.env["KIMI_HOME"] = str(place.root / ".kimi")
    place.project_file.write_text("model = 'mine'")
    assert place.load(trusted=False).sources["model"].kind == "user"


def test_trust_is_for_exactly_one_folder(place: Place, tmp_path: Path) -> None:
    assert not is_trusted(place.home, place.root)
    trust(place.home, place.root)
    trust(place.home, place.root)
    assert is_trusted(place.home, place.root)
    assert is_trusted(place.home, place.root / ".." / "project")
    assert not is_trusted(place.home, place.root / ".kimi")
    assert not is_trusted(place.home, tmp_path)
    file = place.home / "trusted-folders"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text(file.read_text().strip() + '\nnot json\n17\n"/by/hand"')
    odd = tmp_path / "two\nlines \udc80"
    trust(place.home, odd)
    assert is_trusted(place.home, odd) and is_trusted(place.home, Path("/by/hand"))
    assert is_trusted(place.home, place.root)
    assert not is_trusted(tmp_path / "nowhere", place.root)


def git(*arguments: str | Path) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def test_a_worktree_is_trusted_with_its_repository_and_a_forged_one_is_not(
    place: Place, tmp_path: Path
) -> None:
    git("init", place.root)
    git("-C", place.root, "commit", "--allow-empty", "-m", "x")
    worktree = tmp_path / "worktree"
    git("-C", place.root, "worktree", "add", worktree)
    assert not is_trusted(place.home, worktree)
    trust(place.home, place.root)
    assert is_trusted(place.home, worktree)

    forged = tmp_path / "forged"
    forged.mkdir()
    (forged / ".git").write_bytes((worktree / ".git").read_bytes())
    assert not is_trusted(place.home, forged)
    nested = place.root / "vendor"
    git("init", nested)
    assert not is_trusted(place.home, nested)
    (forged / ".git").unlink()
    os.mkfifo(forged / ".git")
    assert not is_trusted(place.home, forged)


# --- keys of the endpoint


def test_the_key_comes_from_the_nearest_place(place: Place) -> None:
    def key() -> tuple[str, Source]:
        loaded = place.load()
        assert loaded.warnings == []
        return loaded.settings.endpoint.api_key.get_secret_value(), loaded.sources[
            "endpoint.api_key"
        ]

    place.user_file.write_text("endpoint.api_key = ' file '")
    assert key() == ("file", Source("user", f"{place.user_file}:1"))
    place.env["NAMED"] = "named\n"
    place.project_file.write_text("endpoint.api_key_env = 'NAMED'")
    assert key() == ("named", Source("project", f"{place.project_file}:1 (variable NAMED)"))
    place.env["MOONSHOT_API_KEY"] = "shared"
    assert key() == ("shared", Source("environment", "MOONSHOT_API_KEY"))
    place.env["KIMI_API_KEY"] = "own"
    assert key() == ("own", Source("environment", "KIMI_API_KEY"))


def test_a_named_variable_that_is_not_set_is_a_warning(place: Place) -> None:
    place.user_file.write_text("endpoint.api_key_env = 'NAMED'")
    loaded = place.load()
    assert loaded.settings.endpoint.api_key.get_secret_value() == ""
    assert loaded.warnings == [
        f"endpoint.api_key_env (user {place.user_file}:1) names NAMED, which is not set"
    ]


def test_the_shared_key_goes_where_the_user_says_but_not_where_a_project_says(
    place: Place,
) -> None:
    place.env["MOONSHOT_API_KEY"] = SECRET
    url = "https://elsewhere.example/v1"
    place.project_file.write_text(f"endpoint.base_url = '{url}'")
    loaded = place.load(trusted=True)
    assert loaded.settings.endpoint.base_url == url
    assert loaded.settings.endpoint.api_key.get_secret_value() == ""
    assert "MOONSHOT_API_KEY is not sent" in loaded.warnings[0]
    place.env["KIMI_BASE_URL"] = url
    loaded = place.load(trusted=True)
    assert loaded.settings.endpoint.api_key.get_secret_value() == SECRET
    assert loaded.warnings == []


def test_secrets_are_in_no_representation(place: Place) -> None:
    place.env["KIMI_API_KEY"] = SECRET
    place.user_file.write_text(f'endpoint.headers.Authorization = "Bearer {SECRET}"')
    loaded = place.load()
    assert SECRET not in f"{loaded!r} {loaded.settings} {loaded.settings.model_dump_json()}"
    place.user_file.write_text(f'[endpoint]\napi_key = ["{SECRET}"]\nheaders.X = ["{SECRET}"]')
    with pytest.raises(SettingsError) as caught:
        place.load()
    assert SECRET not in str(caught.value)


# --- places


def test_home_and_its_fallbacks(tmp_path: Path) -> None:
    assert kimi_home({"HOME": "/h", "KIMI_HOME": "~/k"}) == Path("/h/k")
    assert kimi_home({"HOME": "/h"}) == Path("/h/.kimi-cli")
    assert kimi_home({}).name == ".kimi-cli"
    assert load_settings(
        env={"HOME": "/proc/nonexistent"}, project_root=None, flags={}, trusted=False
    )


def as_stranger(place: Place, work: Callable[[], object]) -> str:
    """What ``work`` returns or raises in a process of a user without privileges or home. Forked
    and not started: such a user may have no right to run this Python."""
    if os.getuid() != 0:
        pytest.skip("needs the right to become another user")
    for folder in (place.home, *place.home.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(54321)
            os.setuid(54321)
            answer = str(work())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        answer = file.read()
    os.waitpid(child, 0)
    return answer


def test_a_user_without_home_gets_a_private_folder(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = place.home.parent / "temp"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))

    first = as_stranger(place, lambda: kimi_home({}))
    assert first == as_stranger(place, lambda: kimi_home({})) == f"{shared}/kimi-cli-54321"
    found = Path(first).stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (54321, 0o700)

    def elsewhere() -> bool:
        other = Path(as_stranger(place, lambda: kimi_home({})))
        return other != Path(first) and other.stat().st_uid == 54321

    os.chown(first, 0, 0)
    assert elsewhere()
    os.chown(first, 54321, 54321)
    os.chmod(first, 0o722)
    assert elsewhere()
    os.rename(first, shared / "moved")
    os.symlink(shared / "moved", first)
    assert elsewhere()


# --- kimi config

KIMI_CONFIG = [sys.executable, "-c", "from kimi_cli.cli.config import app; app()"]


def config(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KIMI_CONFIG, *arguments],
        cwd=place.root,
        env={**place.env, "PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )


def test_config_show_gives_each_value_with_its_source(place: Place) -> None:
    (place.root / ".git").write_text("")
    place.env |= {"KIMI_API_KEY": SECRET, "KIMI_MODEL": "kimi-k3"}
    place.user_file.write_text('[endpoint.headers]\nX-A = "short"\n')
    place.project_file.write_text("shell.timeout = 5\nbudget.max_steps = 7")

    shown = config(place, "show")
    rows = json.loads(config(place, "show", "--json").stdout)

    assert "shell.timeout ignored: this folder is not trusted\n" in shown.stderr
    lines = shown.stdout.splitlines()
    assert 'model = "kimi-k3"  # environment KIMI_MODEL' in lines
    assert 'endpoint.api_key = "sk-…1234"  # environment KIMI_API_KEY' in lines
    assert f'endpoint.headers.X-A = "…"  # user {place.user_file}:2' in lines
    assert f"budget.max_steps = 7  # project {place.project_file}:2" in lines
    assert "budget.max_cost = (not set)  # default" in lines
    assert rows["budget.max_steps"] == {
        "value": 7,
        "source": "project",
        "detail": f"{place.project_file}:2",
    }
    assert rows["endpoint.api_key"]["value"] == "sk-…1234"
    assert list(rows) == [line.split(" = ")[0] for line in lines]
    assert SECRET not in shown.stdout + shown.stderr + json.dumps(rows)


def test_config_show_with_a_wrong_file_exits_with_2(place: Place) -> None:
    place.user_file.write_text("modle = 1")
    done = config(place, "show")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{place.user_file}, line 1: modle is not a setting" in done.stderr
    assert config(place, "path").stdout == f"{place.user_file}\n{place.project_file}\n"


def test_config_set_keeps_the_rest_of_the_file(place: Place) -> None:
    place.user_file.write_text("# mine\nmodel = 'a'  # the model\n\n[shell]\ntimeout = 5\n")
    assert config(place, "set", "model", "kimi-k3").returncode == 0
    assert config(place, "set", "thinking", "on").returncode == 0
    assert config(place, "set", "shell.max_timeout", "50").returncode == 0
    text = place.user_file.read_text()
    assert text.startswith('# mine\nmodel = "kimi-k3"  # the model\n')
    assert tomllib.loads(text) == {
        "model": "kimi-k3",
        "thinking": "on",
        "shell": {"timeout": 5, "max_timeout": 50},
    }
    assert stat.S_IMODE(place.user_file.stat().st_mode) == 0o600


def test_config_set_writes_nothing_that_is_wrong(place: Place) -> None:
    place.user_file.write_text("shell.timeout = 5\n")
    before = place.user_file.stat()
    for key, value, message in [
        ("budget.max_steps", "many", "budget.max_steps must be a valid integer"),
        ("budget.max_stpes", "5", "budget.max_stpes is not a setting"),
        ("shell.max_timeout", "1", "is greater than shell.max_timeout"),
        ("a = 1\nb", "1", "is not a key"),
        ("", "1", "is not a key"),
        ("model.x", "1", "model must be"),
        ("shell", "1", "shell must be"),
    ]:
        with pytest.raises(SettingsError) as caught:
            set_value(place.env, None, key, value)
        assert message in str(caught.value)
    done = config(place, "set", "budget.max_steps", "many")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("kimi: budget.max_steps many: must be a whole number")
    after = place.user_file.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert os.listdir(place.home) == ["config.toml"]


def test_config_set_in_a_project(place: Place) -> None:
    (place.root / ".git").write_text("")
    place.project_file.parent.rmdir()
    done = config(place, "set", "--project", "budget.max_steps", "5")
    assert done.returncode == 0
    assert "this folder is not trusted" in done.stderr
    assert tomllib.loads(place.project_file.read_text()) == {"budget": {"max_steps": 5}}
    assert not place.user_file.exists()
    refused = config(place, "set", "--project", "endpoint.api_key", SECRET)
    assert refused.returncode == 2 and SECRET not in refused.stderr


def test_config_set_repairs_the_wrong_key_and_follows_a_symlink(place: Place) -> None:
    real = place.home / "dotfiles.toml"
    real.write_text("[budget]\nmax_steps = 'x'\n")
    place.user_file.symlink_to(real)
    set_value(place.env, None, "budget.max_steps", "5")
    assert place.user_file.is_symlink()
    assert tomllib.loads(real.read_text()) == {"budget": {"max_steps": 5}}


def test_config_set_says_what_is_missing(place: Place) -> None:
    assert set_value(place.env, None, 'prices."a.b".input', "1")[1] == ['prices."a.b".output']
    assert set_value(place.env, None, 'prices."a.b".output', "2")[1] == []
    assert place.load().settings.prices["a.b"].output == 2


LAYOUTS = [
    "",
    "[shell]\n",
    "shell.timeout = 5\n",
    "shell = { timeout = 5 }\n",
    '[endpoint.headers]\nA = "1"\n[shell]\n',
    '[prices.a]\ninput = 1\noutput = 1\n[shell]\n[prices.NAME]\ninput = 1\noutput = 1\n',
    "model = 'x'\r\n[budget]\r\nmax_steps = 5\r\n",
    "# only a comment",
]  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(LAYOUTS), st.permutations(sorted(SAMPLES)).map(lambda keys: keys[:4]))
def test_any_key_can_be_set_in_a_file_of_any_layout(
    tmp_path_factory: pytest.TempPathFactory, layout: str, keys: list[str]
) -> None:
    home = tmp_path_factory.mktemp("home")
    env = {"HOME": "/nonexistent", "KIMI_HOME": str(home)}
    file = home / "config.toml"
    file.write_bytes(layout.encode())
    expected = flatten(tomllib.loads(layout))
    for key in keys:
        if {"endpoint.api_key", "endpoint.api_key_env"} <= set(keys):
            return
        set_value(env, None, key, json.dumps(SAMPLES[key]))
        expected[split_key(key)] = SAMPLES[key]
        assert flatten(tomllib.loads(file.read_text())) == expected


# --- the documentation


def test_the_documentation_lists_every_key_with_its_default() -> None:
    text = (REPOSITORY / "docs" / "settings.md").read_text().partition("## Environment")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (`[^`]*`|not set) \|", text, re.MULTILINE)
    known = {}
    for key, default in known_keys():
        plain = default.get_secret_value() if isinstance(default, SecretStr) else default
        unset = plain is None or plain == {}
        known[dotted(key)] = "not set" if unset else f"`{json.dumps(plain)}`"
    assert dict(rows) == known
    assert len(rows) == len(known)

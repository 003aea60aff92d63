"""The settings as one model: what can be set, of which type, and the defaults."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*$"

Name = Annotated[str, Field(min_length=1, max_length=300, pattern=PRINTABLE)]
Seconds = Annotated[float, Field(gt=0)]
Money = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]


class Section(BaseModel):
    """Base of all tables: immutable, typos refused, no silent conversion of types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True
    )


class Endpoint(Section):
    """Where the model is served. The key is either given itself or as the name of an environment
    variable; after loading ``api_key`` holds it in both cases."""

    base_url: Name = "https://api.moonshot.ai/v1"
    api_key: SecretStr = SecretStr("")
    api_key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$|^$")] = ""
    dialect: Name = "auto"
    headers: dict[Name, SecretStr] = {}

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            host, user = parts.hostname, parts.username
            _ = parts.port
        except ValueError as error:
            raise ValueError("must be a URL") from error
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("must be a URL that starts with http:// or https:// and names a host")
        if user is not None:
            raise ValueError("must not contain a user name or password: use api_key or headers")
        return value.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value().strip()
        if not all("!" <= char <= "~" for char in text):
            raise ValueError("must be printable ASCII without blanks")
        return SecretStr(text)

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, content in value.items():
            if not all("!" <= char <= "~" and char != ":" for char in name):
                raise ValueError("header names must be printable ASCII without blanks and colons")
            if any(char < " " or char == "\x7f" for char in content.get_secret_value()):
                raise ValueError("header values must not contain control characters")
        return value


class Sampling(Section):
    """None: not sent, the server's own default holds."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_output_tokens: Count | None = None


class Budget(Section):
    """Limits of a run; None: no limit. ``max_cost`` is in the currency of the model's price,
    ``timeout`` in seconds, ``warn_at`` a share of each limit."""

    max_steps: Count = 1000
    max_tokens: Count | None = None
    max_cost: Annotated[float, Field(gt=0)] | None = None
    timeout: Seconds | None = None
    warn_at: Annotated[float, Field(gt=0, le=1)] = 0.8


class Timeouts(Section):
    """Seconds. The wait for the first byte is ``first_byte`` plus ``first_byte_per_1k_tokens``
    for every 1,000 prompt tokens that the server cannot have cached."""

    connect: Seconds = 15.0
    first_byte: Seconds = 120.0
    first_byte_per_1k_tokens: Annotated[float, Field(ge=0)] = 2.0
    between_chunks: Seconds = 120.0


class Retry(Section):
    """``attempts`` counts the first one; an overloaded server is tried for ``overload_minutes``
    even when the attempts are used up."""

    attempts: Count = 6
    base_seconds: Annotated[float, Field(ge=0)] = 1.0
    cap_seconds: Annotated[float, Field(ge=0)] = 60.0
    overload_minutes: Annotated[float, Field(ge=0)] = 20.0


class Price(Section):
    """Money for a million tokens; ``cached_input`` None: as ``input``."""

    input: Money
    output: Money
    cached_input: Money | None = None
    currency: Name = "USD"
    source: Annotated[str, Field(max_length=300, pattern=PRINTABLE)] = ""


class ModelEntry(Section):
    """What is known of a model, over the built-in catalogue; None: not set here. ``same_as`` names
    the model that it is, where it is served under another name; ``tokenizer`` is a
    ``tiktoken.model`` file, or a folder with one."""

    same_as: Name | None = None
    context: Count | None = None
    tokenizer: Name | None = None
    max_output_tokens: Count | None = None
    thinking: Literal["none", "switch", "always"] | None = None
    efforts: Names | None = None
    media: Annotated[tuple[Literal["image", "video"], ...], Field(strict=False)] | None = None


class Shell(Section):
    """Commands run for the model. ``timeout`` and ``max_timeout`` (the most the model may ask
    for) in seconds."""

    timeout: Seconds = 120.0
    max_timeout: Seconds = 600.0


class Headless(Section):
    """Runs without a terminal. ``heartbeat``: seconds between two signs of life."""

    on_ask: Literal["deny", "fail"] = "deny"
    heartbeat: Annotated[float, Field(gt=0, le=600)] = 30.0


class WorkspaceFolders(Section):
    """Folders that belong to the workspace beside the project."""

    add_dirs: Names = ()


class Context(Section):
    """How the context window is used. ``compact_at`` is the share of it at which it is compacted,
    earlier where an answer would have too little room; ``recent_tokens`` are kept as they are."""

    auto_compact: bool = True
    compact_at: Annotated[float, Field(gt=0, le=1)] = 0.85
    recent_tokens: Annotated[int, Field(ge=0)] = 20_000


class SessionKeeping(Section):
    """Whether sessions are stored, and for how many days the long outputs of commands are kept;
    0: for ever."""

    keep: bool = True
    outputs_days: Annotated[float, Field(ge=0)] = 30.0


class Sandbox(Section):
    """What commands may do to the machine. ``network`` False leaves them a private loopback.
    ``write`` are more places that they may change, ``hide`` more that they see empty, ``show``
    those of the built-in ones that they may see; ``~`` is the home folder."""

    mode: Literal["read-only", "workspace-write", "off"] = "workspace-write"
    network: bool = False
    write: Names = ()
    hide: Names = ()
    show: Names = ()


class Policy(Section):
    """Rules such as ``shell(git push)``; those of all sources hold together, deny before ask before
    allow."""

    allow: Names = ()
    ask: Names = ()
    deny: Names = ()


class Secrets(Section):
    """``files``: names that ask before they are read, on top of the built-in ones. ``tokens``:
    regular expressions of what exports mask, on top of the built-in ones."""

    files: Names = ()
    tokens: Names = ()

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        import re

        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return value


class Undo(Section):
    """Snapshots of the work tree, to take back what a turn did. Files of more than ``max_file_mb``
    are left out; ``days`` until a snapshot is dropped."""

    enabled: bool = True
    max_file_mb: Annotated[float, Field(gt=0)] = 16.0
    max_files: Count = 100_000
    days: Annotated[float, Field(ge=0)] = 14.0


class Terminal(Section):
    """The interactive terminal. ``theme`` "auto" goes by what the terminal tells of its background;
    ``notify``: call the user back when an answer is needed, or a long turn has ended."""

    theme: Literal["auto", "dark", "light", "none"] = "auto"
    notify: bool = True


class Settings(Section):
    """All settings. ``thinking`` is "" (the model's default), "on", "off" or an effort."""

    model: Name = "kimi-k2.5"
    thinking: Annotated[str, Field(max_length=30, pattern=r"^[a-z0-9_-]*$")] = ""
    endpoint: Endpoint = Endpoint.model_construct()
    sampling: Sampling = Sampling.model_construct()
    budget: Budget = Budget.model_construct()
    timeouts: Timeouts = Timeouts.model_construct()
    retry: Retry = Retry.model_construct()
    prices: dict[Name, Price] = {}
    models: dict[Name, ModelEntry] = {}
    shell: Shell = Shell.model_construct()
    headless: Headless = Headless.model_construct()
    workspace: WorkspaceFolders = WorkspaceFolders.model_construct()
    context: Context = Context.model_construct()
    session: SessionKeeping = SessionKeeping.model_construct()
    sandbox: Sandbox = Sandbox.model_construct()
    policy: Policy = Policy.model_construct()
    secrets: Secrets = Secrets.model_construct()
    undo: Undo = Undo.model_construct()
    terminal: Terminal = Terminal.model_construct()

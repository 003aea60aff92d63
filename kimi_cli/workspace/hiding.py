"""Which of the user's places commands see empty: keys, tokens, passwords, what was typed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

SECRET_PLACES = (
    # Keys and what unlocks other machines.
    ".ssh", ".gnupg", ".pki", ".local/share/keyrings", ".password-store",
    ".local/share/gopass", ".config/op", ".config/1Password", ".config/Bitwarden",
    ".config/Bitwarden CLI", ".config/KeePass", ".config/keepassxc", ".config/sops/age",
    ".config/age", ".vault-token", ".step", "Library/Keychains",
    # Clouds and clusters.
    ".aws", ".azure", ".config/gcloud", ".config/doctl", ".config/hcloud", ".config/linode-cli",
    ".config/openstack", ".config/rclone", ".oci", ".bluemix", ".aliyun", ".fly",
    ".kube", ".config/helm/registry", ".config/containers/auth.json", ".docker/config.json",
    ".terraform.d/credentials.tfrc.json", ".pulumi/credentials.json", ".config/scw", ".boto",
    ".s3cfg", ".config/s3cmd", ".config/stripe", ".config/heroku", ".config/netlify",
    ".local/share/com.vercel.cli", ".config/.wrangler", ".wrangler", ".snowflake", ".databrickscfg",
    # Forges, registries, mail and databases.
    ".netrc", "_netrc", ".git-credentials", ".config/git/credentials", ".config/gh",
    ".config/hub", ".config/glab-cli", ".config/tea", ".pypirc", ".gem/credentials",
    ".local/share/gem/credentials", ".cargo/credentials", ".cargo/credentials.toml",
    ".config/composer/auth.json", ".composer/auth.json", ".m2/settings-security.xml",
    ".nuget/NuGet/NuGet.Config", ".pgpass", ".my.cnf", ".mylogin.cnf", ".config/pypoetry/auth.toml",
    ".cache/huggingface/token", ".cache/huggingface/stored_tokens", ".kaggle", ".wandb",
    ".config/wandb", ".msmtprc", ".config/himalaya", ".config/neomutt", ".thunderbird",
    ".config/evolution", ".local/share/evolution", "Library/Mail", "Library/Messages",
    # Other agents' keys.
    ".claude/.credentials.json", ".codex/auth.json", ".gemini", ".config/github-copilot",
    ".local/share/opencode/auth.json", ".config/openai", ".anthropic",
    # Browsers: cookies and passwords.
    ".mozilla", ".config/google-chrome", ".config/google-chrome-beta", ".config/chromium",
    ".config/BraveSoftware", ".config/microsoft-edge", ".config/opera", ".config/vivaldi",
    ".librewolf", ".zen", "snap/firefox", "snap/chromium", ".var/app",
    "Library/Application Support/Google/Chrome", "Library/Application Support/Firefox",
    "Library/Application Support/BraveSoftware", "Library/Application Support/Microsoft Edge",
    "Library/Application Support/Arc", "Library/Safari", "Library/Cookies",
    # Conversations.
    ".config/Signal", ".config/Slack", ".config/discord", ".local/share/TelegramDesktop",
    # What was typed: passwords get there by mistake.
    ".bash_history", ".zsh_history", ".zhistory", ".local/share/fish/fish_history", ".histfile",
    ".python_history", ".node_repl_history", ".psql_history", ".mysql_history", ".sqlite_history",
    ".rediscli_history", ".irb_history", ".lesshst", ".viminfo",
)  # fmt: skip

# Settings that most people have no secret in; hidden only when they hold one.
_MAYBE = (
    (".npmrc", rb"(?im)^[^#;\n]*(_authToken|_auth|_password)\s*="),
    (".yarnrc.yml", rb"(?im)^[^#\n]*(npmAuthToken|npmAuthIdent)\s*:"),
    (".config/pip/pip.conf", rb"(?i)://[^/\s@]+:[^/\s@]+@"),
    (".pip/pip.conf", rb"(?i)://[^/\s@]+:[^/\s@]+@"),
    (".gitconfig", rb"(?i)://[^/\s@]+:[^/\s@]+@"),
    (".m2/settings.xml", rb"(?i)<(password|passphrase)>"),
    (".gradle/gradle.properties", rb"(?im)^[^#\n]*(password|token|secret|apikey)\w*\s*[=:]"),
    (".condarc", rb"(?i)://[^/\s@]+:[^/\s@]+@"),
    (".bundle/config", rb"(?im)^BUNDLE_[A-Z0-9_]+:\s*\S+:\S+"),
)
_LARGEST = 1 << 20

# What runs at the user's next login, or in the next shell; only where the home folder itself is
# worked in could a command write these.
STARTUP_FILES = (
    ".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile",
    ".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".kshrc", ".xprofile", ".xinitrc",
    ".xsession", ".config/fish", ".config/autostart", ".config/systemd", ".config/environment.d",
    ".gitconfig", ".config/git", ".pam_environment", ".config/nushell", ".local/bin", "bin",
    "Library/LaunchAgents",
)  # fmt: skip


def secret_places(home: Path, hide: Sequence[str], show: Sequence[str]) -> list[Path]:
    """The places to hide that exist, resolved: the built-in ones below the home folder ``home`` and
    those in ``hide``, without those in ``show`` and what lies inside these. Both name absolute
    paths, or such that start with ``~``."""
    shown = [expand(text, home) for text in show]
    found = [home / place for place in SECRET_PLACES]
    found += [home / place for place, pattern in _MAYBE if _holds(home / place, pattern)]
    found += [expand(text, home) for text in hide]
    return [
        path
        for path in dict.fromkeys(_existing(found))
        if not any(path.is_relative_to(place) for place in shown)
    ]


def expand(text: str, home: Path) -> Path:
    """A path of the settings, resolved; ``~`` is ``home``."""
    path = home / text[2:] if text.startswith("~/") else home if text == "~" else Path(text)
    return Path(os.path.realpath(path))


def _existing(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            yield Path(os.path.realpath(path, strict=True))
        except OSError:
            continue


def _holds(file: Path, pattern: bytes) -> bool:
    try:
        with file.open("rb") as stream:
            return re.search(pattern, stream.read(_LARGEST)) is not None
    except OSError:
        return False

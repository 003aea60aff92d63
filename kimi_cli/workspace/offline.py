"""Without the network tools should say so at once, and make do with what they have kept.

Each of these is a variable of the tool's own; what fails still names the network as the cause, so
that it can be told from other failures.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

OFFLINE: Mapping[str, str] = MappingProxyType(
    {
        # pip: the option --retries. None at all would hide why nothing was found.
        "PIP_RETRIES": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # npm: the settings fetch-retries (2 waits of 10 s and more otherwise), prefer-offline,
        # update-notifier; pnpm reads them too.
        "npm_config_fetch_retries": "0",
        "npm_config_prefer_offline": "true",
        "npm_config_update_notifier": "false",
        # Cargo: net.offline, which resolves by what is there; three retries in 11 s otherwise.
        "CARGO_NET_OFFLINE": "true",
        # uv: the option --offline.
        "UV_OFFLINE": "1",
        # Composer: uses its cache alone.
        "COMPOSER_DISABLE_NETWORK": "1",
        # huggingface_hub: models and data sets from its cache without asking for newer ones.
        "HF_HUB_OFFLINE": "1",
    }
)


def offline_environment(env: Mapping[str, str]) -> dict[str, str]:
    """What commands without network get, but for what the user has set in ``env`` already."""
    return {name: value for name, value in OFFLINE.items() if not env.get(name)}

"""The cache layers of one session's commands."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kimi_cli.workspace.box import Box
from kimi_cli.workspace.caches import Layers, Slot, make_layers, take_slot


class SessionCaches:
    """Hands out layers. Each command has its own mounts, and what two overlays with one upper
    folder show is undefined (the kernel's overlayfs.rst), so a command that starts while another
    runs gets those of a further slot. Nothing is taken before the first command; where KIMI_HOME
    (``home``) can't be written there are no layers, and the caches are read-only. ``overlays`` and
    ``own`` are those of ``make_layers``."""

    def __init__(
        self,
        home: Path,
        project: Path,
        *,
        user_home: Path,
        env: Mapping[str, str],
        overlays: bool,
        own: Sequence[Path],
    ) -> None:
        self._home, self._project = home, project
        self._user_home, self._env = user_home, env
        self._overlays, self._own = overlays, own
        self._slots: list[Slot] = []
        self._layers: list[Layers] = []
        self._used: dict[int, Layers] = {}

    def common(self) -> Layers:
        """The layers whose folders and variables hold for all commands."""
        return self._layers[0] if self._layers else self._more()

    def free(self) -> Layers:
        """Layers whose overlays no running command uses."""
        first = self.common()
        if not first.overlays:
            return first
        used = [layers.overlays for layers in self._used.values()]
        found = next((layers for layers in self._layers if layers.overlays not in used), None)
        return found or self._more()

    def begin(self, number: int, box: Box) -> None:
        """The command ``number`` is about to start in ``box``."""
        uppers = {upper for _, upper, _ in box.overlays}
        for layers in self._layers:
            if any(os.fsencode(upper) in uppers for _, upper, _ in layers.overlays):
                self._used[number] = layers

    def end(self, number: int) -> None:
        """Nothing is left of the command."""
        self._used.pop(number, None)

    def close(self) -> None:
        for slot in self._slots:
            slot.close()
        self._slots.clear()
        self._layers.clear()

    def _more(self) -> Layers:
        made = Layers()
        try:
            slot = take_slot(self._home, self._project)
            self._slots.append(slot)
            made = make_layers(
                slot.folder,
                user_home=self._user_home,
                env=self._env,
                overlays=self._overlays,
                own=self._own,
            )
        except OSError:
            pass
        self._layers.append(made)
        return made

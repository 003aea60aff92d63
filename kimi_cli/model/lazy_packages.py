"""Packages whose ``__init__`` runs only when a name is missing.

For a program that needs a few modules of a large package whose ``__init__`` imports all of it.
A stand-in has the package's real spec and path, so its submodules import as ever; the first
access to a name that neither is there nor is a submodule runs the real ``__init__`` in place.
Whoever uses the package afterwards sees nothing but the package. ``importlib.util.LazyLoader``
does not do it: importing a submodule triggers its parent.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any


@contextmanager
def lazy_packages(chosen: Callable[[str], bool]) -> Iterator[None]:
    """While the block runs, packages whose full name ``chosen`` picks are imported as stand-ins."""
    finder = _Finder(chosen)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder:
    def __init__(self, chosen: Callable[[str], bool]) -> None:
        self._chosen = chosen

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self._chosen(name):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.submodule_search_locations is None:
            return None
        if type(spec.loader) is not SourceFileLoader:
            return None
        spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Leaves the module empty and ready to run its ``__init__`` later."""

    def exec_module(self, module: ModuleType) -> None:
        real = SourceFileLoader(self.name, self.path)
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = real
        module.__dict__[_PENDING] = _Pending(real)
        module.__class__ = _StandIn


_PENDING = "__kimi_pending__"


class _Pending:
    """What it takes to run an ``__init__`` once, whichever thread comes first."""

    def __init__(self, loader: SourceFileLoader) -> None:
        self._loader = loader
        self._lock = threading.RLock()
        self._running = False

    def run(self, module: ModuleType) -> bool:
        """Run it, or wait for the thread that does; False from within the ``__init__`` itself."""
        with self._lock:
            if self._running:
                return False
            if _PENDING in module.__dict__:
                self._running = True
                try:
                    self._loader.exec_module(module)
                finally:
                    self._running = False
                del module.__dict__[_PENDING]
                module.__class__ = ModuleType
            return True


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        pending = self.__dict__.get(_PENDING)
        if pending is None and name in self.__dict__:
            return self.__dict__[name]
        missing = AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if pending is None:
            raise missing
        if not name.startswith("__"):
            full = f"{self.__name__}.{name}"
            if PathFinder.find_spec(full, self.__path__) is not None:
                return importlib.import_module(full)
        if not pending.run(self):
            raise missing
        return getattr(self, name)

    def __dir__(self) -> list[str]:
        pending = self.__dict__.get(_PENDING)
        if pending is not None and pending.run(self):
            return dir(self)
        return sorted(self.__dict__)

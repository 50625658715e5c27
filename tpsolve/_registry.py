"""Tables of what has a name: filled by the package, by its users, and by plug-ins that are installed."""

import inspect
import pkgutil
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from tpsolve.errors import ArgumentError, PluginWarning

Item = TypeVar("Item")
Base = TypeVar("Base")
Class = TypeVar("Class", bound=type)


class Registry(MutableMapping[str, Item]):
    """Functions by name, in the order in which they were registered; those of plug-ins come last.

    Plug-ins are the entry points of `group` that installed packages have. They are loaded once: when a name is
    asked for that is not known yet, or when all names are read. A plug-in that can't be loaded is named in a
    `PluginWarning`, and the others are loaded all the same.

    Args:
        what: what an item is, such as "suite", for messages.
        home: where this registry is found, such as "tpsolve.compare:SUITES"; other processes look for it there.
        group: the entry points that it loads.
    """

    def __init__(self, what: str, home: str, group: str):
        self.what: str = what
        self.home: str = home
        self.group: str = group
        self._items: dict[str, Item] = {}
        self._loaded = False
        # Another thread waits until all plug-ins are there; a plug-in that reads the registry does not.
        self._lock = threading.RLock()

    def check(self, name: str, item: Any) -> None:
        """Raise ArgumentError unless `item` may be registered under `name`."""
        if not re.fullmatch(r"[\w.-]+", name):
            raise ArgumentError("name", repr(name), "letters, digits, '-', '_' and '.'")
        if not callable(item):
            raise ArgumentError(self.what, repr(item), "a function")

    def __getitem__(self, name: str) -> Item:
        if name not in self._items:
            self._load_plugins()
        return self._items[name]

    def __setitem__(self, name: str, item: Item) -> None:
        """Register `item`; one that is defined once more, as a cell of a notebook does, takes the old one's place.

        Raises:
            ArgumentError: it can't be registered, or something else has this name.
        """
        self.check(name, item)
        other = self._items.get(name, item)
        if _origin(other) != _origin(item):
            taken = ".".join(_origin(other))
            raise ArgumentError(self.what, f"the name {name!r}", "another name", f"{taken} has this one.")
        self._items[name] = item

    def __delitem__(self, name: str) -> None:
        del self._items[name]

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(self._items)

    def __len__(self) -> int:
        self._load_plugins()
        return len(self._items)

    def __repr__(self) -> str:
        return f"<registry of {self.home}: {', '.join(self)}>"

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return pkgutil.resolve_name, (self.home,)

    def _load_plugins(self) -> None:
        with self._lock:
            if self._loaded:
                return
            self._loaded = True
            broken = []
            for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
                try:
                    self[point.name] = point.load()
                except Exception as error:  # Whatever a foreign module raises while it is imported.
                    broken.append(self._message(point, error))
        # After all are loaded: a warning may be made an error.
        for message in broken:
            warnings.warn(message, PluginWarning, stacklevel=3)

    def _message(self, point: EntryPoint, error: Exception) -> str:
        package = f" (package {point.dist.name} {point.dist.version})" if point.dist else ""
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return f"{self.what} plug-in {point.name}{package} was not loaded: {reason}"


class ClassRegistry(Registry[type[Base]], Generic[Base]):
    """Concrete classes derived from `base`, each under its class attribute `name`.

    Args:
        required: other class attributes that each must have.
    """

    def __init__(self, what: str, home: str, group: str, base: type[Base], required: tuple[str, ...] = ()):
        super().__init__(what, home, group)
        self.base: type[Base] = base
        self.required: tuple[str, ...] = required

    def check(self, name: str, item: Any) -> None:
        expected = f"a class derived from {self.base.__name__}"
        if not (isinstance(item, type) and issubclass(item, self.base)):
            raise ArgumentError(self.what, repr(item), expected)
        if inspect.isabstract(item):
            missing = ", ".join(sorted(getattr(item, "__abstractmethods__", ())))
            raise ArgumentError(self.what, item.__qualname__, f"{expected} that has {missing}")
        for attribute in ("name", *self.required):
            if not getattr(item, attribute, None):
                raise ArgumentError(self.what, f"{item.__qualname__} without {attribute}", f"{expected} that has it")
        super().check(name, item)
        own: Any = item
        if own.name != name:
            raise ArgumentError(self.what, f"the name {name!r} for {item.__qualname__}", f"its own name, {own.name!r}")

    def register(self, item: Class) -> Class:
        """Make a class known by its `name`; returns it, so that this may stand above it as a decorator.

        Raises:
            ArgumentError: no concrete class derived from `base`, it lacks an attribute, or its name is taken.
        """
        registered: Any = item
        self[str(getattr(item, "name", item))] = registered
        return item

    def register_all(self, names: Mapping[str, object]) -> None:
        """Register the concrete classes among the values of `names`, in their order."""
        for value in list(names.values()):
            if isinstance(value, type) and issubclass(value, self.base) and not inspect.isabstract(value):
                self.register(value)


def _origin(item: Any) -> tuple[str, str]:
    return str(getattr(item, "__module__", "")), str(getattr(item, "__qualname__", repr(item)))

"""A study: methods, models, data sets and items of somebody's own, declared in one file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from lookbehind.lab import declared
from lookbehind.lab.declared import DeclaredMethod, digest
from lookbehind.lab.estimate import TWO_CORES, Device
from lookbehind.lab.method import NEEDS
from lookbehind.lab.parts import Declaration, Item, Part
from lookbehind.lab.run import Workload
from lookbehind.lab.work import IMAGES, Images
from lookbehind.methods import METHODS

F = TypeVar("F", bound=Callable[..., Any])
GROUP = "lookbehind.studies"  # of entry points
SUFFIX = ".py"


@dataclass(eq=False)
class Study:
    """Study: items, and the methods, models and data sets that they use.

    Args:
        title: what a sentence calls it.
        scales: the names of its scales. Default: smoke and cpu.
        devices: what trains at each scale, for the estimates. Default: two cores.
        costs: a file with the costs of its items, where it takes long to compute them. Default: they are computed.

    Example:
        >>> from lookbehind.lab import Study
        >>> study = Study("Two optimizers on the digits")

    """

    title: str
    scales: tuple[str, ...] = ("smoke", "cpu")
    devices: Mapping[str, Device] = field(default_factory=dict)
    costs: Path | None = None
    items: dict[str, Item] = field(default_factory=dict, init=False)
    comparisons: dict[str, Workload] = field(default_factory=dict, init=False)
    names: set[tuple[str, str]] = field(default_factory=set, init=False, repr=False)

    def device(self, scale: str) -> Device:
        """Return what trains at a scale."""
        return self.devices.get(scale, TWO_CORES)

    def method(
        self, misused: Any = None, *, gradients: float | Callable[..., float] | None = None, title: str = ""
    ) -> Callable[[F], F]:
        """Declare a method: a function, or a class, from a base optimizer and options to an optimizer.

        ``Method(kind=<its name>, options={...})`` is then a method of runs. If it has a parameter ``model`` or
        ``steps`` (those of the whole training), it gets that too.

        Args:
            misused: nothing; for a message, where the parentheses were forgotten.
            gradients: sample gradients of a step in units of a minibatch's, or a function of the options.
            title: what a sentence calls it. Default: its name.

        Raises:
            ValueError: if the name is taken, or it is not at the top of a file.

        """
        if misused is not None or gradients is None:
            raise TypeError("a method needs its cost: write @study.method(gradients=2), in sample gradients a step")
        number = 0.0 if callable(gradients) else float(gradients)
        count: Callable[..., float] = gradients if callable(gradients) else lambda **_: number

        def declare(build: F) -> F:
            name = build.__name__
            self._once("method", name)
            _free("method", name, (*NEEDS, *METHODS))
            declared.declare("method", name, build)
            declared.METHODS[name] = DeclaredMethod(build, title or name, count)
            return build

        return declare

    def model(self, build: F) -> F:
        """Declare a model: a function, or a class, from (channels, classes) to a module."""
        from lookbehind.models.registry import MODELS, Model

        name = build.__name__
        self._once("model", name)
        _free("model", name, MODELS)
        declared.declare("model", name, build)
        MODELS[name] = Model(build, (build.__doc__ or name).strip().splitlines()[0])
        return build

    def dataset(
        self, *, train: int, channels: int, size: int, classes: int, test: int = 0, title: str = "", folder: str = ""
    ) -> Callable[[F], F]:
        """Declare a data set: a function from (folder, size of the images) to a ``lookbehind.data.Published``.

        Args:
            train: number of training images, those that may be held out among them.
            channels: 1 or 3.
            size: height and width.
            classes: how many.
            test: number of official test images. Default 0: there are none, and what is not trained on is halved.
            title: what a sentence calls it. Default: its name.
            folder: its folder under the folder for data sets, which must be there. Default: it needs none.

        """

        def declare(read: F) -> F:
            from lookbehind.data.registry import DATASETS, Dataset

            name = read.__name__
            self._once("dataset", name)
            _free("dataset", name, DATASETS)
            declared.declare("dataset", name, read)
            DATASETS[name] = Dataset(title or name, read, (size,), folder or name, required=bool(folder))
            IMAGES[name] = Images(train, test, channels, size, classes)
            return read

        return declare

    def _once(self, kind: str, name: str) -> None:
        if (kind, name) in self.names:
            raise ValueError(f"the {kind} {name!r} is declared twice; give each a name of its own")
        self.names.add((kind, name))

    def compare(self, title: str, workload: Workload) -> None:
        """Declare what `lookbehind compare --study` compares the paper's methods on: classification of images."""
        if not isinstance(workload, Workload):
            raise TypeError(f"the workload is a {type(workload).__name__}; a lookbehind.lab.Workload is needed")
        self.comparisons[title] = workload

    def item(self, title: str, *, name: str = "", scales: tuple[str, ...] = ()) -> Callable[[F], F]:
        """Declare a table or figure: a function from the name of a scale to a ``Declaration``, or to its parts.

        Args:
            title: what it shows.
            name: on the command line. Default: that of the function.
            scales: at which it is declared. Default: all of the study.

        """
        if callable(title):
            raise TypeError('an item needs a title: write @study.item("What it shows")')

        def declare(at: F) -> F:
            @cache
            def declaration(scale: str) -> Declaration:
                return _declared(at, called, scale)

            called = name or at.__name__.replace("_", "-")
            self.add(Item(called, title, scales or self.scales, declaration))
            return at

        return declare

    def add(self, *items: Item) -> None:
        """Add items, which then know that they are this study's."""
        for item in items:
            if item.name in self.items:
                raise ValueError(f"item {item.name!r} is declared twice; give each a name of its own")
            self.items[item.name] = replace(item, study=self)


def _declared(at: Callable[[str], Any], name: str, scale: str) -> Declaration:
    """Return what an item is at a scale.

    Raises:
        StudyError: if its function fails, or returns no table or figure.

    """
    try:
        found = at(scale)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        raise StudyError(f"item {name} fails at scale {scale}: {_reason(error)} ({where})") from error
    parts = found.parts if isinstance(found, Declaration) else tuple(found or ())
    if not parts or not all(isinstance(part, Part) for part in parts):
        raise StudyError(f"item {name} returns {found!r:.60} at scale {scale}; a list of tables and figures is needed")
    return found if isinstance(found, Declaration) else Declaration(parts)


def _reason(error: BaseException) -> str:
    """Return the type and the first words of an exception; of a refused value, the sentence alone."""
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")[:400]
    words = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {words}"


def _free(kind: str, name: str, taken: Iterable[str]) -> None:
    if name in taken and (kind, name) not in declared.SOURCES:
        raise ValueError(f"{kind} {name!r} is this package's; give yours another name")


class StudyError(ValueError):
    """A study that cannot be loaded."""


def load(where: str) -> Study:
    """Return a study.

    Args:
        where: the path of a file, or the name under which a package offers a study (an entry point of
            "lookbehind.studies").

    Raises:
        StudyError: if there is none, or its file fails.

    """
    module = _of_file(Path(where)) if where.endswith(SUFFIX) else _of_package(where)
    found = [value for value in vars(module).values() if isinstance(value, Study)]
    if len({id(study) for study in found}) != 1:
        raise StudyError(f"{where} has {len(found) or 'no'} studies; one is needed, as in: study = Study('Its title')")
    return found[0]


def load_all(studies: Sequence[str]) -> None:
    """Load studies in a process that is to train for them."""
    for where in studies:
        load(where)


def offered() -> dict[str, EntryPoint]:
    """Return the studies that installed packages offer, by name."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _of_package(name: str) -> Any:
    points = offered()
    if name not in points:
        raise StudyError(f"no package offers a study {name!r}; known are {', '.join(points) or 'none'}")
    return importlib.import_module(points[name].module)


def _of_file(path: Path) -> Any:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise StudyError(f"there is no file {path}")
    name = f"{path.stem}_{digest([str(path)])}"  # two files of one name are two modules
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.parent)
    if folder not in sys.path:  # what lies beside the file can be imported
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception | SystemExit):
            raise StudyError(f"{path} cannot be imported ({_reason(error)})") from error
        raise
    return module

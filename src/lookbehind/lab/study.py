"""A study: methods, models, data sets and items of somebody's own, declared in one file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from lookbehind.lab import declared
from lookbehind.lab.declared import DeclaredMethod, digest
from lookbehind.lab.estimate import TWO_CORES, Device
from lookbehind.lab.method import NEEDS
from lookbehind.lab.parts import Declaration, Item
from lookbehind.lab.run import Workload
from lookbehind.lab.work import IMAGES, Images
from lookbehind.methods import METHODS

F = TypeVar("F", bound=Callable[..., Any])
GROUP = "lookbehind.studies"  # of entry points
SUFFIX = ".py"


@dataclass
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

    def device(self, scale: str) -> Device:
        """Return what trains at a scale."""
        return self.devices.get(scale, TWO_CORES)

    def method(self, *, gradients: float | Callable[..., float], title: str = "") -> Callable[[F], F]:
        """Declare a method: a function, or a class, from a base optimizer and options to an optimizer.

        ``Method(kind=<its name>, options={...})`` is then a method of runs. If it has a parameter ``model`` or
        ``steps`` (those of the whole training), it gets that too.

        Args:
            gradients: sample gradients of a step in units of a minibatch's, or a function of the options.
            title: what a sentence calls it. Default: its name.

        Raises:
            ValueError: if the name is taken, or it is not at the top of a file.

        """
        count: Callable[..., float] = gradients if callable(gradients) else lambda **_: float(gradients)

        def declare(build: F) -> F:
            name = build.__name__
            _free("method", name, (*NEEDS, *METHODS))
            declared.declare("method", name, build)
            declared.METHODS[name] = DeclaredMethod(build, title or name, count)
            return build

        return declare

    def model(self, build: F) -> F:
        """Declare a model: a function, or a class, from (channels, classes) to a module."""
        from lookbehind.models.registry import MODELS, Model

        name = build.__name__
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
            folder: its folder under the folder for data sets. Default: its name.

        """

        def declare(read: F) -> F:
            from lookbehind.data.registry import DATASETS, Dataset

            name = read.__name__
            _free("dataset", name, DATASETS)
            declared.declare("dataset", name, read)
            DATASETS[name] = Dataset(title or name, read, (size,), folder or name)
            IMAGES[name] = Images(train, test, channels, size, classes)
            return read

        return declare

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

        def declare(at: F) -> F:
            def declaration(scale: str) -> Declaration:
                found = at(scale)
                return found if isinstance(found, Declaration) else Declaration(tuple(found))

            called = name or at.__name__.replace("_", "-")
            if called in self.items:
                raise ValueError(f"item {called!r} is declared twice; give each a name of its own")
            self.items[called] = Item(called, title, scales or self.scales, declaration)
            return at

        return declare


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
            words = " ".join(str(error).split())[:300]
            raise StudyError(f"{path} cannot be imported ({type(error).__name__}: {words})") from error
        raise
    return module

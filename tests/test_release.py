"""What is released: one version everywhere, archives that come out the same twice, a recipe and workflows that fit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

import lookbehind

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Of conda-forge, where it differs from the package index.
NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def read(path: Path) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(path.read_text())


def test_one_version() -> None:
    version = lookbehind.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation
    [(newest, date), *_] = re.findall(r"^## (\d\S*) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest == version
    assert f"\ndate-released: {date}\n" in citation
    assert read(ROOT / "recipe" / "recipe.yaml")["context"]["version"] == version


def test_one_address(project: dict[str, Any]) -> None:
    """The links of the index's page come from Source; the others begin with it."""
    addresses = dict(project["urls"])
    source = addresses["Source"]
    assert addresses.pop("Paper") in (ROOT / "README.md").read_text()
    assert all(address.startswith(source) for address in addresses.values())
    assert read(ROOT / "recipe" / "recipe.yaml")["about"]["repository"] == source
    placeholder = source.split("/")[2]
    folders = [ROOT / name for name in (".github", "benchmarks", "docs", "examples", "recipe", "src")]
    files = [*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]
    kept = [path for path in files if path.suffix in {".cff", ".ipynb", ".md", ".py", ".toml", ".yaml", ".yml"}]
    named = {path.relative_to(ROOT).as_posix() for path in kept if placeholder in path.read_text(encoding="utf-8")}
    assert named <= {"pyproject.toml", "recipe/recipe.yaml", "CONTRIBUTING.md"}  # how to release says where it is set
    for address in addresses.values():
        path = address.removeprefix(source).partition("/blob/main/")[2]
        assert not path or (ROOT / path).is_file()


def build(folder: Path, sources: Path) -> dict[str, bytes]:
    """Build both archives from the sources, and return them by name."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1796000000"}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(sources)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def copy(folder: Path) -> Path:
    """Copy what the archives are made of."""
    clean = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("src", "tests", "docs", "examples", "benchmarks", "recipe", ".ci", ".github"):
        shutil.copytree(ROOT / name, folder / name, ignore=clean)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, bytes], Path]:
    for needed in ("build", "hatchling"):
        pytest.importorskip(needed, reason='building needs pip install ".[dev]"')
    out = [tmp_path_factory.mktemp("out") for _ in range(2)]
    first, second = (build(folder, copy(tmp_path_factory.mktemp("sources"))) for folder in out)
    return first, second, out[0]


def metadata(archives: tuple[Any, Any, Path]) -> Message:
    [wheel] = archives[2].glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        [name] = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(opened.read(name))


def test_two_builds_are_the_same_bytes(archives: tuple[dict[str, bytes], dict[str, bytes], Path]) -> None:
    first, second, _ = archives
    version = lookbehind.__version__
    assert set(first) == {f"lookbehind-{version}.tar.gz", f"lookbehind-{version}-py3-none-any.whl"}
    assert first == second


def test_the_wheel_has_the_package_and_nothing_else(archives: tuple[Any, Any, Path]) -> None:
    [wheel] = archives[2].glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    ours = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src" / "lookbehind").rglob("*") if p.is_file()}
    ours = {name for name in ours if "__pycache__" not in name}
    info = f"lookbehind-{lookbehind.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == ours
    assert {"lookbehind/py.typed", info + "licenses/LICENSE", info + "entry_points.txt"} <= names


def test_the_source_archive_builds_and_tests_itself(archives: tuple[Any, Any, Path]) -> None:
    [source] = archives[2].glob("*.tar.gz")
    with tarfile.open(source) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"hatch_build.py", "constraints.txt", "recipe/recipe.yaml", ".ci/run", ".github/workflows/ci.yml"} <= names
    assert {"tests/test_release.py", "examples/quickstart.ipynb", "SECURITY.md", "PKG-INFO", "LICENSE"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_metadata(archives: tuple[Any, Any, Path], project: dict[str, Any]) -> None:
    found = metadata(archives)
    assert found["Version"] == lookbehind.__version__
    assert found["Requires-Python"] == project["requires-python"]
    assert found["License-Expression"] == "Apache-2.0"
    urls = dict(line.split(", ") for line in found.get_all("Project-URL", []))
    assert urls == project["urls"]


def test_links_on_the_index_s_page_are_absolute_and_lead_somewhere(archives: Any, project: dict[str, Any]) -> None:
    text = str(metadata(archives).get_payload(decode=True), "utf-8")
    source = project["urls"]["Source"]
    links = re.findall(r"\]\(([^)]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    found = [one or other for one, other in links]
    assert len(found) > 20
    assert [link for link in found if not link.startswith("https://")] == []
    ours = [link.removeprefix(source) for link in found if link.startswith(source)]
    assert len(ours) > 20
    paths = [re.sub(r"^/(?:blob|raw)/main/|#.*$", "", link) for link in ours]
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_the_recipe_is_the_project_s(project: dict[str, Any]) -> None:
    recipe = read(ROOT / "recipe" / "recipe.yaml")
    needed = [*project["dependencies"], *project["optional-dependencies"]["lab"]]
    split = [re.fullmatch(r"([\w-]+)(.*)", one) for one in needed]
    ours = {f"{NAMES.get(one[1], one[1])} {one[2]}" for one in split if one}
    python = f"python {project['requires-python']}".replace("3.10", "${{ python_min }}")
    assert recipe["context"]["python_min"] == "3.10"
    assert set(recipe["requirements"]["run"]) == ours | {python}
    scripts = {f"{name} = {target}" for name, target in project["scripts"].items()}
    assert set(recipe["build"]["python"]["entry_points"]) == scripts
    assert recipe["about"]["license"] == project["license"]
    assert recipe["source"]["url"].endswith("lookbehind-${{ version }}.tar.gz")
    assert re.fullmatch("[0-9a-f]{64}", recipe["source"]["sha256"])


def test_the_recipe_s_build_tools_are_the_project_s() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    [tool] = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    host = read(ROOT / "recipe" / "recipe.yaml")["requirements"]["host"]
    assert host == ["python ${{ python_min }}.*", "pip", re.sub("(?=>=)", " ", tool)]


def steps(workflow: Any) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_pinned_limited_and_asks_for_little(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert [use for use in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", use)] == []
    versions = dict(re.findall(r"uses: (\S+)  # (v\d+\.\d+\.\d+)$", path.read_text(), re.M))
    assert set(versions) == set(used)  # each with its version as a comment


def test_the_tests_run_on_each_python_that_is_promised(project: dict[str, Any]) -> None:
    workflow = read(ROOT / ".github" / "workflows" / "ci.yml")
    assert set(workflow[True]) == {"push", "pull_request"}  # "on" is a truth value to a reader of YAML
    named = "Programming Language :: Python :: 3."
    promised = {"3." + one.removeprefix(named) for one in project["classifiers"] if one.startswith(named)}
    assert set(workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]) == promised
    assert f">={min(promised, key=lambda one: int(one[2:]))}" == project["requires-python"]
    [lowest] = [one.partition(">=")[2] for one in project["dependencies"] if one.startswith("torch")]
    assert workflow["jobs"]["lanes"]["strategy"]["matrix"]["torch"][0].startswith(lowest)
    runs = {step["run"] for step in steps(workflow) if "run" in step}
    assert {'pip install -e ".[dev]"', "pytest -n auto --dist loadfile"} <= runs


def test_a_release_is_of_a_tag_and_trusted() -> None:
    workflow = read(ROOT / ".github" / "workflows" / "release.yml")
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    publish = workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["needs"] == "build"
    assert publish["environment"] == "release"
    assert not [step for step in steps(workflow) if "password" in step.get("with", {})]


def test_a_release_stops_at_another_tag_or_a_placeholder(tmp_path: Path) -> None:
    """The step of the workflow, run as it is."""
    workflow = read(ROOT / ".github" / "workflows" / "release.yml")
    [check] = [step["run"] for step in steps(workflow) if "the tag is" in step.get("name", "")]
    shutil.copytree(ROOT / "src" / "lookbehind", tmp_path / "src" / "lookbehind", ignore=lambda *_: {"lab", "cli"})
    good = (ROOT / "pyproject.toml").read_text().replace("example.org", "project.test")

    def fails(tag: str, text: str) -> bool:
        (tmp_path / "pyproject.toml").write_text(text)
        environment = {**os.environ, "GITHUB_REF_NAME": tag}
        command = ["bash", "-e", "-c", check]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False).returncode != 0

    assert not fails(f"v{lookbehind.__version__}", good)
    assert fails("v9.9.9", good)
    assert fails(f"v{lookbehind.__version__}", good + "# example.org\n")


def test_the_workflows_pass_a_linter() -> None:
    zizmor = shutil.which("zizmor", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if zizmor is None:
        pytest.skip('the linter comes with pip install ".[dev]"')
    command = [zizmor, "--offline", "--pedantic", "--no-progress", *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout

"""The site builds strictly, and no link or anchor in it is dead."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shutil
from pathlib import Path

import pytest

import lookbehind as lb
from lookbehind import measure
from lookbehind.optim import ascent, lookahead, lookbehind, multistep_sam, perturbation, sam
from tests.docs.built import Page, Site, build, copy_sources, write_pages
from tests.docs.pages import DOCS, PAGES, ROOT, blocks
from tests.docs.seen import FAULTS

for needed in ("zensical", "mkdocstrings_handlers.python", "latex2mathml"):
    pytest.importorskip(needed, reason='the site needs pip install ".[docs]"')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    copy_sources(folder)
    for old in (folder / "docs" / "results" / "cpu").iterdir():
        old.unlink()
    write_pages(folder)
    return folder


@pytest.fixture(scope="module")
def site(folder: Path) -> Site:
    done = build(folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "issues found" not in done.stdout.replace("No issues found", "")
    return Site((folder / "site").resolve())


def test_every_page_is_built(site: Site) -> None:
    assert {page.relative_to(DOCS).with_suffix(".html").as_posix() for page in PAGES} <= set(site.pages)


def test_no_link_is_dead(site: Site) -> None:
    dead = {name: links for name in site.pages if name != "404.html" and (links := site.dead(name))}
    assert dead == {}


def test_nothing_is_fetched_from_elsewhere(site: Site) -> None:
    assert {name: links for name in site.pages if (links := site.elsewhere(name))} == {}


def test_every_page_is_in_the_navigation(site: Site) -> None:
    linked = {site.target("index.html", link) for _, link in site.pages["index.html"].links if ":" not in link}
    pages = {(site.folder / page.relative_to(DOCS)).with_suffix(".html") for page in PAGES}
    assert pages - linked == set()


def test_stored_numbers_and_figures_are_those_of_the_archive(folder: Path) -> None:
    """The pages themselves are not stored."""
    written, stored = (
        {path.name: path.read_text() for path in (at / "results" / "cpu").iterdir() if path.suffix in (".csv", ".svg")}
        for at in (folder / "docs", DOCS)
    )
    assert written.keys() == stored.keys()
    assert {name for name in written if name.endswith(".csv") and written[name] != stored[name]} == set()


def test_links_of_the_readme_into_the_docs_have_their_anchors(site: Site) -> None:
    links = re.findall(r"\]\(docs/([^)]+)\.md(?:#([^)]+))?\)", (ROOT / "README.md").read_text())
    assert links
    for page, anchor in links:
        assert not anchor or anchor in site.pages[f"{page}.html"].ids, (page, anchor)


@pytest.mark.parametrize(
    "module",
    [
        "lookbehind",
        "lookbehind.measure",
        "lookbehind.data",
        "lookbehind.models",
        "lookbehind.training",
        "lookbehind.checkpoint",
        "lookbehind.lab",
        "lookbehind.lifelong",
        "lookbehind.fine_tuning",
        "lookbehind.integrations.lightning",
        "lookbehind.integrations.transformers",
    ],
)
def test_every_public_name_is_in_the_reference(site: Site, module: str) -> None:
    pytest.importorskip({"lightning": "lightning", "transformers": "transformers"}.get(module.split(".")[-1], "torch"))
    loaded = importlib.import_module(module)
    own = [n for n, v in vars(loaded).items() if not n.startswith("_") and getattr(v, "__module__", "") == module]
    names = set(getattr(loaded, "__all__", own)) - {"__version__"}
    anchors = {i for name, page in site.pages.items() if name.startswith("api/") for i in page.ids}
    homes = {n: getattr(getattr(loaded, n), "__module__", module) for n in names}
    # A function of the same name as its module stands under its full name.
    assert names
    assert {n for n in names if not {f"{module}.{n}", f"{module}.{n}.{n}", f"{homes[n]}.{n}"} & anchors} == set()


def home(module: str | None, name: str) -> str:
    """Return the module in which a name is defined that another one exports."""
    return str(getattr(getattr(importlib.import_module(str(module)), name, None), "__module__", module))


def test_what_the_pages_import_is_in_the_reference(site: Site) -> None:
    anchors = {i for name, page in site.pages.items() if name.startswith("api/") for i in page.ids}
    trees = [ast.parse(block.code) for page in PAGES for block in blocks(page) if block.language == "python"]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    found = {(node.module, alias.name) for node in imports for alias in node.names if "._" not in str(node.module)}
    ours = {(module, name) for module, name in found if str(module).split(".")[0] == "lookbehind"}
    assert len(ours) > 40
    # A module that is imported whole stands with its members.
    assert {
        f"{module}.{name}"
        for module, name in ours
        if not any(
            a in (f"{module}.{name}", f"{module}.{name}.{name}", f"{home(module, name)}.{name}")
            or a.startswith(f"{module}.{name}.")
            for a in anchors
        )
    } == set()


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("sam", [sam.SAM.update, perturbation.Euclidean.__call__]),
        ("asam", [perturbation.Adaptive.__call__]),
        ("multistep-sam", [multistep_sam.MultistepSAM.update]),
        ("lookahead", [lookahead.Lookahead.update]),
        ("lookbehind", [lookbehind.Lookbehind.update, ascent.Ascent.climb]),
        ("adaptive-alpha", [lookbehind.aligned_alpha, lookbehind.Lookbehind._alphas]),
        ("switching-minibatches", [ascent.Ascent.inner_steps]),
    ],
)
def test_algorithms_show_the_code_as_it_is(site: Site, page: str, shown: list[object]) -> None:
    text = site.pages[f"algorithms/{page}.html"].text
    for function in shown:
        assert " ".join(inspect.getsource(function).split()) in text  # type: ignore[arg-type]


FAULTY = """<title>t</title><div class="md-content">
<p>SAM has **no** [link](here.md) &amp;lt; and *none
<p>===== =====</p><p>-0.00</p><a href="#nowhere">away</a>
<pre><code>"""
FAULTY += (
    85 * "x"
    + """</code></pre>
<table style="width: 40px; table-layout: fixed; word-break: break-all">
<tr><td><code>abcdefghi</code><td>123456789012</table>
<div style="width: 2000px">wide</div></div>"""
)


@pytest.mark.timeout(600)
def test_every_page_in_a_browser(site: Site, tmp_path: Path) -> None:
    """See tests/docs/seen.py for the faults. Each page is opened once, and looked at by two widths."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    (tmp_path / "faulty.html").write_text(FAULTY)
    pages = [path for path in sorted(site.folder.rglob("*.html")) if path.name != "404.html"]  # that needs a server
    faults: dict[str, list[str]] = {}
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium)
        window = browser.new_context(offline=True).new_page()
        for path in [tmp_path / "faulty.html", *pages]:
            window.set_viewport_size({"width": 1280, "height": 800})
            window.goto(path.as_uri(), wait_until="load", timeout=120_000)
            found = window.evaluate(FAULTS, True)
            window.set_viewport_size({"width": 390, "height": 800})
            found += [f"{fault}, at 390 px" for fault in window.evaluate(FAULTS, False)]
            if found:
                faults[path.name if path.parent == tmp_path else path.relative_to(site.folder).as_posix()] = found
        browser.close()
    seen = {fault.partition(":")[0] for fault in faults.pop("faulty.html")}
    assert seen == {
        "minus zero",
        "raw markup",
        "stray asterisk",
        "dead anchor",
        "wide code",
        "code breaks in a table",
        "number breaks in a table",
        "the page scrolls sideways",
        "cut off",
    }
    assert faults == {}


def test_formulas_are_drawn(site: Site) -> None:
    reference = "".join(site.pages[f"api/{name}.html"].source for name in ("optimizers", "measure"))
    public = [getattr(module, name) for module in (lb, measure) for name in module.__all__ if name != "__version__"]
    written = sum((inspect.getdoc(one) or "").count(".. math::") for one in public)
    assert reference.count('display="block"') == written > 5
    assert not re.search(r"\.\. math::|:math:", reference)
    assert "\\frac" not in re.sub(r'data-[a-z-]+="[^"]*"', "", reference)


def test_pictures_are_small() -> None:
    sizes = {p.name: p.stat().st_size for p in (DOCS / "pictures").iterdir() if p.suffix in (".svg", ".png", ".gif")}
    assert len(sizes) >= 10
    assert max(sizes.values()) < 1_000_000


def test_the_checker_sees_dead_links(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<h1 id="here">B</h1>')
    links = ["b.html", "b.html#here", "#top", "https://x.org", "b.html#away", "c.html", "d.png", "../up.html", "#none"]
    (tmp_path / "a.html").write_text('<p id="top">' + "".join(f'<a href="{link}">x</a>' for link in links))
    assert Site(tmp_path.resolve()).dead("a.html") == links[4:]
    assert Page('<img src="https://x.org/y.png">').links == [("img", "https://x.org/y.png")]


def test_the_build_is_strict(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    with (tmp_path / "docs" / "tuning.md").open("a") as page:
        page.write("\n[a dead link](nowhere.md), [a dead anchor](start.md#nowhere)\n")
    done = build(tmp_path)
    assert done.returncode != 0
    assert "2 issues found" in done.stdout + done.stderr

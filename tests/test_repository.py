"""The repository's promises: one address, true credit, a book never stale."""

import importlib
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import fresh_execution
import own_address
import pytest
import set_address
import setup_cell
import yaml

import pkg

ROOT = Path(__file__).resolve().parents[1]
SOMEWHERE = "https://github.com/someone/stepwise"
PAGES = [ROOT / name for name in set_address.MENTIONS if (ROOT / name).exists()]


@pytest.fixture
def copy(tmp_path) -> Path:
    """What `make address` touches, and what it reads, in a folder of its own."""
    for file in [ROOT / "_config.yml", *PAGES]:
        shutil.copy(file, tmp_path)
    for file in [ROOT / "pkg" / "__init__.py", *set_address.chapters()]:
        target = tmp_path / file.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        shutil.copy(file, target)
    return tmp_path


def _differing(root: Path) -> list[str]:
    """Files whose mention of the address differs from _config.yml."""
    address = setup_cell.read_address(root)
    cell = setup_cell.render(address, setup_cell.read_version(root))
    wrong = [
        chapter.name
        for chapter in set_address.chapters(root)
        if "".join(set_address.first_code_cell(_json(chapter))["source"]) != cell
    ]
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    if citation["repository-code"] != address:
        wrong.append("CITATION.cff")
    for page in PAGES:
        text = (root / page.name).read_text(encoding="utf-8")
        if address != setup_cell.UNSET and setup_cell.UNSET in text:
            wrong.append(page.name)
    return wrong


def _json(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def test_the_address_is_the_same_everywhere():
    """It is written once, in _config.yml; the rest follows by `make address`."""
    assert _differing(ROOT) == []


def test_one_command_sets_the_address_everywhere(copy):
    """And can set it again, to another one."""
    for url in (SOMEWHERE, SOMEWHERE + "-two"):
        set_address.main([url], copy)
        assert setup_cell.read_address(copy) == url
        assert _differing(copy) == []
        readable = [p.read_text(encoding="utf-8") for p in copy.glob("*.*")]
        assert not any(setup_cell.UNSET in text for text in readable)


def test_setting_the_address_changes_nothing_else_in_a_chapter(copy):
    """Same cells, same order, same layout: a diff of a few lines."""
    for chapter in set_address.chapters(copy):
        before = chapter.read_text(encoding="utf-8").splitlines()
        set_address.main([SOMEWHERE], copy)
        set_address.main([setup_cell.read_address(ROOT)], copy)
        assert chapter.read_text(encoding="utf-8").splitlines() == before


@pytest.mark.parametrize("url", ["github.com/a/b", "https://gitlab.com/a/b", "a b", ""])
def test_an_address_that_colab_cannot_open_is_refused(copy, url):
    """Nothing is written when the address is wrong."""
    before = (copy / "_config.yml").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="`URL` must look like"):
        set_address.main([url], copy)
    assert (copy / "_config.yml").read_text(encoding="utf-8") == before


def test_the_set_up_cell_never_installs_from_an_address_nobody_owns():
    """Unset, it says what to set; set, it installs this version's tag."""
    unset = setup_cell.render(setup_cell.UNSET, "0.1.0")
    assert "pip" not in unset and "make address URL=" in unset
    assert f"git+{SOMEWHERE}@v0.1.0" in setup_cell.render(SOMEWHERE, "0.1.0")


def test_pages_link_to_the_repository_only_once_it_has_an_address():
    """Colab and repository buttons appear together, when somebody owns the address."""
    for url, shown in [(setup_cell.UNSET, False), (SOMEWHERE, True)]:
        options = {"repository_url": url, "launch_buttons": {"colab_url": "x"}}
        options["use_repository_button"] = True
        own_address.hide_unowned_links(
            None, SimpleNamespace(html_theme_options=options)
        )
        assert bool(options["launch_buttons"]) is shown
        assert options["use_repository_button"] is shown


def test_the_version_is_one():
    """The package, its metadata and the citation agree."""
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'version = "{pkg.__version__}"' in metadata
    assert citation["version"] == pkg.__version__ == setup_cell.read_version()


def test_the_paper_is_cited_with_its_true_order_of_authors():
    """The abstract page's own BibTeX scrambles it."""
    order = ["Simon", "Knutins", "Ziyin", "Geisz", "Fetterman", "Albrecht"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    authors = citation["preferred-citation"]["authors"]
    assert [author["family-names"] for author in authors] == order
    bib = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    entry = bib[bib.index("{simon2023stepwise,") :]
    places = [entry.index(name) for name in order]
    assert places == sorted(places)


def test_licences_travel_with_what_others_made():
    """MathJax, axe-core, the photographs and the text each keep theirs."""
    assert "Apache License" in _text("book/assets/mathjax/LICENSE")
    assert "Mozilla Public License" in _text("tests/vendor/axe-core/LICENSE")
    assert (ROOT / "pkg" / "photos" / "ATTRIBUTION.md").exists()
    assert (ROOT / "pkg" / "texts" / "ATTRIBUTION.md").exists()
    assert {"MIT License", "CC BY 4.0"} <= {
        words for words in ("MIT License", "CC BY 4.0") if words in _text("LICENSE")
    }


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_any_change_under_the_package_renames_the_execution_cache(tmp_path):
    """Code, records and photographs count; a compiled file does not."""
    (tmp_path / "requirements.txt").write_text("numpy\n")
    room = tmp_path / "pkg" / "room.py"
    record = tmp_path / "pkg" / "records" / "run.npz"
    compiled = tmp_path / "pkg" / "__pycache__" / "room.pyc"
    for file in (room, record, compiled):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"one")
    digests = [fresh_execution.digest(tmp_path)]
    for file in (compiled, room, record, tmp_path / "requirements.txt"):
        file.write_bytes(b"two")
        digests.append(fresh_execution.digest(tmp_path))
    assert digests[0] == digests[1]
    assert len(set(digests[1:])) == 4


def test_a_docstring_names_the_first_chapter_that_uses_it():
    """Where it says "Introduced in chapter N", a reader who goes there finds it."""
    wrong = []
    for (room, name), number in sorted(_first_uses().items()):
        # A chapter may have a variable of a room's name: recipes.values(), say.
        thing = getattr(importlib.import_module(f"pkg.{room}"), name, None)
        text = re.sub(r"\s+", " ", getattr(thing, "__doc__", None) or "")
        said = re.search(r"ntroduced in chapters? (\d+)", text)
        if said and int(said[1]) != number:
            wrong.append(f"{room}.{name} says {said[1]}, but chapter {number} uses it")
    assert wrong == []


def _first_uses() -> dict[tuple[str, str], int]:
    rooms = "|".join(path.stem for path in (ROOT / "pkg").glob("[a-z]*.py"))
    first: dict[tuple[str, str], int] = {}
    for chapter in sorted((ROOT / "book").glob("[0-9]*.ipynb")):
        for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                uses = re.findall(rf"\b({rooms})\.(\w+)\(", "".join(cell["source"]))
                for use in uses:
                    first.setdefault(use, int(chapter.name[:2]))
    return first

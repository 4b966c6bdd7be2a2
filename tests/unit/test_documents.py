"""The documents name what exists: files, headings, settings, modules; and what is made of a source is current."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from plexburst import changelog
from tests.unit import documents
from tests.unit.documents import PROJECT, read

PAGES = documents.pages()
# A play's own variable, and the module that checks the settings.
NO_SETTINGS = {"plexburst_phase", "plexburst_settings"}

OF_SSH = {"Host key verification failed", "Permission denied"}


def name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def of_the_changelog(path: Path) -> bool:
    """It names what things were called before."""
    return path.name == "CHANGELOG.md" or (PROJECT / "changelog") in path.parents


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert documents.dead_links(page, read(page)) == []


@pytest.mark.parametrize("page", [page for page in PAGES if not of_the_changelog(page)], ids=name)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    assert documents.dead_names(read(page)) == []


def test_every_document_that_code_cites_exists() -> None:
    found = {name(path): documents.dead_citations(text) for path, text in documents.citing()}
    assert {path: dead for path, dead in found.items() if dead} == {}


def test_the_readme_is_short() -> None:
    assert len(read(PROJECT / "README.md").splitlines()) <= 150


def test_every_setting_that_a_page_names_exists() -> None:
    settings = yaml.safe_load(read(PROJECT / "settings.yml"))["settings"]
    known = {f"plexburst_{setting}" for setting in settings} | NO_SETTINGS
    named = {
        setting
        for page in PAGES
        if page.name != "settings.md" and not of_the_changelog(page)
        for setting in re.findall(r"\bplexburst_(?!run_\d)[a-z0-9_]*[a-z0-9]\b(?![_*<])", read(page))
    }
    assert sorted(named - known) == []


def test_the_architecture_names_every_module_and_every_role() -> None:
    text = read(PROJECT / "docs" / "architecture.md")
    modules = [path.stem for path in (PROJECT / "library").glob("*.py")]
    roles = [path.parent.name for path in (PROJECT / "roles").glob("*/meta")]
    assert [one for one in modules + roles if f"`{one}`" not in text] == []


def test_every_playbook_is_explained() -> None:
    text = read(PROJECT / "docs" / "playbooks.md")
    playbooks = [path.name for path in PROJECT.glob("*.yml") if "import_playbook" in read(path)]
    assert playbooks
    assert [one for one in playbooks if f"| `{one}` |" not in text] == []


def test_every_reason_of_a_final_verdict_is_explained() -> None:
    code = "".join(read(path) for path in (PROJECT / "module_utils").rglob("*.py"))
    reasons = set(re.findall(r"Verdict\(\s*(?:STALLED|UNHEALTHY|TIMED_OUT|IDLE),\s*\"([a-z_]+)\"", code))
    assert len(reasons) > 10
    assert sorted(one for one in reasons if f"| `{one}` |" not in read(PROJECT / "docs" / "troubleshooting.md")) == []


def test_every_message_that_troubleshooting_quotes_is_in_the_code() -> None:
    page = read(PROJECT / "docs" / "troubleshooting.md")
    quoted = re.findall(r'"([^"\n]{6,})"', "\n".join(line for line in page.splitlines() if line.startswith("|")))
    parts = {part.strip() for quote in quoted for part in quote.split("…") if len(part.strip()) > 5}
    said = documents.messages()
    assert len(parts) > 15
    assert sorted(part for part in parts - OF_SSH if part not in said) == []


def test_the_changelog_is_current() -> None:
    assert read(PROJECT / "CHANGELOG.md") == changelog.render(), "run make docs"


def test_a_changelog_has_its_newest_version_first_and_what_matters_most_on_top(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nversion = "0.10.0"\n')
    for folder, text in (
        ("0.2.0_2026-12-31", "Enhancement: Old\n\nFirst."),
        ("0.9.0_2027-02-01", "Change: Newer\n\nSecond."),
        ("unreleased", "Security: Newest\n\nThird,\nin two lines."),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.md").write_text(text)
    (tmp_path / "unreleased" / "another.md").write_text("Enhancement: Also\n\nFourth.")
    page = changelog.render(tmp_path, project)
    wanted = [
        "## 0.10.0 (unreleased)",
        "**Newest.** Third, in two lines.",
        "**Also.**",
        "## 0.9.0 (2027-02-01)",
        "## 0.2.0",
    ]
    assert [one for one in wanted if one not in page] == []
    assert sorted(wanted, key=page.index) == wanted


@pytest.mark.parametrize(
    "text", ["Fix: A type that is unknown\n\nText.", "Bugfix\n\nText.", "Bugfix: No text\n\n\n", "Bugfix: T\nText."]
)
def test_a_fragment_of_another_form_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "wrong.md").write_text(text)
    with pytest.raises(changelog.ChangelogError, match=r"wrong\.md"):
        changelog.read_fragment(tmp_path / "wrong.md")


@pytest.mark.parametrize(
    ("text", "dead"),
    [
        ("[a](README.md) [b](docs/glossary.md#plex) [c](https://plex.tv)", []),
        ("[a](docs/nowhere.md)", ["docs/nowhere.md"]),
        ("[a](docs/glossary.md#nothing)", ["docs/glossary.md#nothing"]),
        ("# Here\n\n[a](#here) [b](#there)", ["#there"]),
    ],
)
def test_a_link_that_leads_nowhere_is_found(text: str, dead: list[str]) -> None:
    assert documents.dead_links(PROJECT / "page.md", text) == dead


@pytest.mark.parametrize(
    ("text", "dead"),
    [
        ("`settings.yml` `docs/glossary.md` `tests/unit/` `inventory/mine` `summary.json`", []),
        ("`module_utils/nothing.py` and `nothing.yml`", ["module_utils/nothing.py", "nothing.yml"]),
    ],
)
def test_a_file_that_does_not_exist_is_found(text: str, dead: list[str]) -> None:
    assert documents.dead_names(text) == dead


@pytest.mark.parametrize(
    ("text", "dead"),
    [
        ("see docs/plex-facts.md#database, #files: both", []),
        ("docs/plex-facts.md#database, #nothing", ["docs/plex-facts.md#nothing"]),
        ("docs/nothing.md#database", ["docs/nothing.md"]),
        ("(facts §2.8)", ["facts §2.8"]),
        ("facts/plex.md, DESIGN.md", ["facts/plex.md", "DESIGN.md"]),
    ],
)
def test_a_citation_of_what_is_not_there_is_found(text: str, dead: list[str]) -> None:
    assert documents.dead_citations(text) == dead

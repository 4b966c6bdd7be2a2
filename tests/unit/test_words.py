"""The words of docs/glossary.md are the words that people read: phrases that another one has replaced are refused.

Read are names of plays and tasks, messages, the texts of settings and of role inputs, the documentation of modules, and
the documents. Code and its comments are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.documents import PROJECT, pages, read

ALL = "all"
NAMES = "names of tasks"


@dataclass(frozen=True)
class Phrase:
    """What is refused, what is said instead, a text that has it, and one that looks alike and is right."""

    pattern: str
    instead: str
    example: str
    fine: str = ""
    where: str = ALL


PHRASES = (
    Phrase(r"\btwins?\b", "indexer", "The twin is claimed.", "entwined"),
    Phrase(r"\bthaw\w*", "resume", "Thaw home"),
    Phrase(r"\b(?:freez|froze)\w*", "pause", "what was frozen"),
    Phrase(r"\blent\b", "provider: existing", "a lent server", "a lentil"),
    Phrase(r"\bstand(?:s|ing)?[- ]in (?:for|as) (?:the |an )?(?:indexer|server|cloud)", "existing host",
           "stands in for the indexer", "a stand-in collation; a file stands in for rclone"),
    Phrase(r"provider(?:: |=| is )`?none", "existing", "plexburst_provider is none"),
    Phrase(r"(?<!claim/)\bexchang\w+", "relay, or swap", "the exchange in S3", "POST https://plex.tv/api/claim/exchange"),
    Phrase(r"\bcollect\.yml", "recover.yml", "collect.yml goes on", "recover.yml goes on"),
    Phrase(r"\bguards?\b(?! task)", "loss check; check", "The guard refuses it.", "a guard task; plexburst_guard_x"),
    Phrase(r"(?<!-)\bpatch(?:es)?\b", "delta", "The patch is applied.", "PATCH user_data; dispatch; zstd --patch-from"),
    Phrase(r"\bparcels?\b", "archive; delta", "a parcel of bundles"),
    Phrase(r"\bpictures?\b", "artwork", "pictures of an item"),
    Phrase(r"\bremap\w*", "path mapping", "Remap the paths"),
    Phrase(r"\bin vain\b", "without success", "waited in vain"),
    Phrase(r"(?<!there )\b(?:is|are|was|were) none\b(?! else)", "no X", "a record that is none",
           "None of the types; some items have none; empty when there is none; {{ 'a' if x is none else 'b' }}"),
    Phrase(r"\b(?:with|in) words\b", "with a message", "fails with words", "the words in it; in the words of"),
    Phrase(r"\bso many\b", "N", "after so many minutes", "as many as"),
    Phrase(r"\bnobody\b", "no one is named: say what is missing", "for nobody"),
    Phrase(r"\bmend(?:s|ed|ing)?\b", "fix", "Mend them", "recommend"),
    Phrase(r"(?<!there )\bis no (?:run (?:id|folder)|JSON)\b", "is not a", "x is no run id", "there is no run folder"),
    Phrase(r"^(?:Say|Remember|Let|Lay|See|Want|Knock)\b", "an imperative that names the object",
           "Say how it went", "Print the run summary", NAMES),
    Phrase(r"^Leave the anchor\b", "End the play for localhost", "Leave the anchor", "Leave the play", NAMES),
    Phrase(r"^(?:Push|Bring|Deliver|Offer|Retrieve|Carry)\b", "Upload, Download", "Bring the parts",
           "Download the parts", NAMES),
)  # fmt: skip


def found(text: str, phrases: Iterable[Phrase]) -> list[str]:
    """The phrases that ``text`` has, each with what is said instead; a capital at a beginning makes no difference."""
    hits = []
    for phrase in phrases:
        for line in text.splitlines():
            match = re.search(phrase.pattern, line) or re.search(phrase.pattern, line[:1].lower() + line[1:])
            if match and (phrase.where == ALL or match.start() == 0):
                hits.append(f"{match[0]!r} (say {phrase.instead}): {line.strip()[:160]}")
    return hits


EVERYWHERE = [phrase for phrase in PHRASES if phrase.where == ALL]


def strings(value: Any) -> Iterator[str]:
    """Every text in a nested value, but not the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def steps(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every play, block and task of a YAML file."""
    for step in value if isinstance(value, list) else []:
        if isinstance(step, Mapping):
            yield step
            for part in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
                yield from steps(step.get(part))


def messages(value: Any) -> Iterator[str]:
    """What a task may say: msg, fail_msg, success_msg, and an advice that it hands on, wherever they stand."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            if key in ("msg", "fail_msg", "success_msg", "advice"):
                yield from strings(one)
            elif key not in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
                yield from messages(one)


def playbook_files() -> list[Path]:
    root = [path for path in PROJECT.glob("*.yml") if "import_playbook" in read(path)]
    return sorted([*root, *PROJECT.glob("playbooks/**/*.yml"), *PROJECT.glob("roles/*/tasks/*.yml")])


def task_names(text: str) -> Iterator[str]:
    """Without what stands before ``|``: it names the file."""
    for step in steps(yaml.safe_load(text)):
        if isinstance(step.get("name"), str):
            yield step["name"].rpartition(" | ")[2]


def names_hits() -> dict[str, list[str]]:
    return told({path: "\n".join(task_names(read(path))) for path in playbook_files()}, PHRASES)


def message_hits() -> dict[str, list[str]]:
    said = {
        path: "\n".join(" ".join(one.split()) for step in steps(yaml.safe_load(read(path))) for one in messages(step))
        for path in playbook_files()
    }
    return told(said, EVERYWHERE)


def settings_hits() -> dict[str, list[str]]:
    sources = [PROJECT / "settings.yml", *PROJECT.glob("roles/*/meta/argument_specs.yml")]
    return told({path: "\n".join(strings(yaml.safe_load(read(path)))) for path in sources}, EVERYWHERE)


def module_hits() -> dict[str, list[str]]:
    sources = [*PROJECT.glob("library/*.py"), *PROJECT.glob("plugins/*/*.py")]
    return told({path: "\n".join(documentation(read(path))) for path in sources}, EVERYWHERE)


def documentation(text: str) -> Iterator[str]:
    """DOCUMENTATION, EXAMPLES and RETURN of a module or plugin."""
    for block in re.findall(r'^(?:DOCUMENTATION|EXAMPLES|RETURN) = r?"""(.*?)"""', text, re.MULTILINE | re.DOTALL):
        for one in yaml.safe_load_all(block):
            yield from strings(one)


def document_hits() -> dict[str, list[str]]:
    """settings.md is made of settings.yml, which is read itself; the changelog says what things were called before."""
    made = {PROJECT / "docs" / "settings.md", PROJECT / "CHANGELOG.md"}
    sources = [path for path in pages() if path not in made and PROJECT / "changelog" not in path.parents]
    return told({path: read(path) for path in sources}, EVERYWHERE)


def told(texts: Mapping[Path, str], phrases: Iterable[Phrase]) -> dict[str, list[str]]:
    hits = {str(path.relative_to(PROJECT)): found(text, phrases) for path, text in texts.items()}
    return {name: lines for name, lines in hits.items() if lines}


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.example)
def test_a_phrase_is_found_where_it_stands_and_not_where_it_does_not(phrase: Phrase) -> None:
    assert found(phrase.example, [phrase]) != []
    assert found(phrase.fine, [phrase]) == []


def test_what_a_task_file_says_is_read() -> None:
    text = """
    - name: Play | Say it
      hosts: all
      tasks:
        - name: Outer
          block:
            - name: Inner | Thaw home
              ansible.builtin.fail: {msg: "in vain"}
          rescue:
            - name: Last
              ansible.builtin.assert: {that: true, fail_msg: "so many"}
    """
    assert list(task_names(text)) == ["Say it", "Outer", "Thaw home", "Last"]
    assert [one for step in steps(yaml.safe_load(text)) for one in messages(step)] == ["in vain", "so many"]
    assert list(documentation('DOCUMENTATION = r"""\noptions: {a: {description: [text]}}\n"""\n')) == ["text"]


def test_plays_and_tasks_are_named_in_the_words_of_the_glossary() -> None:
    assert names_hits() == {}


def test_messages_use_the_words_of_the_glossary() -> None:
    assert message_hits() == {}


def test_settings_and_role_inputs_use_the_words_of_the_glossary() -> None:
    assert settings_hits() == {}


def test_the_documentation_of_modules_uses_the_words_of_the_glossary() -> None:
    assert module_hits() == {}


def test_the_documents_use_the_words_of_the_glossary() -> None:
    assert document_hits() == {}

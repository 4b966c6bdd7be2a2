"""Each fault ends non-zero, with cause and next step, without leftovers, and home serves its old database."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.playbooks.evidence import HomeState, alive, databases_of, home_preferences, run_playbook

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=12, films=12, shows=1, episodes=2, photos=2)
QUICK = json.dumps({"plexburst_sections": ["Movies"], "plexburst_quick_test": True})


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    box = Sandbox(tmp_path_factory.mktemp("faults") / "sandbox", sizes=SMALL, speed=0.02)
    box.up()
    try:
        yield box
    finally:
        box.reset()


@dataclass(frozen=True)
class Fault:
    """A fault, how it is switched on, and the words the user must read."""

    name: str
    part: str
    switch: dict[str, Any]
    words: tuple[str, ...]
    arguments: tuple[str, ...] = field(default=())


FAULTS = [
    Fault("out of stock for every type", "scaleway", {"out_of_stock": "*"}, ("stock", "plexburst_instance_types")),
    Fault("never boots", "scaleway", {"never_boots": True}, ("not running",), ("-e", "plexburst_boot_timeout=8")),
    Fault("SSH never opens", "machine", {"ssh_never_opens": True}, ("SSH",), ("-e", "plexburst_ssh_timeout=8")),
    Fault(
        "maintenance past the deadline",
        "plex-indexer",
        {"maintenance": "forever"},
        ("aintenance", "plexburst_ready_timeout"),
        ("-e", "plexburst_ready_timeout=6"),
    ),
    Fault("sqlite3 missing on the indexer", "machine", {"no_sqlite3": True}, ("sqlite3",)),
    Fault(
        "library.db truncated on the way home",
        "machine",
        {"sftp_truncate": {"suffix": "library.db", "bytes": 500}},
        ("library.db",),
    ),
]


def serving(sandbox: Sandbox) -> bool:
    """Home's Plex answers."""
    url = f"http://127.0.0.1:{sandbox.state['home']['plex_port']}/identity"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return b"machineIdentifier" in answer.read()


def judge(sandbox: Sandbox, tmp_path: Path, words: tuple[str, ...], *arguments: str) -> None:
    """Run into the fault and check what must hold after every failure."""
    databases = databases_of(sandbox.state["home"]["config_dir"])
    before, devices, prefs = HomeState.read(databases), sandbox.devices(), home_preferences(sandbox.state)
    outcome = run_playbook(sandbox.ansible_env(), tmp_path / "runs", "-e", QUICK, *arguments)
    assert outcome.rc != 0
    failure = outcome.summary["failure"]
    told = json.dumps(failure)
    for word in words:
        assert word in told, f"{word!r} is not in {told}"
    assert failure["advice"]
    assert outcome.summary["status"] == "failed"
    assert alive(sandbox.ledger()) == []
    assert sandbox.devices() == devices
    assert HomeState.read(databases) == before
    assert home_preferences(sandbox.state) == prefs
    assert serving(sandbox)
    if failure["host"].startswith("plexburst-") and "SSH" not in words:
        assert (outcome.run_dir / "logs" / "indexer.tar.gz").stat().st_size > 0


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_a_fault_is_named_and_leaves_nothing_behind(sandbox: Sandbox, tmp_path: Path, fault: Fault) -> None:
    sandbox.set_faults(fault.part, fault.switch)
    try:
        judge(sandbox, tmp_path, fault.words, *fault.arguments)
    finally:
        sandbox.set_faults(fault.part, {})


def test_wrong_s3_credentials_are_named_before_anything_is_paid(sandbox: Sandbox, tmp_path: Path) -> None:
    good = Path(sandbox.state["s3"]["rclone_config"]).read_text()
    wrong = tmp_path / "rclone.conf"
    lines = [
        "secret_access_key = wrongwrongwrong" if line.startswith("secret_access_key") else line
        for line in good.splitlines()
    ]
    wrong.write_text("\n".join(lines) + "\n")
    wrong.chmod(0o600)
    count = len(sandbox.ledger())
    judge(sandbox, tmp_path, (sandbox.state["s3"]["remote"], "credentials"), "-e", f"plexburst_rclone_config={wrong}")
    assert len(sandbox.ledger()) == count


def test_a_wrong_account_token_is_named_before_anything_is_paid(sandbox: Sandbox, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("not-the-owners-token\n")
    wrong.chmod(0o600)
    count = len(sandbox.ledger())
    judge(sandbox, tmp_path, ("token", str(wrong)), "-e", f"plexburst_account_token_file={wrong}")
    assert len(sandbox.ledger()) == count


def test_a_wrong_scaleway_key_is_named_before_anything_is_touched(sandbox: Sandbox, tmp_path: Path) -> None:
    wrong = tmp_path / "scw.yaml"
    text = Path(sandbox.state["scaleway"]["config_file"]).read_text()
    wrong.write_text(text.replace(sandbox.state["scaleway"]["secret_key"], "99999999-9999-9999-9999-999999999999"))
    wrong.chmod(0o600)
    judge(sandbox, tmp_path, ("Scaleway",), "-e", f"plexburst_scw_config_file={wrong}")

"""A PACS as a person indexes it: in a terminal, by Ray's workers, the job killed and the PACS away in between."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from index.address import parse_address
from index.ledger import Ledger
from index.opening import open_index
from tests.support.orthanc import PASSWORD, Orthanc
from tests.support.terminal import Terminal, assert_clean, run


def indexed(index: Path) -> int:
    if not (index / "ledger.sqlite").exists():
        return 0
    ledger = Ledger(index, read_only=True)
    try:
        return ledger.counts().get("indexed", 0)
    finally:
        ledger.close()


def test_a_pacs_is_indexed_whatever_ends_in_between(
    program: Path, orthanc: Orthanc, archive: Path, model_path: Path, tmp_path: Path
) -> None:
    orthanc.take(*(file for file in archive.rglob("*.dcm") if "broken" not in file.name))
    held = len(orthanc.ask("GET", "instances").json())
    index = tmp_path / "index"
    command = [program, "index", orthanc.dicomweb, "--index", index, "--model", model_path, "--connections", "2"]
    with Terminal([*command, "--rate", "3/s"]) as terminal:
        terminal.wait_for("load the network")
        time.sleep(5)
        terminal.signal(signal.SIGKILL)
    assert indexed(index) < held  # at three a second

    # Waiting for a server is not the decoder's time, of which each file has two seconds.
    with Terminal([*command, "--rate", "4/s", "--file-seconds", "2"]) as terminal:
        terminal.wait_for("load the network")
        orthanc.stop()
        time.sleep(8)
        orthanc.start()
        assert terminal.finish() in {0, 3}, terminal.text
        assert_clean(terminal)
        assert PASSWORD.encode() not in terminal.written
    code, terminal = run([*command, "--retry-left-out"])
    assert code == 0, terminal.text
    with open_index(parse_address(index), purpose="test") as opened:
        assert indexed(index) == held
        assert opened.count() == held + 3  # a file has four frames

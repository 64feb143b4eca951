"""``cbmir serve`` and ``cbmir shell`` as a person runs them: in a terminal, until Ctrl-C or Ctrl-D."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from cli.commands.shell import completions
from index.address import parse_address
from index.opening import open_to_search
from tests.support.in_process import jobs_in_process
from tests.support.jobs import small_job
from tests.support.terminal import Terminal, assert_clean
from workers.indexing.job import index_archive


@pytest.fixture(scope="module")
def index(archive: Path, model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The knees and eyes of the phantoms."""
    folder = tmp_path_factory.mktemp("serve") / "index"
    with jobs_in_process():
        index_archive(small_job((archive / "eye", archive / "knee"), model_path, folder))
    return folder


def address(terminal: Terminal) -> str:
    terminal.wait_for("Ctrl-C ends it", 30)
    found = re.search(r"is served at (\S+)", terminal.flat)
    assert found, terminal.text
    return found[1]


def test_it_serves_until_ctrl_c_and_lets_a_job_write_meanwhile(
    program: Path, index: Path, archive: Path, model_path: Path
) -> None:
    with Terminal([program, "serve", "--index", index, "--port", 0], columns=200) as terminal:
        page = address(terminal)
        with httpx.Client(base_url=page, timeout=60) as client:
            before = client.get("/api/status").json()["pictures"]
            with jobs_in_process():
                index_archive(small_job((archive / "chest",), model_path, index))
            status = client.get("/api/status").json()
            assert (status["pictures"], status["written_by"]) == (before + 4, None)
            picture = [("image", ("chest", (archive / "chest" / "chest-000.dcm").read_bytes()))]
            [answer] = client.post("/api/search", files=picture, params={"exclude_same": "none"}).json()
            assert answer["hits"][0]["distance"] == pytest.approx(0, abs=0.01)
        with open_to_search(parse_address(index), purpose="test") as other:
            assert other.count() == before + 4  # whoever searches in a terminal meanwhile asks the server
        terminal.type("\x03")
        assert terminal.finish() == 0
        assert "interrupted" not in terminal.text
    assert_clean(terminal)


def test_sigterm_ends_it(program: Path, index: Path) -> None:
    with Terminal([program, "serve", "--index", index, "--port", 0, "--host", "0.0.0.0"], columns=200) as terminal:
        page = address(terminal)
        local = page.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(local.partition("?")[0], timeout=60).status_code == 401
        assert httpx.get(local, follow_redirects=True, timeout=60).status_code == 200
        terminal.signal(signal.SIGTERM)
        assert terminal.finish() == 143
    assert_clean(terminal)


def test_what_cannot_be_served_is_one_sentence(
    cbmir: Callable[..., int], index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, sentence in (
        (("--index", tmp_path / "none"), "make an index with"),
        (("--index", index, "--host", "192.0.2.1", "--token", "t"), "nothing can listen at 192.0.2.1"),
        (("--index", index, "--tls-key", tmp_path), "belong together"),
        (("--index", index, "--ray-address", "local", "--ray-replicas", "3:1"), "--ray-replicas 3:1 makes no sense"),
    ):
        assert cbmir("serve", *arguments) in {1, 2}
        assert sentence in " ".join(capsys.readouterr().err.split())


def test_a_shell_answers_again_and_again(program: Path, index: Path, archive: Path) -> None:
    with Terminal([program, "shell", "--index", index], columns=160, folder=archive) as terminal:
        terminal.wait_for("cbmir>", 30)
        terminal.type("kn\tknee-00\t1.dcm --top 2 --no-class\t\n")
        terminal.wait_for("knee/knee-001.dcm", 30)
        terminal.wait_for("   2  ", 30)
        found = re.findall(r"\b[0-9a-f]{8}\b", terminal.text)
        terminal.type(f"{found[-1]} --top 1\n")
        terminal.wait_for(f"{found[-1]} (frame 1)", 30)
        terminal.type("knee/none.dcm\n")
        terminal.wait_for("knee/none.dcm: unreadable file", 30)
        terminal.type("'half\n")
        terminal.wait_for("No closing quotation", 30)
        terminal.type("\x1b[A\x1b[A\x03")  # an earlier line, and then not
        time.sleep(0.5)  # a signal overtakes what is typed after it
        terminal.type("help\n")
        terminal.wait_for("--exclude-same", 30)
        terminal.type("\x04")
        assert terminal.finish() == 0
    assert_clean(terminal)


def test_a_shell_takes_lines_from_a_pipe(index: Path, archive: Path) -> None:
    lines = "\n".join(f"{archive}/eye/eye-00{n}.dcm --top 1 --format json" for n in range(3))
    command = [sys.executable, "-c", "from cli.app import main; main()", "--quiet", "shell", "--index", str(index)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    answers = [json.loads(text) for text in done.stdout.replace("]\n[", "]\0[").split("\0")]
    assert [Path(answer["query"]).name for [answer] in answers] == [f"eye-00{n}.dcm" for n in range(3)]


def test_options_and_paths_are_completed(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").touch()
    assert completions("--ex", ["--exact", "--exclude-same", "--top"]) == ["--exact ", "--exclude-same "]
    assert completions(f"{tmp_path}/a\\ f", []) == [f"{tmp_path}/a\\ file ", f"{tmp_path}/a\\ folder/"]
    assert completions(f"{tmp_path}/[", []) == []

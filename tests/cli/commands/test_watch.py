"""``cbmir watch`` as a person leaves it running: in a terminal, over a folder in which files arrive."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.terminal import Terminal, assert_clean, run
from workers.indexing import job


def test_what_arrives_is_indexed_until_ctrl_c(
    program_without_ray: tuple[str, ...], archive: Path, model_path: Path, tmp_path: Path
) -> None:
    folder, index = tmp_path / "arriving", tmp_path / "index"
    shutil.copytree(archive / "eye", folder)
    look = [*program_without_ray, "watch", folder, "--index", index, "--model", model_path, "--every", "1s"]
    with Terminal(look, columns=200) as terminal:
        terminal.wait_for("next look at")
        code, second = run(look)
        assert code == 1
        assert "another 'cbmir watch' looks after" in second.flat
        shutil.copy(archive / "brain" / "brain-001.dcm", folder)
        terminal.wait_for("1 files indexed as 1 points, 4 unchanged")
        shutil.move(folder, tmp_path / "elsewhere")
        terminal.wait_for("does not exist")
        shutil.move(tmp_path / "elsewhere", folder)
        terminal.wait_for("0 files indexed as 0 points, 5 unchanged")
        terminal.type("\x03")
        assert terminal.finish() == 130, terminal.text
        assert_clean(terminal)


def test_a_look_that_fails_unexpectedly_is_no_end(
    cbmir: Callable[..., int],
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    looks = iter([OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])

    def fails(*_: object) -> None:
        raise next(looks)

    monkeypatch.setattr(job, "index_archive", fails)
    (index := tmp_path / "index").mkdir()
    assert cbmir("watch", archive, "--index", index, "--every", "1s") == 130
    assert "No space left on device" in " ".join(capfd.readouterr().err.split())
    with pytest.raises(StopIteration):  # it has looked twice
        next(looks)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--every", "soon"), "write 30s, 5m or 2h"),
        (("--prune",), "add --yes"),
        (("--rate", "fast"), "write 50/s"),
        (("--hours", "20"), "write 20-6"),
        (("--where", "organ=eye"), "modality=… alone"),
        (("--pacs-key", "key.pem"), "no file of certificates"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    cbmir: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    (tmp_path / "folder").mkdir()
    assert cbmir("watch", tmp_path / "folder", "--index", tmp_path / "index", *options) in {1, 2}
    assert said in " ".join(capfd.readouterr().err.split())

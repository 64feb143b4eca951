from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.dataset.cite import attribution
from model.dataset.manifest import MANIFEST, add_class, read_rows
from model.dataset.split import split_dataset
from model.dataset.tables import write_table
from model.errors import DatasetError, RepositoryError, SettingError
from model.training.repository import read_repository
from tests.support import phantoms


def pictures(folder: Path, organ: str, count: int, *, first: int = 0) -> Path:
    """PNG files of one phantom each, unlike each other."""
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        picture = np.roll(phantoms.draw(organ, number, 96), 7 * number, axis=(0, 1)) * 255
        Image.fromarray(np.rot90(picture, number).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def test_classes_are_added_by_hand(tmp_path: Path) -> None:
    eyes = pictures(tmp_path / "messidor", "eye", 3)
    (eyes / "notes.txt").write_text("no image")
    added = add_class(tmp_path / "set", "eye", eyes)
    assert added.files == 3
    assert list(added.left_out) == [str(eyes / "notes.txt")]
    knees = tmp_path / "knees"
    knees.mkdir()
    for number in range(4):
        ds = phantoms.dicom([phantoms.draw("knee", number, 64)], "knee", f"k{number}")
        ds.PatientID = f"patient {number // 2}"
        ds.save_as(knees / f"{number}.dcm", enforce_file_format=True)
    add_class(tmp_path / "set", "knee", knees)
    files = read_repository(tmp_path / "set" / "manifest.csv")
    assert [file.label for file in files] == ["eye"] * 3 + ["knee"] * 4
    assert len({file.group for file in files}) == 3 + 2
    assert "patient 0" not in (tmp_path / "set" / "manifest.csv").read_text()
    add_class(tmp_path / "set", "knee", knees)
    assert len(read_rows(tmp_path / "set")) == 7
    assert (tmp_path / "set" / ".patient-key").stat().st_mode & 0o077 == 0


def test_what_cannot_be_added_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for label, source, message in (
        ("eye", "absent", "is no folder"),
        ("eye", "empty", "no image"),
        ("../eye", "empty", "no name"),
    ):
        with pytest.raises(DatasetError, match=message):
            add_class(tmp_path / "set", label, tmp_path / source)


def test_another_image_of_the_same_name_is_not_overwritten(tmp_path: Path) -> None:
    add_class(tmp_path / "set", "knee", pictures(tmp_path / "one", "knee", 2))
    before = (tmp_path / "set" / "knee" / "0.png").read_bytes()
    with pytest.raises(DatasetError, match="another image"):
        add_class(tmp_path / "set", "knee", pictures(tmp_path / "other", "brain", 2))
    assert (tmp_path / "set" / "knee" / "0.png").read_bytes() == before


def test_a_damaged_key_makes_no_groups(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".patient-key").touch()
    with pytest.raises(DatasetError, match="damaged"):
        add_class(tmp_path / "set", "knee", pictures(tmp_path / "one", "knee", 2))


def test_the_split_keeps_groups_and_near_duplicates_together(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for organ in ("brain", "knee"):
        add_class(folder, organ, pictures(tmp_path / organ, organ, 20))
    twin = Image.open(tmp_path / "brain" / "3.png")
    (tmp_path / "copies").mkdir()
    twin.resize((120, 120)).save(tmp_path / "copies" / "twin.png")
    Image.fromarray((np.asarray(twin) * 0.9).astype(np.uint8)).save(tmp_path / "copies" / "darker.png")
    add_class(folder, "brain", tmp_path / "copies")
    for seed in range(6):
        report = split_dataset(folder, test=0.3, seed=seed)
        parts = {str(path): part for path, part in read_rows(folder)[["path", "split"]].itertuples(index=False)}
        assert parts["brain/3.png"] == parts["brain/twin.png"] == parts["brain/darker.png"]
        assert {name for pair in report.pairs for name in pair} == {"brain/3.png", "brain/twin.png", "brain/darker.png"}
        table = read_rows(folder)
        groups = dict(zip(table["path"], table["group"], strict=True))
        assert groups["brain/3.png"] == groups["brain/twin.png"] == groups["brain/darker.png"]
        assert len(set(groups.values())) == 40
        assert 0.2 < report.images["test"] / 42 < 0.4
    assert split_dataset(folder, test=0.3, seed=0, duplicates=False).pairs == ()
    with pytest.raises(SettingError, match="between 0 and 1"):
        split_dataset(folder, test=1.5, seed=0)


def test_a_new_image_takes_the_split_away(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for organ in ("brain", "knee"):
        add_class(folder, organ, pictures(tmp_path / organ, organ, 5))
    split_dataset(folder, test=0.3, seed=0)
    assert all(file.split for file in read_repository(folder / "manifest.csv"))
    assert not add_class(folder, "knee", tmp_path / "knee").unsplit
    assert add_class(folder, "knee", pictures(tmp_path / "more", "knee", 1, first=9)).unsplit
    assert not any(file.split for file in read_repository(folder / "manifest.csv"))


def test_a_split_names_what_is_gone(tmp_path: Path) -> None:
    for organ in ("brain", "knee"):
        add_class(tmp_path / "set", organ, pictures(tmp_path / organ, organ, 3))
    (tmp_path / "set" / "knee" / "1.png").unlink()
    with pytest.raises(DatasetError, match=r"1\.png is gone"):
        split_dataset(tmp_path / "set", test=0.3, seed=0)


def test_a_dataset_is_not_added_to_itself(tmp_path: Path) -> None:
    add_class(tmp_path / "set", "knee", pictures(tmp_path / "knee", "knee", 2))
    for source in (tmp_path, tmp_path / "set", tmp_path / "set" / "knee"):
        with pytest.raises(DatasetError, match="is a part of"):
            add_class(tmp_path / "set", "brain", source)


def test_a_split_needs_two_classes_and_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="fetch or add"):
        split_dataset(tmp_path, test=0.3, seed=0)
    add_class(tmp_path / "set", "knee", pictures(tmp_path / "knee", "knee", 3))
    with pytest.raises(RepositoryError, match="only the class"):
        split_dataset(tmp_path / "set", test=0.3, seed=0)


def test_every_source_is_cited(tmp_path: Path) -> None:
    add_class(tmp_path / "set", "knee", pictures(tmp_path / "knee", "knee", 3))
    table = read_rows(tmp_path / "set")
    table.loc[0, ["licence", "doi"]] = ["CC BY 3.0", "10.7937/k9/tcia.2016.eln8ygle"]
    table.loc[1, ["licence", "doi"]] = ["CC BY 4.0", "10.1234/unheard.of"]
    write_table(table, tmp_path / "set" / MANIFEST)
    text = attribution(read_rows(tmp_path / "set"))
    assert "Data from 4D Lung Imaging of NSCLC Patients" in text
    assert "<i>" not in text
    assert "https://doi.org/10.1234/unheard.of" in text
    assert "1 images were added by hand" in text
    with pytest.raises(DatasetError, match="doi and licence"):
        attribution(table.drop(columns="doi"))

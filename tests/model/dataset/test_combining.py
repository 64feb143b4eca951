from __future__ import annotations

from pathlib import Path

import pytest

from model.dataset.combining import combine, in_words_of, read_vocabulary
from model.errors import DatasetError, SettingError
from model.training.repository import read_repository


@pytest.fixture
def manifests(tmp_path: Path) -> list[Path]:
    """One with labels and upstreams, one of regions and modalities, one of labels alone; the images are not read."""
    made = {
        "pictures": "path,label,group,source,upstream,licence\n"
        "a.jpg,chest_ct,p1,repository,LIDC,MIT\n"
        "b.jpg,chest_ct,p2,other,,CC BY-NC-ND 4.0\n"
        "c.jpg,chest_xr,p2,other,,not stated (Kaggle competition data)\n"
        "d.jpg,unheard_of,p3,other,,MIT\n",
        "scanners": "path,region,modality,group,source\ne.jpg,head,MR,1,hospital\nf.jpg,chest,DX,2,hospital\n",
        "organs": "path,label,split\ng.jpg,kidney_ct,train\nh.jpg,chest_xray,test\ni.jpg,chest_xray,train\n",
    }
    paths = []
    for name, text in made.items():
        paths.append(tmp_path / name / "manifest.csv")
        paths[-1].parent.mkdir()
        paths[-1].write_text(text)
    return paths


def test_one_vocabulary_and_every_source(manifests: list[Path], tmp_path: Path) -> None:
    made = combine(manifests, tmp_path / "all.csv", vocabulary="regions")
    assert made.images == {"chest_ct": 2, "chest_xr": 4, "brain_mr": 1, "abdomen_ct": 1}
    assert made.left_out == {"unheard_of: none of the classes": 1}
    files = {file.path.name: file for file in read_repository(tmp_path / "all.csv")}
    assert {name: file.source for name, file in files.items()} == {
        "a.jpg": "LIDC",
        **dict.fromkeys(("b.jpg", "c.jpg"), "other"),
        **dict.fromkeys(("e.jpg", "f.jpg"), "hospital"),
        "g.jpg": "organs/kidney_ct",
        **dict.fromkeys(("h.jpg", "i.jpg"), "organs/chest_xray"),
    }
    assert files["e.jpg"].group == "scanners/1"
    assert files["g.jpg"].group == "organs/g.jpg"
    assert all(file.split is None for file in files.values())  # only one of the three had any


def test_what_may_not_be_shipped_or_is_not_wanted_is_left_out_and_named(manifests: list[Path], tmp_path: Path) -> None:
    made = combine(
        manifests, tmp_path / "all.csv", vocabulary="regions", licences="shippable", leave_out=["kidney_ct", "hospital"]
    )
    assert made.images == {"chest_ct": 1, "chest_xr": 2}
    assert made.left_out == {
        "unheard_of: none of the classes": 1,
        "licence 'CC BY-NC-ND 4.0'": 1,
        "licence 'not stated (Kaggle competition data)'": 1,
        "kidney_ct: left out as asked": 1,
        "head MR: left out as asked": 1,
        "chest DX: left out as asked": 1,
    }


def test_a_split_stays_where_every_part_has_one(manifests: list[Path], tmp_path: Path) -> None:
    combine(manifests[2:], tmp_path / "all.csv", vocabulary="regions")
    assert [file.split for file in read_repository(tmp_path / "all.csv")] == ["train", "test", "train"]


def test_what_cannot_be_combined_is_said(manifests: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no vocabulary 'organs'"):
        combine(manifests, tmp_path / "all.csv", vocabulary="organs")
    (tmp_path / "own.yaml").write_text("- a list\n")
    with pytest.raises(DatasetError, match="is no vocabulary"):
        combine(manifests, tmp_path / "all.csv", vocabulary=str(tmp_path / "own.yaml"))
    with pytest.raises(SettingError, match="two manifests lie in folders called 'organs'"):
        combine([manifests[2], manifests[2]], tmp_path / "all.csv", vocabulary="regions")
    with pytest.raises(SettingError, match="no image is left"):
        combine(manifests[1:2], tmp_path / "all.csv", vocabulary="regions", leave_out=["hospital"])
    with pytest.raises(DatasetError, match=r"no\.csv does not exist"):
        combine([tmp_path / "no.csv"], tmp_path / "all.csv", vocabulary="regions")


def test_a_vocabulary_of_ones_own(manifests: list[Path], tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("classes:\n  thorax: {body_part: CHEST, also: [chest_ct, chest_xr, chest_dx]}\n")
    made = combine(manifests, tmp_path / "all.csv", vocabulary=str(tmp_path / "own.yaml"))
    assert made.images == {"thorax": 4}


def test_every_name_of_the_vocabulary_means_one_class() -> None:
    words = read_vocabulary("regions")
    assert len(words.body_parts) == 61
    assert all(words.names[label] == label for label in words.body_parts)
    assert words.class_of("", "chest", "cr") == words.class_of("Chest_Xray", "", "") == "chest_xr"
    assert words.class_of("", "phantom", "CT") == "phantom"
    assert words.class_of("", "none", "MR") is None


def test_labels_are_read_in_the_words_of_a_model() -> None:
    classes = ("abdomen_ct", "brain_mr", "knee_xr")
    assert in_words_of(classes, ["brain_mri", "liver_ct", "knee_xr"]) == {
        "brain_mri": "brain_mr",
        "liver_ct": "abdomen_ct",
    }
    assert in_words_of(classes, ["knee_xr"]) == {}
    assert in_words_of(classes, ["brain_mri", "tail"]) == {}  # of no vocabulary
    assert in_words_of(classes, ["brain_mri", "breast_mri"]) == {}  # of no class of the model

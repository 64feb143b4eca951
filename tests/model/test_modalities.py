from __future__ import annotations

import pytest

from model.modalities import GROUPS, class_groups, contradicts, modality_group


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("chest_ct", {"CT"}),
        ("spine_mri", {"MR"}),
        ("hand_xray", {"CR"}),
        ("knee xr", {"DX"}),
        ("Breast-Mammography", {"MG"}),
        ("fetal_head_ultrasound", {"US"}),
        ("bone_scan", {"NM"}),
        ("chest_ct_scan", {"CT", "NM"}),
        ("ct_angiography", {"CT", "XA"}),
        ("lung_histology", {"SM"}),
        ("knee", set()),
        ("", set()),
    ],
)
def test_a_classs_words_tell_its_modalities(name: str, codes: set[str]) -> None:
    assert class_groups(name) == {modality_group(code) for code in codes}


@pytest.mark.parametrize(
    ("name", "modality", "wrong"),
    [
        ("chest_ct", "MR", True),
        ("chest_ct", "CT", False),
        ("chest_xr", "MG", False),
        ("breast_mammography", "DX", False),
        ("hand_xray", "XA", True),
        ("body_pet", "nm ", False),
        ("chest_ct", "OT", False),
        ("chest_ct", None, False),
        ("chest_ct", "", False),
        ("knee", "MR", False),
        ("ct_angiography", "CT", False),
        ("brain_mri_scan", "MR", False),
        ("pet_ct", "PT", False),
        ("pet_ct", "US", True),
    ],
)
def test_only_what_is_known_of_both_contradicts(name: str, modality: str | None, wrong: bool) -> None:
    assert contradicts(name, modality) is wrong


def test_no_code_is_of_two_kinds() -> None:
    codes = [code for group in GROUPS for code in group]
    assert len(codes) == len(set(codes))
    assert modality_group("XR") == modality_group("MG")
    assert modality_group("SR") == ()

"""A question as it stands in the address bar, so that it can be sent to somebody else."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, field_validator

from index.schema import Description
from index.search import Options, check_options

Word = Annotated[str, Field(max_length=200)]

FILTERS = ("modality", "body_part_examined", "label", "view")
"""Fields that the page filters by beside the organ."""


class Filters(BaseModel):
    """How to search: the options of ``cbmir search``, by the same names."""

    model_config = ConfigDict(extra="forbid")

    top: int = Field(default=10, ge=1, le=1000, description="Hits wanted.")
    layer: list[Word] = Field(
        default=[], max_length=8, description="Layers to compare; the ranks of several are fused."
    )
    organ: list[Word] = Field(
        default=[], max_length=100, description="Search in these classes, instead of the predicted one."
    )
    no_class_prediction: bool = Field(default=False, description="Search the whole index.")
    modality: list[Word] = Field(default=[], max_length=50, description="Modality (0008,0060).")
    body_part_examined: list[Word] = Field(default=[], max_length=50, description="Body Part Examined (0018,0015).")
    label: list[Word] = Field(default=[], max_length=100, description="True class.")
    view: list[Word] = Field(
        default=[], max_length=20, description="axial, coronal, sagittal, oblique, mosaic, projection."
    )
    any_modality: bool = Field(default=False, description="Also of other modalities than the query's header says.")
    exclude_same: Literal["self", "series", "study", "patient", "none"] = Field(
        default="self", description="Leave out the query, or all of its group."
    )
    group_by: Literal["none", "series", "study", "patient"] = Field(
        default="none", description="Keep the best hit of each."
    )
    exact: bool = Field(default=False, description="Compare with every vector.")
    within: float | None = Field(default=None, gt=0, description="Leave out hits that are farther away.")

    def options(self, description: Description) -> Options:
        """What is searched.

        Raises:
            ModelMismatchError, SettingError: as :func:`index.search.check_options`.
        """
        options = Options(
            top=self.top,
            layers=tuple(self.layer) or description.default_layers,
            organs=() if self.no_class_prediction else tuple(self.organ) or None,
            where={name: values for name in FILTERS if (values := getattr(self, name))},
            any_modality=self.any_modality,
            exclude_same=self.exclude_same,
            group_by=self.group_by,
            exact=self.exact,
        )
        check_options(description, options)
        return options


class Asked(Filters):
    """What a program asks with pictures of its own."""

    frame: int = Field(default=1, ge=1, description="1-based frame of each picture.")
    crop: str = Field(default="", description="Left, top, width and height of a part of the picture, from 0 to 1.")

    @field_validator("crop")
    @classmethod
    def _is_a_part(cls, text: str) -> str:
        if text:
            parse_crop(text)
        return text


class Likeness(Asked):
    """What a program asks with a stored picture."""

    frame: int = Field(default=0, ge=0, description="Frame of a series or file that is named; 0: the middle one.")
    more: list[Word] = Field(default=[], max_length=49, description="Further stored pictures that it shall be like.")
    less: list[Word] = Field(default=[], max_length=50, description="Stored pictures that are not meant.")


class Question(Asked):
    """What the page asks: pictures brought, or stored ones, and how to search."""

    upload: list[Word] = Field(default=[], max_length=20, description="Pictures brought a while ago.")
    at: int = Field(default=0, ge=0, le=19, description="Which of them is asked with.")
    like: list[Word] = Field(
        default=[], max_length=50, description="Stored pictures, by id, SOP or Series Instance UID."
    )
    less: list[Word] = Field(default=[], max_length=50, description="Stored pictures that are not meant.")
    top: int = Field(default=24, ge=1, le=1000)
    frame: int = Field(default=0, ge=0, description="0: the first of an upload, the stored one of a stored picture.")

    @property
    def chosen(self) -> str:
        """The one of the pictures that were brought which is asked with."""
        return self.upload[min(self.at, len(self.upload) - 1)]

    @property
    def asks(self) -> bool:
        """Whether there is anything to search for."""
        return bool(self.upload or self.like)

    def parameters(self, **changes: Any) -> list[tuple[str, str]]:
        """The question, with some changes, as the parameters of an address; what is as by default is left out."""
        asked = self.model_copy(update=changes)
        pairs: list[tuple[str, str]] = []
        for name, field in type(self).model_fields.items():
            value = getattr(asked, name)
            if value in (field.default, []):
                continue
            values = value if isinstance(value, list) else [value]
            pairs += [(name, "true" if one is True else str(one)) for one in values]
        return pairs

    def address(self, path: str = "/", **changes: Any) -> str:
        """An address that asks it, with some changes."""
        parameters = urlencode(self.parameters(**changes))
        return f"{path}?{parameters}" if parameters else path


def parse_crop(text: str) -> tuple[float, float, float, float]:
    """``"0.1,0.2,0.5,0.5"`` as left, top, width and height, in parts of the picture.

    Raises:
        ValueError: it is no part of a picture.
    """
    try:
        left, top, width, height = map(float, text.split(","))
        inside = 0 <= left < 1 and 0 <= top < 1 and 0 < width <= 1.001 - left and 0 < height <= 1.001 - top
    except ValueError:
        inside = False
    if not inside:
        raise ValueError(f"{text} is no part of a picture: give left,top,width,height from 0 to 1")
    return left, top, width, height

"""The choices that the help names are those that act."""

from __future__ import annotations

from typing import get_args

import typer

from cli import options
from cli.app import app
from cli.commands import search
from index.schema import PathPrivacy, Quantization
from index.search import GroupBy, Same
from model.network.layers import LAYERS
from model.network.runtimes import Runtime
from model.training.recipes import Precision


def test_choices_are_those_that_act() -> None:
    for shown, acting in (
        (options.RuntimeName, Runtime),
        (options.PrecisionName, Precision),
        (options.QuantizationName, Quantization),
        (options.PathPrivacyName, PathPrivacy),
        (search.Same, Same),
        (search.GroupBy, GroupBy),
    ):
        assert set(get_args(shown)) == set(get_args(acting))
    assert options.LAYERS == LAYERS


def test_one_variable_means_one_thing() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined] # a group
    report = {name: p.envvar for name, one in commands.items() for p in one.params if "--report" in p.opts}
    assert report == {
        "index": "CBMIR_REPORT",
        "evaluate": "CBMIR_REPORT_FOLDER",
        "cross-validate": "CBMIR_REPORT_FOLDER",
    }


def test_options_of_index_are_in_groups() -> None:
    index = typer.main.get_command(app).commands["index"]  # type: ignore[attr-defined] # a group
    panels = {getattr(p, "rich_help_panel", None) for p in index.params}
    assert len(panels) == 8

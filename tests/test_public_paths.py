"""Paths that other people's code imports from: each is there, and the same object under both of its names."""

import importlib

import pytest

import mnemoscope as mn

NAMES = """
    Denoiser Family Guard OpenRun Picture Prompt Run Start Step Trajectory UsageError detect explain local_dimension
    localize mitigate read_pictures read_policy read_prompts run_audit run_detection run_explanation run_gate
    run_generation run_localization run_measurement run_recovery run_sweep series
""".split()
SHORT = """
    step start trajectory denoiser loading ablation hooks schedule tokens words families cond attention sampling
    autoencoder identity jacobian likeness
""".split()
ROOMS = """
    prompts run detection explanation localization generation recovery sweep audit captions detectors explainers
    features localizers measures mitigations pictures plots report scores search demo errors registry stats planted
""".split()
FROM = [
    ("step", "Step"),
    ("start", "Start"),
    ("trajectory", "Trajectory"),
    ("denoiser", "Denoiser"),
    ("loading", "load"),
    ("prompts", "read_prompts"),
    ("prompts", "as_prompts"),
    ("run", "Run"),
    ("run", "read_rows"),
    ("detection", "run_detection"),
    ("explanation", "run_explanation"),
    ("localization", "run_localization"),
    ("generation", "run_generation"),
    ("recovery", "run_recovery"),
    ("sweep", "run_sweep"),
    ("audit", "run_audit"),
    ("cli", "main"),
]


@pytest.mark.parametrize("name", NAMES)
def test_public_names_are_attributes(name: str) -> None:
    assert name in mn.__all__ and name in dir(mn) and getattr(mn, name).__name__ == name


@pytest.mark.parametrize("name", [*SHORT, *ROOMS])
def test_modules_are_attributes_and_importable(name: str) -> None:
    assert getattr(mn, name) is importlib.import_module(f"mnemoscope.{name}")


@pytest.mark.parametrize("name", SHORT)
def test_a_short_path_is_the_module_of_its_room(name: str) -> None:
    module = importlib.import_module(f"mnemoscope.{name}")
    assert module is importlib.import_module(f"mnemoscope.model.{name}")
    assert module.__name__ == module.__spec__.name == f"mnemoscope.model.{name}"


@pytest.mark.parametrize(("room", "name"), FROM)
def test_names_stay_where_docs_and_notebooks_take_them_from(room: str, name: str) -> None:
    assert callable(getattr(importlib.import_module(f"mnemoscope.{room}"), name))


def test_what_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'detekt'"):
        _ = mn.detekt
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mnemoscope.nothing")

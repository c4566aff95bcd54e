"""Probes of a training: what they see, what they write, when they stop it, and that they leave no trace."""

import copy
import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import tiny
from mnemoscope import planted
from mnemoscope.errors import UsageError
from mnemoscope.features import pixels
from mnemoscope.methods import by_name as api
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.plots.canvas import png
from mnemoscope.plots.probes import probes_plot
from mnemoscope.run.probe_rows import read_probes, values_of
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.watching.observing import observed
from mnemoscope.training.watching.options import ProbeOptions
from mnemoscope.training.watching.probes import ProbePrompt, Probes, probes_of
from mnemoscope.training.watching.warning import warning

LIGHT = {"probe_every": 10, "probe_inference_steps": 3, "probe_guidance": 3.0}


@pytest.fixture
def run(tmp_path: Path) -> SimpleNamespace:
    return SimpleNamespace(folder=tmp_path)


def picture(seed: int, size: int = 16) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.NEAREST)


def images_of_planted() -> list[Image.Image]:
    values = ((planted.images() / 2 + 0.5) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(v) for v in values]


def planted_probes() -> list[ProbePrompt]:
    memorized = [
        ProbePrompt(f"memorized {k}", "memorized", (image,)) for k, image in enumerate(images_of_planted()[:2])
    ]
    return [*memorized, *(ProbePrompt(f"ordinary {k}", "base", (picture(k),)) for k in range(2))]


# What they see


def test_memorized_probes_score_high_and_are_copied(run):
    options = ProbeOptions(**{**LIGHT, "probe_inference_steps": 10}, probe_images=2)
    probes = Probes(planted_probes(), options)
    assert probes(0, planted.pipeline(), run) is None
    rows = read_probes(run.folder)
    assert [set(row) for row in rows] == [{"step", "prompt", "group", "detector", "score", "own_similarity"}] * 4
    memorized, base = rows[:2], rows[2:]
    assert min(r["score"] for r in memorized) > 5 * max(r["score"] for r in base)
    assert min(r["own_similarity"] for r in memorized) > 0.95 and max(r["own_similarity"] for r in base) < 0.5


def test_numbers_are_those_of_detection_and_of_drawing(run):
    pipe = tiny.stable_diffusion()
    options = ProbeOptions(**LIGHT, probe_images=2, probe_seed=5, probe_detectors=("noise_norm", "score_norm"))
    probes = Probes([ProbePrompt("abc", "memorized", (picture(0), picture(1))), ProbePrompt("xyz", "base")], options)
    probes(10, pipe, run)
    rows = read_probes(run.folder)
    assert [(r["prompt"], r["detector"]) for r in rows] == [
        (p, d) for p in ("abc", "xyz") for d in ("noise_norm", "score_norm")
    ]
    model = Denoiser(tiny.stable_diffusion())
    sampling = {"num_inference_steps": 3, "guidance_scale": 3.0}
    for row in rows:
        trajectory = Trajectory(model, [row["prompt"]] * 2, [5, 6], **sampling)
        assert row["score"] == pytest.approx(api.detect(trajectory, row["detector"]).mean().item(), rel=1e-4)
    similarity = pixels(model.generate(["abc"] * 2, [5, 6], **sampling)) @ pixels([picture(0), picture(1)]).T
    assert rows[0]["own_similarity"] == pytest.approx(similarity.max(axis=1).mean(), abs=1e-2)
    assert rows[0]["own_similarity"] == rows[1]["own_similarity"] and rows[2]["own_similarity"] is None


@pytest.mark.parametrize(
    ("given", "evaluations"),
    [
        ({}, 2 + 1 + 2 * 2 * 2),  # two prompts share the first unconditional prediction, and none thereafter
        ({"probe_images": 0}, 2 + 1),  # the first step alone
        ({"probe_detectors": ()}, 2 + 1 + 2 * 2 * 2),  # a score of the first step costs nothing beside an image
    ],
)
def test_a_look_costs_exactly(run, given, evaluations):
    probes = Probes(
        [ProbePrompt("abc", "memorized", (picture(0),)), ProbePrompt("xyz", "base")], ProbeOptions(**LIGHT, **given)
    )
    probes(0, tiny.stable_diffusion(), run)
    assert probes.network_evaluations == evaluations


def test_only_every_so_many_steps_is_looked_at(run):
    probes = Probes([ProbePrompt("abc", "memorized")], ProbeOptions(**LIGHT))
    for step in (0, 1, 9, 10, 15, 20):
        probes(step, tiny.stable_diffusion(), run)
    assert [row["step"] for row in read_probes(run.folder)] == [0, 10, 20]
    never = Probes([ProbePrompt("abc", "memorized")], ProbeOptions())
    assert never(0, tiny.stable_diffusion(), run) is None and never.network_evaluations == 0


def test_the_same_network_gives_the_same_rows_at_every_step(run):
    pipe, probes = (
        tiny.stable_diffusion(),
        Probes([ProbePrompt("abc", "memorized", (picture(0),))], ProbeOptions(**LIGHT)),
    )
    for step in (0, 10):
        torch.randn(3)
        probes(step, pipe, run)
    first, second = read_probes(run.folder)
    assert {**first, "step": 10} == second


def test_rows_of_a_resumed_training_replace_those_that_were_ahead(run):
    pipe, probes = tiny.stable_diffusion(), Probes([ProbePrompt("abc", "memorized")], ProbeOptions(**LIGHT))
    for step in (0, 10, 20):
        probes(step, pipe, run)
    text = (run.folder / "probes.jsonl").read_text()
    Probes([ProbePrompt("abc", "memorized")], ProbeOptions(**LIGHT))(10, pipe, run)
    assert (run.folder / "probes.jsonl").read_text() == "".join(text.splitlines(keepends=True)[:2])


def test_a_network_that_gives_no_numbers_is_told_and_does_not_end_the_training(run):
    pipe = tiny.stable_diffusion()
    with torch.no_grad():
        pipe.unet.conv_out.weight.fill_(torch.nan)
    probes = Probes(
        [ProbePrompt("abc", "memorized", (picture(0),))], ProbeOptions(**LIGHT, stop_above=("noise_norm=1",))
    )
    assert probes(0, pipe, run) is None
    (row,) = read_probes(run.folder)
    assert row["score"] is None and row["own_similarity"] is None


# No trace


def states(pipe) -> list[torch.Tensor]:
    return [v.clone() for part in (pipe.unet, pipe.text_encoder, pipe.vae) for v in part.state_dict().values()]


@pytest.mark.parametrize("fails", [False, True])
def test_a_training_that_is_looked_at_stays_as_it_was_bit_for_bit(run, fails, monkeypatch):
    pipe = tiny.stable_diffusion()
    pipe.unet.requires_grad_(True).train()
    pipe.unet.down_blocks[0].eval()
    pipe.text_encoder.requires_grad_(False).train()
    for k, parameter in enumerate(pipe.unet.parameters()):
        parameter.grad = torch.full_like(parameter, k)
    for seeded in (np.random.seed, torch.manual_seed):
        seeded(3)
    before, scheduler = states(pipe), copy.deepcopy(vars(pipe.scheduler))
    modes = [m.training for part in (pipe.unet, pipe.text_encoder, pipe.vae) for m in part.modules()]
    wanted = [p.requires_grad for part in (pipe.unet, pipe.text_encoder, pipe.vae) for p in part.parameters()]
    options = ProbeOptions(**LIGHT, probe_detectors=("noise_norm", "sharpness"))
    probes = Probes([ProbePrompt("abc", "memorized", (picture(0),))], options)
    if fails:
        monkeypatch.setattr(Probes, "look", lambda self, model, step: torch.rand(1) + np.random.rand() + 1 / 0)
        with pytest.raises(ZeroDivisionError):
            probes(0, pipe, run)
    else:
        probes(0, pipe, run)
    assert all(torch.equal(a, b) for a, b in zip(before, states(pipe), strict=True))
    assert modes == [m.training for part in (pipe.unet, pipe.text_encoder, pipe.vae) for m in part.modules()]
    assert wanted == [p.requires_grad for part in (pipe.unet, pipe.text_encoder, pipe.vae) for p in part.parameters()]
    assert all(torch.equal(p.grad, torch.full_like(p, k)) for k, p in enumerate(pipe.unet.parameters()))
    assert all(p.grad is None for p in [*pipe.text_encoder.parameters(), *pipe.vae.parameters()])
    drawn = (np.random.rand(), torch.rand(1).item())
    for seeded in (np.random.seed, torch.manual_seed):
        seeded(3)
    assert drawn == (np.random.rand(), torch.rand(1).item())
    assert {k: str(v) for k, v in vars(pipe.scheduler).items()} == {k: str(v) for k, v in scheduler.items()}


def test_the_block_evaluates_and_freezes_and_may_take_gradients_of_other_things():
    pipe = tiny.stable_diffusion()
    pipe.unet.train()
    with torch.no_grad(), observed(pipe) as model:
        assert not pipe.unet.training and not any(p.requires_grad for p in pipe.unet.parameters())
        assert torch.is_grad_enabled()
        assert api.detect(Trajectory(model, "abc", num_inference_steps=2), "noise_norm").isfinite().all()
    assert pipe.unet.training


def test_python_s_own_random_state_is_restored_too():
    """Apart from the others: the type checks of the tests draw from it, so that only the block alone can be tested."""
    pipe = tiny.stable_diffusion()
    random.seed(3)
    with observed(pipe):
        random.random()
    drawn = random.random()
    random.seed(3)
    assert drawn == random.random()


def test_a_pipeline_of_two_dtypes_is_looked_at_in_the_narrower_one(run):
    pipe = tiny.stable_diffusion()
    pipe.text_encoder.to(torch.bfloat16)
    pipe.vae.to(torch.bfloat16)
    Probes([ProbePrompt("abc", "memorized", (picture(0),))], ProbeOptions(**LIGHT))(0, pipe, run)
    (row,) = read_probes(run.folder)
    exact = Trajectory(Denoiser(tiny.stable_diffusion()), "abc", 0, num_inference_steps=3, guidance_scale=3.0)
    assert row["score"] == pytest.approx(api.detect(exact, "noise_norm").item(), rel=0.05)
    assert row["own_similarity"] is not None and pipe.unet.dtype == torch.float32


# Stopping


def rows_of(*values: tuple[str, float, float]) -> list[dict]:
    return [
        {"step": 40, "prompt": str(k), "group": g, "detector": d, "score": s, "own_similarity": o}
        for k, (g, s, o) in enumerate(values)
        for d in ("noise_norm", "score_norm")
    ]


ROWS = rows_of(("memorized", 4.0, 0.9), ("memorized", 2.0, 0.5), ("base", 1.0, 0.2))


@pytest.mark.parametrize(
    ("limits", "by", "expected"),
    [
        ((), "mean", None),
        (("own_similarity=0.75",), "mean", None),
        (("noise_norm=3",), "mean", None),  # at the threshold is not above it
        (
            ("own_similarity=0.6",),
            "mean",
            "Stopped at step 40: the mean own_similarity of 2 memorized probes is 0.7, above 0.6.",
        ),
        (
            ("own_similarity=0.95", "noise_norm=3.5"),
            "max",
            "Stopped at step 40: the max noise_norm of 2 memorized probes is 4, above 3.5.",
        ),
        (("score_norm=0.5",), "max", "Stopped at step 40: the max score_norm of 2 memorized probes is 4, above 0.5."),
    ],
)
def test_training_stops_above_a_limit(limits, by, expected):
    options = ProbeOptions(probe_every=1, probe_detectors=("noise_norm", "score_norm"), stop_above=limits, stop_by=by)
    assert warning(ROWS, options) == expected


def test_the_callback_says_why_to_stop(run):
    options = ProbeOptions(**{**LIGHT, "probe_inference_steps": 10}, stop_above=("own_similarity=0.8",))
    said = Probes(planted_probes(), options)(30, planted.pipeline(), run)
    assert said is not None and said.startswith("Stopped at step 30: the mean own_similarity of 2 memorized probes is ")
    assert len(read_probes(run.folder)) == 4


def test_the_similarity_counts_once_a_probe_whatever_the_detectors():
    assert values_of(ROWS[:4], "own_similarity").tolist() == [0.9, 0.5]
    assert values_of(ROWS[:4], "noise_norm").tolist() == [4.0, 2.0]


# Which prompts


@pytest.fixture
def data(tmp_path: Path) -> TrainingSet:
    for name, count in (("own", 12), ("base", 12)):
        folder = tmp_path / name
        folder.mkdir()
        for k in range(count):
            picture(k + 100 * (name == "base")).save(folder / f"{k:02d}.png")
            (folder / f"{k:02d}.txt").write_text(f"{name} picture {k}")
    options = DataOptions(str(tmp_path / "own"), str(tmp_path / "base"), base_ratio=1, random_flip=True)
    return TrainingSet.from_options(options, tiny.tokenizer(), resolution=16)


def test_a_seeded_sample_of_each_group_is_taken_with_its_pictures(data):
    probes = probes_of(data, ProbeOptions(probe_count=5))
    assert [p.group for p in probes] == ["memorized"] * 5 + ["base"] * 5
    assert [p.prompt for p in probes] == [p.prompt for p in probes_of(data, ProbeOptions(probe_count=5))]
    other = probes_of(data, ProbeOptions(probe_count=5, probe_seed=1))
    assert {p.prompt for p in probes} != {p.prompt for p in other}
    number = int(probes[0].prompt.split()[-1])
    own = picture(number)
    assert [i.tobytes() for i in probes[0].images] == [i.tobytes() for i in (own, ImageOps.mirror(own))]
    assert len(probes_of(data, ProbeOptions(probe_count=100))) == 24


def test_given_prompts_find_their_own_pictures_and_group(data, tmp_path):
    (tmp_path / "probes.txt").write_text("own picture 3\nbase picture 4\nsomething else\n")
    probes = probes_of(data, ProbeOptions(probe_prompts=str(tmp_path / "probes.txt")))
    assert [(p.group, len(p.images)) for p in probes] == [("memorized", 2), ("base", 2), ("given", 0)]
    assert probes[1].images[0].tobytes() == picture(104).tobytes()


# Refused


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"probe_every": -1}, "--probe-every -1 was given; give 0 or more."),
        ({"probe_inference_steps": 0}, "--probe-inference-steps 0 was given; give 1 or more."),
        ({"stop_above": ("noise_norm=5",)}, "--stop-above needs probes to look at; give --probe-every with it."),
        (
            {"probe_every": 1, "stop_above": ("flipd=5",)},
            "--stop-above flipd=5 is no limit; write noise_norm=NUMBER or own_similarity=NUMBER.",
        ),
        (
            {"probe_every": 1, "probe_images": 0, "stop_above": ("noise_norm=much",)},
            "--stop-above noise_norm=much is no limit; write noise_norm=NUMBER.",
        ),
        (
            {"probe_detectors": (), "probe_images": 0},
            "Probes need something to look at; give --probe-detectors, or --probe-images 1.",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_sentence(given, said):
    with pytest.raises(UsageError) as error:
        ProbeOptions(**given)
    assert str(error.value) == said


def test_an_unknown_detector_is_refused():
    with pytest.raises(UsageError, match="noise_morn"):
        ProbeOptions(probe_detectors=("noise_morn",))


# The curve


def test_the_curve_shows_each_group_with_its_interval(tmp_path):
    rows = [
        {**row, "step": step, "own_similarity": row["own_similarity"] * step / 40}
        for step in (0, 20, 40)
        for row in ROWS
    ]
    figure = probes_plot(rows, threshold=0.8)
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert np.allclose(lines["memorized (n = 2)"], [[0, 0], [20, 0.35], [40, 0.7]])
    assert np.allclose(lines["base (n = 1)"], [[0, 0], [20, 0.1], [40, 0.2]])
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    at_the_end = band[band[:, 0] == 40, 1]
    assert (at_the_end.min(), at_the_end.max()) == (0.5, 0.9)  # of two values a bootstrap covers both
    assert "threshold 0.8" in lines and png(figure)[:4] == b"\x89PNG"
    scores = probes_plot(json.loads(json.dumps(rows)), "noise_norm")
    assert len(scores.axes[0].collections) == 2
    with pytest.raises(UsageError, match="No probe has a value of sharpness"):
        probes_plot(rows, "sharpness")

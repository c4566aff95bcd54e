"""Region maps over a list of prompts: rows, files, truth from masks, resuming, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import mnemoscope as mn
import tiny
from documented import documented
from failing import broken_for, raising
from mnemoscope import cli, demo, plots
from mnemoscope.errors import UsageError
from mnemoscope.explanation import regions
from mnemoscope.explanation.masks import read_masks, resized
from mnemoscope.explanation.run import Explanation, run_explanation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt, as_prompts
from mnemoscope.run.run import read_json, read_rows

TEXTS = ["a fox", "two foxes", "an owl"]
SHORT = {"num_inference_steps": 3, "guidance_scale": 5.0}


@pytest.fixture(scope="module")
def small() -> Denoiser:
    return Denoiser(tiny.stable_diffusion())


def mapped(model: Denoiser, out: Path, prompts: list[Prompt] | None = None, **options: Any) -> list[dict]:
    run = {k: options.pop(k) for k in ("batch", "overwrite", "masks") if k in options}
    asked = Explanation(**{"method": "difference_map", **SHORT, **options})
    run_explanation(model, as_prompts(TEXTS) if prompts is None else prompts, out, asked, **run)
    return read_rows(out)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*") if p.parent != folder}


def test_rows_hold_the_map_of_each_image(small: Denoiser, tmp_path: Path) -> None:
    prompts = [Prompt("x", TEXTS[0], True, "tm"), Prompt("y", TEXTS[1], False)]
    rows = mapped(small, tmp_path, prompts, seeds=2, seed=5, params={"units": "noise"})
    assert [row["id"] for row in rows] == ["x-5", "x-6", "y-5", "y-6"]
    path = mn.Trajectory(small, [TEXTS[0], TEXTS[0], TEXTS[1], TEXTS[1]], [5, 6, 5, 6], **SHORT)
    maps = mn.explain(path, "difference_map", units="noise")
    images = small.generate(path.prompts, path.seeds, **SHORT)
    heats = regions.scaled(regions.upsampled(maps, (16, 16)))
    for row, own, image, heat in zip(rows, maps, images, heats, strict=True):
        assert (row["prompt_id"], row["seed"]) == (row["id"][0], int(row["id"][-1])) and row["status"] == "ok"
        assert (row["label"], row["kind"]) == ((True, "tm") if row["prompt_id"] == "x" else (False, None))
        assert (row["method"], row["params"]) == ("difference_map", {"units": "noise"})
        torch.testing.assert_close(load_file(tmp_path / row["map"])["map"], own, rtol=1e-4, atol=1e-7)
        assert row["peak"] == pytest.approx(own.max().item(), rel=1e-4)
        assert row["mean"] == pytest.approx(own.mean().item(), rel=1e-4)
        region = heat > regions.otsu(heat)
        assert row["share"] == pytest.approx(region.mean(), abs=0.01) and 0 < row["share"] < 1
        with Image.open(tmp_path / row["file"]) as drawn:
            assert np.abs(np.asarray(drawn, int) - np.asarray(image, int)).max() <= 1
        for name in ("overlay", "region"):
            with Image.open(tmp_path / row[name]) as picture:
                assert picture.size == (16, 16)
        assert "iou" not in row and "truth" not in row
    assert "overlap" not in read_json(tmp_path / "summary.json")
    assert read_json(tmp_path / "run.json")["command"] == "regions"


def test_masks_give_each_image_its_overlap_and_all_of_them_theirs(small: Denoiser, tmp_path: Path) -> None:
    prompts = [replace(p, label=k < 2) for k, p in enumerate(as_prompts(TEXTS))]
    half = np.zeros((32, 32), bool)
    half[:, :16] = True
    (tmp_path / "masks").mkdir()
    Image.fromarray(half).save(tmp_path / "masks" / "0.png")
    Image.fromarray(255 * np.ones((7, 7), np.uint8)).save(tmp_path / "masks" / f"{prompts[1].id}.png")
    masks = read_masks(tmp_path / "masks", prompts)
    rows = mapped(small, tmp_path / "run", prompts, masks=masks)
    maps = np.stack([load_file(tmp_path / "run" / row["map"])["map"].numpy() for row in rows])
    truth = np.stack([half[::2, ::2], np.ones((16, 16), bool), np.zeros((16, 16), bool)])
    maps = regions.upsampled(maps, (16, 16))
    summary = read_json(tmp_path / "run" / "summary.json")
    expected = regions.evaluated(maps, truth, [p.id for p in prompts])
    assert summary["overlap"] == json.loads(json.dumps(expected)) and summary["judged"] == 3
    for row, heat, own in zip(rows, regions.scaled(maps), truth, strict=True):
        counted = regions.counts((heat > regions.otsu(heat))[None], own[None])
        assert row["iou"] == pytest.approx(float(regions.iou(counted)))
    assert documented("regions.md") >= {key for row in rows for key in row}
    assert rows[1]["iou"] == pytest.approx(rows[1]["share"]) and rows[2]["iou"] == 0
    with Image.open(tmp_path / "run" / rows[0]["truth"]) as picture:
        lit = np.asarray(picture, int).sum(-1)
    assert lit[:, :8].mean() > 3 * lit[:, 8:].mean()


def test_a_prompt_without_a_mask_and_without_a_label_is_not_judged(small: Denoiser, tmp_path: Path) -> None:
    prompts = as_prompts(TEXTS)
    (tmp_path / "masks").mkdir()
    Image.new("L", (16, 16), 255).save(tmp_path / "masks" / "1.png")
    rows = mapped(small, tmp_path / "run", prompts, masks=read_masks(tmp_path / "masks", prompts))
    assert ["iou" in row for row in rows] == [False, True, False]
    assert read_json(tmp_path / "run" / "summary.json")["judged"] == 1


def test_masks_that_are_not_there_or_no_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no mask of these prompts"):
        read_masks(tmp_path, as_prompts(TEXTS))
    (tmp_path / "0.png").write_text("no picture")
    with pytest.raises(UsageError, match="cannot be read as a mask"):
        read_masks(tmp_path, as_prompts(TEXTS))
    with pytest.raises(UsageError, match="no prompt of the bundled model"):
        read_masks("demo", as_prompts(TEXTS))


def test_masks_of_the_bundled_model_are_its_own() -> None:
    prompts = as_prompts([demo.prompts(kind)[0] for kind in ("verbatim", "template", "ordinary")])
    found = read_masks("demo", prompts)
    assert [found[p.id].mean() for p in prompts] == [1, 1 - 26 * 26 / 64**2, 0]
    mask = found[prompts[1].id]
    assert (resized(mask, (128, 128))[::2, ::2] == mask).all() and (resized(mask, (32, 32)) == mask[1::2, 1::2]).all()


@pytest.mark.parametrize("method", ["curvature_map", "bright_ending"])
def test_a_resumed_run_is_the_same_as_one_in_one_go(small: Denoiser, tmp_path: Path, method: str) -> None:
    params = {"probes": 2} if method == "curvature_map" else {}
    asked: dict[str, Any] = {"method": method, "params": params, "batch": 2}
    whole = mapped(small, tmp_path / "whole", **asked)
    part = mapped(small, tmp_path / "part", **asked)
    assert whole == part and files(tmp_path / "whole") == files(tmp_path / "part")
    lines = (tmp_path / "part" / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "part" / "rows.jsonl").write_text("".join(lines[:2]))
    before = small.network_evaluations
    assert mapped(small, tmp_path / "part", **asked) == whole
    spent = small.network_evaluations - before
    assert 0 < spent <= 6 + 2 and files(tmp_path / "whole") == files(tmp_path / "part")  # the last prompt alone


def test_what_fails_is_a_row_and_the_others_keep_their_maps(small: Denoiser, tmp_path: Path) -> None:
    with broken_for(small, "two", raising):
        rows = mapped(small, tmp_path, masks={p.id: np.ones((4, 4), bool) for p in as_prompts(TEXTS)})
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert "iou" in rows[0] and read_json(tmp_path / "summary.json")["judged"] == 2
    with broken_for(small, "two", raising):
        (row,) = mapped(small, tmp_path / "none", as_prompts(TEXTS[1:2]))
    assert row["status"] == "failed" and "map" not in row


def test_models_without_tokens_have_maps_too(tmp_path: Path) -> None:
    rows = mapped(Denoiser(tiny.class_conditional()), tmp_path, as_prompts(["goldfish", "7"]))
    assert [row["status"] for row in rows] == ["ok", "ok"] and rows[0]["peak"] > 0


def test_masks_of_words_and_words_formats_of_maps_are_refused(planted: Denoiser, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="token_occlusion explains words; choose one of bright_ending, curvature_map"):
        mapped(planted, tmp_path, method="token_occlusion", masks={})
    (tmp_path / "p.txt").write_text("a cat\n")
    words = ["explain", "demo", "--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "x")]
    with pytest.raises(UsageError, match="difference_map gives regions; leave out --format"):
        cli.app([*words, "--format", "layer6", "--method", "difference_map"], standalone_mode=False)


def test_the_command_maps_and_judges(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    prompts = [demo.prompts("template")[0], demo.prompts("ordinary")[0]]
    (tmp_path / "p.txt").write_text("\n".join(prompts))
    words = ["explain", "demo", "--prompts", str(tmp_path / "p.txt"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    words += ["--method", "difference_map", "--masks", "demo", "--num-inference-steps", "3", "--seeds", "2"]
    cli.app(words, standalone_mode=False)
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["judged"] == 4 and (tmp_path / "run" / "report.html").exists()
    assert "4 images mapped by difference_map" in capsys.readouterr().out
    ones = summary["overlap"]["all_ones"]["iou"]["value"]
    assert ones == pytest.approx((1 - 26 * 26 / 64**2) / 2)


# Pictures


def test_overlays_show_both_the_image_and_the_map() -> None:
    image = Image.fromarray(np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None], 64, 0))
    heat = np.repeat(np.linspace(0, 1, 64)[:, None], 64, 1)
    found = np.asarray(plots.overlay(image.convert("RGB"), heat), int).sum(-1)
    assert found.shape == (64, 64)
    assert (np.diff(found, axis=1) >= 0).all() and found[:, -1].min() > found[:, 0].max() - 3 * 255
    assert found[-1].mean() > found[0].mean() + 100
    small = plots.overlay(image.convert("RGB"), np.zeros((16, 8)))
    assert small.size == (8, 16)


def test_cutouts_keep_the_region_as_it_is_and_dim_the_rest() -> None:
    image = Image.new("RGB", (8, 8), (200, 100, 50))
    region = np.eye(8, dtype=bool)
    found = np.asarray(plots.cutout(image, region))
    assert (found[region] == (200, 100, 50)).all() and (found[~region] == (24, 12, 6)).all()


def test_the_curve_of_thresholds_is_drawn_beside_all_pixels() -> None:
    figure = plots.threshold_plot(np.linspace(0, 1, 5), np.array([0.5, 0.7, 0.9, 0.4, 0.0]), 0.5)
    curve, ones = figure.axes[0].lines
    assert list(np.asarray(curve.get_ydata())) == [0.5, 0.7, 0.9, 0.4, 0.0] and set(ones.get_ydata()) == {0.5}
    assert plots.png(figure)[:4] == b"\x89PNG"

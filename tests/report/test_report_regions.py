"""Regions in a report and in a terminal: pictures in order, numbers as they were recorded, hostile rows stay rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemoscope.report import write
from mnemoscope.report.reading import headline, read
from pages import HOSTILE, Page, caption, drawing, edit, info, printed, save


def overlap(value: float) -> dict[str, Any]:
    return {
        name: {"value": value, "interval": [value - 0.05, value + 0.05]} for name in ("iou", "mean_iou", "accuracy")
    }


def make_regions(folder: Path, prompts: int = 4, seeds: int = 1, judged: bool = True) -> Path:
    """A region run whose even prompts are memorized and have the greater means."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for k in range(prompts):
        for seed in range(seeds):
            name = f"p{k}-{seed}"
            row: dict[str, Any] = {
                "id": name,
                "prompt_id": f"p{k}",
                "prompt": caption("um"[k % 2 == 0], k),
                "seed": seed,
            }
            row |= {"method": "curvature_map", "params": {}, "label": k % 2 == 0, "kind": None, "status": "ok"}
            row |= {
                "peak": 9.0 + k,
                "mean": 1 + k + 10.0 * (k % 2 == 0),
                "share": 0.25,
                "map": f"arrays/{name}.safetensors",
            }
            row |= {"iou": 0.5 + 0.1 * k} if judged else {}
            pictures = ("file", "overlay", "region", *(("truth",) if judged else ()))
            for place, picture in enumerate(pictures):
                row[picture] = f"images/{name}{'' if picture == 'file' else '-' + picture}.png"
                drawing(10 * k + place, 0).save(folder / row[picture])
            rows.append(row)
    record = info("regions")
    record["method"] = {"name": "curvature_map", "summary": "Curvature that the text adds.", "cost": "16 gradients"}
    record["settings"] |= {"method": "curvature_map", "params": {"probes": 4}, "masks": "demo", "seed": 0}
    rules = {"all_ones": 0.64, "fixed": 0.7, "otsu": 0.8, "otsu_of_all": 0.85, "best": 0.91}
    found: dict[str, Any] = {rule: overlap(value) for rule, value in rules.items()}
    found["best"] |= {"threshold": 0.4, "curve": np.linspace(0.64, 0.0, 101).tolist()}
    summary = {"prompts": prompts, "failed": 0, "network_evaluations": 400, "seconds": 3.0}
    return save(folder, record, rows, summary | ({"judged": prompts * seeds, "overlap": found} if judged else {}))


def test_a_page_says_how_well_the_maps_overlap_the_truth(tmp_path: Path) -> None:
    folder = make_regions(tmp_path / "run")
    page = Page(write([folder]))
    assert "4 images mapped by curvature_map; in 4 images with a known truth the maps overlap" in page.text
    assert "by 0.91 at the best threshold, a mask of all pixels by 0.64." in page.text
    assert "Best threshold, an oracle 0.91 intersection over union, 95 % interval 0.86 to 0.96" in page.text
    assert "Each map's own split 0.80" in page.text and "All pixels 0.64" in page.text
    assert (folder / "plots" / "overlap.png").is_file() and "chosen with the truth at hand" in page.text
    assert page.source.count("<figcaption>true region<") == 4


def test_images_stand_in_order_of_their_mean_with_their_numbers(tmp_path: Path) -> None:
    page = Page(write([make_regions(tmp_path / "run", seeds=2)]))
    found = [page.text.index(caption("um"[k % 2 == 0], k)) for k in (2, 0, 3, 1)]
    assert found == sorted(found)
    assert page.text.count("25 % stands out") == 8 and page.text.count("overlap 0.70") == 2
    assert "image map stands out true region seed 0 · mean 13 · 25 % stands out · overlap 0.70" in page.text
    assert len(page.tags("img")) == 1 + 8 * 4
    assert all(source.startswith("data:image/") for source in page.values("src"))


def test_without_masks_nothing_is_said_of_the_truth(tmp_path: Path) -> None:
    folder = make_regions(tmp_path / "run", judged=False)
    page = Page(write([folder]))
    assert "4 images mapped by curvature_map; no true regions were given to compare with." in page.text
    assert "overlap 0" not in page.text and "oracle" not in page.text and "chosen with the truth" not in page.text
    assert not (folder / "plots").exists() and len(page.tags("img")) == 4 * 3


def test_missing_pictures_and_failed_rows_are_counted(tmp_path: Path) -> None:
    folder = make_regions(tmp_path / "run")
    (folder / "images" / "p1-0-overlay.png").unlink()
    edit(folder, lambda k, row: {key: value for key, value in row.items() if key != "peak" or k != 3})
    page = Page(write([folder]))
    assert "1 picture could not be shown" in page.text and "its map has no finite values" in page.text
    assert "1 row failed" in headline(read(folder))


def test_hostile_rows_stay_rows(tmp_path: Path) -> None:
    folder = make_regions(tmp_path / "run", prompts=len(HOSTILE))
    odd = [-1, 0, 1e308, -1e308, 5e-324, 2, 10**15, -0.0]
    files = ["", "x", "../../secret.png", *HOSTILE[3:]]
    edit(
        folder,
        lambda k, row: row | {"prompt": HOSTILE[k], "share": odd[k], "iou": odd[k], "mean": odd[k], "truth": files[k]},
    )
    summary = json.loads((folder / "summary.json").read_text())
    for changed in ({"overlap": []}, {"overlap": {"best": {"iou": 3, "curve": ["x", 1]}}}, {"judged": "many"}):
        (folder / "summary.json").write_text(json.dumps(summary | changed))
        page = Page(write([folder]))
        assert len(page.tags("script")) == 1 and not page.values("onerror")
        assert HOSTILE[0] in page.text and printed(folder)


def test_the_terminal_lists_the_greatest_means_first(tmp_path: Path) -> None:
    said = printed(make_regions(tmp_path / "run"))
    lines = [line.split()[:5] for line in said.splitlines() if line.strip()[:1].isdigit() and "images" not in line]
    assert lines[0] == ["11", "13", "0.25", "0.7", "0"] and [line[1] for line in lines] == ["13", "11", "4", "2"]
    assert "stands out" in said


@pytest.mark.parametrize("count", [101])
def test_many_prompts_are_cut_and_counted(tmp_path: Path, count: int) -> None:
    assert f"Maps of 100 of {count} prompts are shown." in Page(write([make_regions(tmp_path / "run", count)])).text

"""How much a training has memorized so far: scored snapshots as rows, and what they say about going on."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import UInt8
from torch import Tensor

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.networks.preconditioning import Preconditioned
from mnemoscope.emm.ratio.memorization import Memorization, memorization
from mnemoscope.emm.sampling.drawing import sample_images
from mnemoscope.emm.training.budget import Budget
from mnemoscope.emm.training.options import EmmTrainOptions
from mnemoscope.emm.training.stepping import placed
from mnemoscope.run.emm_rows import EmmTrainRow, Ratios
from mnemoscope.run.reading import Json

SELECTED, CONFIRMED = "selection", "confirmation"


class SnapshotScorer:
    """Draws images from weights and compares them with the training set, without a file between.

    The processes share the images of a snapshot; only the first one compares. `drawn` is called after each batch with
    the number of images that are done.
    """

    def __init__(
        self,
        network: Preconditioned,
        images: Images,
        budget: Budget,
        accelerator: Accelerator,
        drawn: Callable[[int], None],
    ) -> None:
        self.network, self.budget, self.options = placed(network, accelerator.device), budget, budget.options
        self.accelerator, self.drawn = accelerator, drawn
        self.shape = images.pixels.shape[1:]
        self.train = images.rows()

    def score(self, weights: Mapping[str, Tensor], step: int, average: str, part: str) -> EmmTrainRow | None:
        """The row of an average at a step, on the seeds of a part; None on all processes but the first."""
        began = time.perf_counter()
        self.network.load_state_dict(dict(weights))
        seeds = self.seeds(part)
        drawn = self._drawn(seeds)
        if drawn is None:
            return None
        scored = memorization(drawn.reshape(len(drawn), -1), self.train, threshold=self.options.threshold)
        return {
            "id": f"{step:06d} {average} {part}",
            "status": "ok",
            "step": step,
            "images": self.budget.seen(step),
            "epochs": round(self.budget.epochs(step), 6),
            "ema": average,
            "part": part,
            "samples": len(seeds),
            "first_seed": seeds[0],
            **numbers(scored),
            "seconds": round(time.perf_counter() - began, 3),
        }

    def seeds(self, part: str) -> range:
        """The seeds of the images of a part: those that a snapshot is chosen by, or as many others behind them."""
        count = self.options.samples
        first = self.options.sample_seed + (count if part == CONFIRMED else 0)
        return range(first, first + count)

    @property
    def evaluations(self) -> int:
        """Network evaluations that a row takes."""
        return self.options.samples * (2 * self.options.inference_steps - 1)

    def _drawn(self, seeds: range) -> UInt8[np.ndarray, "N C H W"] | None:
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        seeds_here, size = seeds[process::processes], self.options.score_batch
        made = np.empty((len(seeds_here), *self.shape), np.uint8)
        for start in range(0, len(seeds_here), size):
            part = seeds_here[start : start + size]
            made[start : start + size], _ = sample_images(
                self.network,
                part,
                shape=self.shape,
                batch_size=size,
                device=self.accelerator.device,
                num_inference_steps=self.options.inference_steps,
            )
            self.drawn(processes * (start + len(part)))
        if processes == 1:
            return made
        shares = gather_object([made])
        if not self.accelerator.is_main_process:
            return None
        whole = np.empty((len(seeds), *self.shape), np.uint8)
        for place, share in enumerate(shares):
            whole[place::processes] = share
        return whole


def numbers(scored: Memorization) -> Ratios:
    """What a row says of its images."""
    low, high = scored.interval
    apart_low, apart_high = scored.interval_apart
    return {
        "ratio": scored.ratio,
        "ratio_low": low,
        "ratio_high": high,
        "ratio_apart": scored.ratio_apart,
        "ratio_apart_low": apart_low,
        "ratio_apart_high": apart_high,
        "mean_distance": scored.mean_distance,
        "coverage": scored.coverage,
    }


def curve(rows: Sequence[EmmTrainRow], average: str) -> list[EmmTrainRow]:
    """The scored snapshots of an average, in order of the training."""
    chosen = [row for row in rows if row["ema"] == average and row["part"] == SELECTED]
    return sorted(chosen, key=lambda row: row["step"])


def best(rows: Sequence[EmmTrainRow], average: str) -> EmmTrainRow | None:
    """The snapshot of an average with the highest ratio, the first of several; None before there is one."""
    return max(curve(rows, average), key=lambda row: row["ratio"], default=None)


def decided(rows: Sequence[EmmTrainRow], options: EmmTrainOptions) -> str | None:
    """Why a training need not go on after these rows, in a sentence; None if it is to go on.

    Either the 95 % interval of every average's last ratio is at `stop_at` or above it; or for `patience` snapshots no
    average has been above its own best, which is `flat_from` or more.
    """
    curves = [curve(rows, str(average)) for average in options.averages]
    if not all(curves):
        return None
    step = curves[0][-1]["step"]
    if options.stop_at is not None and all(of_average[-1]["ratio_low"] >= options.stop_at for of_average in curves):
        return f"Stopped at step {step}: the ratio is {options.stop_at:g} or more."
    if options.patience is not None and all(
        _is_flat(of_average, options.patience, options.flat_from) for of_average in curves
    ):
        return f"Stopped at step {step}: the ratio has not risen for {options.patience} snapshots."
    return None


def result(rows: Sequence[EmmTrainRow], average: str) -> Json:
    """The ratio of an average at the end and at its best snapshot, the latter also on images that did not choose it."""
    points, top = curve(rows, average), best(rows, average)
    if top is None:
        return {}
    confirmed = next((row for row in rows if row["ema"] == average and row["part"] == CONFIRMED), None)
    ratios = {"ratio_last": points[-1], "ratio_max": top} | ({"ratio_max_corrected": confirmed} if confirmed else {})
    summary: Json = {"step_max": top["step"], "step_last": points[-1]["step"]}
    for name, row in ratios.items():
        summary |= {name: row["ratio"], f"{name}_interval": [row["ratio_low"], row["ratio_high"]]}
        summary |= {name.replace("ratio", "mean_distance"): row["mean_distance"]}
    return summary


def _is_flat(points: Sequence[EmmTrainRow], patience: int, least: int | float) -> bool:
    if len(points) <= patience:
        return False
    before = max(row["ratio"] for row in points[:-patience])
    return before >= least and max(row["ratio"] for row in points[-patience:]) <= before

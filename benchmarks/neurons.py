"""The search for neurons against the plain sequential way, on one thread, in one run: evaluations, seconds, agreement.

    python benchmarks/neurons.py [--prompts 2] [--seeds 10] [--layers seven] [--tests N] [--kind verbatim]

The plain way is NeMo's released procedure at the first timestep: every noise difference puts all seeds through the
network, one set of neurons after the other, and activations go through the network too. The released code evaluates
two timesteps for a difference and throws the first away; `released` counts its forward passes by its own formula,
2S(1 + I + 2 + L + R + 1) + I. Seconds are CPU seconds. The threshold is that of ordinary prompts. `--tests` ends the
plain way after so many tests of single neurons and leaves the rest of its count to the formula, where its whole
refinement would take too long; then its neurons are not compared.
"""

import time
from typing import Any

import torch

import mnemoscope as mn
import timing
from mnemoscope import demo
from mnemoscope.localization import statistics, thresholds
from mnemoscope.localization.differences import Setting
from mnemoscope.localization.selection import candidates, selections
from mnemoscope.methods.located import Located
from mnemoscope.model import ablation, schedule
from mnemoscope.model.likeness import Likeness, stretched
from mnemoscope.model.loading import quiet

Sets = dict[str, list[int]]


class Plain:
    """One prompt, one set of neurons after the other, all seeds every time."""

    def __init__(self, model: mn.Denoiser, prompt: str, setting: Setting, layers: ablation.Layers) -> None:
        self.model, self.prompt, self.layers = model, prompt, layers
        self.x, self.calls = setting.noise(model), 0
        self.t = model.sampler(setting.num_inference_steps, 1.0).timesteps[0]
        self.likeness: Likeness = setting.likeness(model.latent_shape)
        self.names = list(ablation.layers(model, layers))

    @torch.no_grad()
    def difference(self, blocked: Sets) -> torch.Tensor:
        self.calls += 1
        cond = self.model.encode([self.prompt] * len(self.x))  # as the released code does, at every call
        eps = self.model.predict_noise(self.x, self.t, ablation.steer(cond, self.gain(blocked)))
        alpha, sigma = schedule.alpha_sigma(self.model.pipe.scheduler, self.t)
        is_noise = self.model.prediction_type == "epsilon"
        return stretched(eps - self.x if is_noise else (sigma * eps - self.x) / alpha)

    def gain(self, blocked: Sets) -> torch.Tensor:
        return ablation.gain(self.model, [blocked] * len(self.x))

    def run(self, known: statistics.Statistics, limit: float, most: int) -> tuple[Sets, int, int, int]:
        """Neurons that stay, and the numbers of selections, layers and neurons that were tested (or would be)."""
        base = self.difference({})
        pairs = [[float(self.likeness(a[None], b[None])) for b in base] for a in base]
        kept = [i for i, own in enumerate(pairs) if max(v for j, v in enumerate(own) if j != i) > limit]
        if not kept:
            return {}, 0, 0, 0

        def score(blocked: Sets) -> float:
            return float(self.likeness(base[kept], self.difference(blocked)[kept]).max())

        tried, current, reached = 0, {}, 1.0
        widest = max(ablation.widths(self.model, self.layers).values())
        for pair in selections(5, 0.25, 1, 0, widest):
            self.activations()
            values = {n: v[0] for n, v in statistics.activations(self.model, [self.prompt], self.layers).items()}
            current = candidates(values, known.deviations(values), pair)
            tried, reached = tried + 1, score(current)
            if reached <= limit:
                break
        below = limit if reached <= limit else score(current)  # the all-blocked one again
        for n in reversed(self.names):
            if current[n] and score({**current, n: []}) < below:
                current[n] = []
        layers, rest = len(self.names), [(n, i) for n in reversed(self.names) for i in current[n]]
        for n, i in rest[:most]:
            without = {**current, n: [j for j in current[n] if j != i]}
            current = without if score(without) < below else current
        score(current)
        return ablation.lists(current), tried, layers, len(rest)

    @torch.no_grad()
    def activations(self) -> None:
        self.model.predict(self.x[:1], self.t, self.model.encode([self.prompt]))


def timed(model: mn.Denoiser, work) -> tuple:
    began, before = time.process_time(), model.network_evaluations
    found = work()
    return found, model.network_evaluations - before, time.process_time() - began


def overlap(one: Sets, other: Sets) -> float:
    """Share of the neurons of either set that are in both."""
    a, b = ({(n, i) for n, own in each.items() for i in own} for each in (one, other))
    return len(a & b) / max(1, len(a | b))


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--layers", default="seven", choices=["seven", "all"])
    parser.add_argument("--kind", default="verbatim", choices=["verbatim", "template"])
    parser.add_argument("--tests", type=int, default=10**9)
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--ordinary", type=int, default=240, help="prompts of the statistics")
    given = timing.parsed(parser, prompts=1, seeds=2, tests=1, threshold=0.9, ordinary=4)
    results = timing.Results(given.rows)
    torch.set_num_threads(1)
    quiet()
    model, setting = mn.Denoiser.from_pretrained("demo", device="cpu"), Setting(seeds=given.seeds)
    ordinary = demo.prompts("ordinary")[: given.ordinary]
    known = statistics.measure(model, ordinary, given.layers)
    limit = given.threshold
    if limit is None:
        similarities = [
            own for k in range(0, 32, 4) for own in thresholds.pairwise(model, ordinary[k : k + 4], setting)
        ]
        limit = thresholds.calibrated(similarities, {})["threshold"]
    results.say(f"Threshold {limit:.4f}.")
    for prompt in demo.prompts(given.kind)[: given.prompts]:
        compare(model, prompt, setting, known, limit, given, results)


def compare(
    model: mn.Denoiser, prompt: str, setting: Setting, known: Any, limit: float, given: Any, results: timing.Results
) -> None:
    plain = Plain(model, prompt, setting, given.layers)
    (refined, tried, layers, tested), spent, seconds = timed(model, lambda: plain.run(known, limit, given.tests))
    left = max(0, tested - given.tests)
    spent, seconds = spent + left * given.seeds, seconds * (spent + left * given.seeds) / spent
    released = 2 * given.seeds * (1 + tried + 2 + layers + tested + 1) + tried
    what = f"neurons, {given.layers} layers, {given.seeds} seeds, {prompt[:30]}"
    rows = [timing.Row(what, "plain", "a prompt", seconds, None, spent, 1.0)]
    sets: dict[str, Located] = {}
    ways = {"exact": {}, "exact, gradient's order": {"order": "gradient"}, "grouped": {"search": "grouped"}}
    for name, options in ways.items():
        asked = {"statistics": known, "threshold": limit, "seeds": given.seeds, "layers": given.layers, **options}
        ((found,), evaluations, took) = timed(model, lambda asked=asked: mn.localize(model, prompt, **asked))
        sets[name] = found
        rows.append(timing.Row(what, name, "a prompt", took, None, evaluations, seconds / took))
    results.rows(rows)
    about = f"; plain goes by the formula after {given.tests:,} tests of {tested:,}" if left else ""
    results.say(f"The released code takes {released:,} evaluations by its formula{about}.")
    for name, found in sets.items():
        corrected = found.details.get("corrected", "-")
        results.say(f"{name}: {found.count} neurons, similarity {found.after or 0:.4f}, corrected {corrected}.")
    if not left:
        results.say(f"exact keeps the plain way's neurons: {sets['exact'].neurons == refined}.")
    shared = [overlap(sets["grouped"].neurons, sets[n].neurons) for n in ("exact", "exact, gradient's order")]
    results.say(f"grouped shares {shared[0]:.0%} of its neurons with exact, {shared[1]:.0%} in the gradient's order.")


if __name__ == "__main__":
    main()

"""What a training would do, in lines, without doing it."""

from collections.abc import Iterator

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.networks import NetworkOptions
from mnemoscope.emm.networks.building import build
from mnemoscope.emm.training.budget import Budget
from mnemoscope.emm.training.options import EmmTrainOptions


def plan(images: Images, network: NetworkOptions, options: EmmTrainOptions) -> Iterator[str]:
    """The set, the network, the budget and the network evaluations; raises `UsageError` for what cannot be."""
    budget, (channels, height, width) = Budget(options, len(images)), images.pixels.shape[1:]
    labels = f"{images.num_classes} classes" if images.num_classes else "no labels"
    yield f"Set: {len(images)} images of {channels} x {height} x {width}, {labels}."
    made = build(network, channels=channels, resolution=height, num_classes=images.num_classes)
    weights = sum(parameter.numel() for parameter in made.parameters())
    yield f"Network: {network.architecture}, {weights:,} weights, {network.preconditioning}."
    steps = budget.steps
    yield f"Training: {steps:,} steps of {options.batch_size} images, {budget.epochs(steps):,.1f} epochs."
    averages = ", ".join(map(str, options.averages))
    yield f"Snapshots: after step {', '.join(map(str, budget.snapshots))}; averages {averages}."
    scores = (len(budget.snapshots) + 1) * len(options.averages) if options.samples else 0
    drawn = scores * options.samples * (2 * options.inference_steps - 1)
    yield f"Network evaluations: {budget.seen(steps):,} of images in training, {drawn:,} in at most {scores} scores."

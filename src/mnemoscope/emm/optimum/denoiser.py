"""The best possible denoiser of a training set, in closed form: the mean of its images given a noisy one."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.optimum.certified import decide, falling, heights, screen
from mnemoscope.emm.optimum.stored import Places, Stored
from mnemoscope.errors import UsageError

PRECISION = 2e-13  # of logits and sums: what their digits may leave out


class OptimalDenoiser:
    """D(x; sigma) = sum_n w_n y_n with w = softmax_n(-|x - y_n|^2 / (2 sigma^2)), over the training images y_n.

    It is what a network of any size learns that minimizes the loss of denoising, at every noise level, and its samples
    are training images. With labels the sum is over the images of a label, which `Images.unlabelled` puts
    aside. `weights` are prior weights of the images, equal ones if None. Results are those of float64 throughout,
    about 1e-12 apart, whatever `block`, the number of images read at a time; memory does not grow with their number
    when they are memory-mapped. Where only a few images have any weight, as proved from bounds on all others, they
    alone are looked at. Raises `UsageError` for no images and for weights that are not positive. Gu et al.,
    arXiv:2310.02664, equation 3; Karras et al. 2022, appendix B.3.
    """

    sigma_min = 0.0
    sigma_max = math.inf

    def __init__(
        self,
        images: Images,
        *,
        weights: Float[np.ndarray, " N"] | None = None,
        block: int | None = None,
        device: str | torch.device = "cpu",
        integers: bool | None = None,
    ) -> None:
        _check(images, weights, block)
        rows = images.pixels.reshape(len(images), -1)
        self.stored = Stored(rows, block=block, device=torch.device(device), integers=integers)
        self.shape, self.labels, self.num_classes = images.pixels.shape[1:], images.labels, images.num_classes
        self.evaluations = self.certified = 0  # noisy images seen, and those of which few training images decided
        self.log_weights = None
        if weights is not None:
            self.log_weights = torch.from_numpy(np.log(weights)).double().to(self.stored.device)

    def __call__(
        self, x: Float[Tensor, "B C H W"], sigma: Tensor | int | float, labels: Int[Tensor, " B"] | None = None
    ) -> Float64[Tensor, "B C H W"]:
        """The mean of the training images given x = y + sigma noise, in [-1, 1]; the nearest of them at sigma 0.

        Raises `UsageError` for a label without images, labels where there are none, and a negative sigma.
        """
        return self.settle(x, sigma, labels)[0]

    def settle(
        self, x: Float[Tensor, "B C H W"], sigma: Tensor | int | float, labels: Int[Tensor, " B"] | None = None
    ) -> tuple[Float64[Tensor, "B C H W"], Bool[Tensor, " B"]]:
        """The same, and of which x a single training image holds all the weight, up to exp(-40).

        A deterministic sampler that moves straight toward such an image ends at it: a share s of the way from it the
        squared distance of any other image is larger by at least s times what it is now, and sigma^2 is s^2 of it.
        """
        level = float(sigma)
        if not 0 <= level < math.inf:
            raise UsageError(f"sigma was {level}; give a noise level from 0.")
        noisy = self.stored.levels(x.double().reshape(len(x), -1))
        means, alone = torch.empty_like(noisy), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for rows, places in self._groups(labels, len(x)):
            means[rows], alone[rows] = self._posterior(noisy[rows], (127.5 * level) ** 2, places)
        self.evaluations += len(x)
        return self.stored.images(means).view(x.shape), alone

    def of_noise(
        self,
        z: Float[Tensor, "B C H W"],
        alpha: int | float,
        sigma: int | float,
        labels: Int[Tensor, " B"] | None = None,
    ) -> Float64[Tensor, "B C H W"]:
        """The mean of the training images given z = alpha y + sigma noise, as the VP and any other process has it."""
        return self(z.double() / alpha, sigma / alpha, labels)

    def round_sigma(self, sigma: Tensor) -> Tensor:
        """The noise level itself: every one is known."""
        return sigma

    def _posterior(self, x: Float64[Tensor, "B P"], variance: float, places: Places) -> tuple[Tensor, Tensor]:
        alone = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        means = torch.empty_like(x)
        candidates = screen(self.stored, x, variance, self.log_weights, places)
        self.certified += len(candidates.rows)
        means[candidates.rows], alone[candidates.rows] = decide(self.stored, x, variance, self.log_weights, candidates)
        others = torch.ones_like(alone)
        others[candidates.rows] = False
        if bool(others.any()):
            means[others] = self._all(x[others], variance, places)
        return means, alone

    def _all(self, x: Float64[Tensor, "B P"], variance: float, places: Places) -> Float64[Tensor, "B P"]:
        """The mean over all images, block by block: the best logit so far, the weights' sum, their sum of images."""
        products, precision = self.stored.products, PRECISION * math.sqrt(x.shape[1])
        query = products.prepare(x, x.new_tensor(precision * variance / self.stored.longest))
        top, sums, means = x.new_full((len(x),), -math.inf), x.new_zeros(len(x)), torch.zeros_like(x)
        for at, images in self.stored.blocks(places):
            block = products.load(images, query)
            height = heights(self.stored, products.inner(query, block), at, variance, self.log_weights)
            higher = torch.maximum(top, height.amax(dim=1))
            kept = falling(higher - top, variance)
            weights = falling(higher[:, None] - height, variance)
            sums = sums * kept + weights.sum(dim=1)
            means = means * kept[:, None] + products.mix(weights, block, PRECISION * sums)
            top = higher
        return means / sums[:, None]

    def _groups(self, labels: Tensor | None, count: int) -> Iterator[tuple[Tensor, Places]]:
        """The rows of each label, and the places of its training images; all rows and images without labels."""
        device = self.stored.device
        if self.labels is None:
            if labels is not None:
                raise UsageError("Labels were given, but the training images have none; leave them out.")
            yield torch.arange(count, device=device), None
            return
        if labels is None:
            raise UsageError("The training images have labels; give one for each image, or take the labels off first.")
        for label in labels.unique().tolist():
            places = np.flatnonzero(self.labels == label)
            if not len(places):
                raise UsageError(f"No training image has label {label}; ask for a label that has images.")
            yield (labels == label).nonzero()[:, 0], places


def _check(images: Images, weights: np.ndarray | None, block: int | None) -> None:
    if not len(images):
        raise UsageError("There are no training images; give at least one.")
    if block is not None and block < 1:
        raise UsageError(f"block was {block}; at least 1 is needed.")
    if weights is not None and not (len(weights) == len(images) and np.isfinite(weights).all() and (weights > 0).all()):
        raise UsageError("The weights are not one positive number for each training image; leave out images instead.")

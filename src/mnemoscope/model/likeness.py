"""How alike two noise differences are: MS-SSIM, with as many scales and as large a kernel as the latents allow."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json

KERNEL, SIGMA, SCALES, WEIGHT = 11, 1.5, 3, 0.33


def stretched(difference: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """A difference scaled to 0..1 per image and channel, on the CPU and in float32; 0 where it is constant."""
    difference = difference.float().cpu()
    low, high = difference.amin((2, 3), keepdim=True), difference.amax((2, 3), keepdim=True)
    return (difference - low) / (high - low).where(high > low, 1)


@dataclass(frozen=True)
class Likeness:
    """MS-SSIM of pairs of images in 0..1, its scales weighted 0.33 each and negative terms clipped at zero.

    A `data_range` of None takes each scale's own from all pairs that are compared in one call, as NeMo's code does.
    Values compare only at one number of scales and one kernel.
    """

    scales: int = SCALES
    kernel: int = KERNEL
    data_range: float | None = 1.0

    @classmethod
    def fitting(
        cls, size: Sequence[int], scales: int | None = None, data_range: float | None = 1.0, user: str = "MS-SSIM"
    ) -> "Likeness":
        """The likeness for images of a height and width; raises `UsageError` for more scales than they allow."""
        side = min(size)
        kernel = KERNEL if side >= KERNEL else max(3, side // 4 * 2 + 1)
        last = [
            side // max(2 ** (m - 1), (m - 1) ** 2) for m in range(1, SCALES + 1)
        ]  # the latter is torchmetrics' own
        possible = [m for m, left in enumerate(last, 1) if left >= kernel]
        if not possible:
            raise UsageError(f"{user} needs latents of 4 pixels a side or more; these have {side}.")
        possible = possible if kernel == KERNEL else possible[:1]
        if scales and scales > possible[-1]:
            raise UsageError(f"{user} was asked for {scales} scales, and these latents allow {possible[-1]}.")
        return cls(scales or possible[-1], kernel, data_range)

    @property
    def coupled(self) -> bool:
        """Whether a pair's value depends on the other pairs of its call."""
        return self.data_range is None

    def __call__(self, a: Float[Tensor, "N C h w"], b: Float[Tensor, "N C h w"]) -> Float[Tensor, " N"]:
        values = ms_ssim(
            a,
            b,
            sigma=SIGMA * self.kernel / KERNEL,  # of which torchmetrics makes a kernel of this size
            kernel_size=self.kernel,
            betas=(WEIGHT,) * self.scales,
            data_range=self.data_range,
            normalize="relu",
            reduction="none",
        )
        return values.reshape(-1)

    def about(self) -> Json:
        """What values compare at, in plain types."""
        return {"scales": self.scales, "kernel": self.kernel, "data_range": self.data_range}

    def __str__(self) -> str:
        reduced = "" if (self.scales, self.kernel) == (SCALES, KERNEL) else " (reduced, as the latents are small)"
        return f"MS-SSIM of {self.scales} scale{'s' * (self.scales > 1)}, kernel {self.kernel}{reduced}"

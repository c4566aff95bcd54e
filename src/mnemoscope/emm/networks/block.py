"""The residual block of both families, and its attention."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.emm.networks.layers import Conv, Linear, Norm, Resample, Resampler
from mnemoscope.emm.networks.options import Style
from mnemoscope.errors import UsageError

NEARLY_ZERO = 1e-5
QUERY_GAIN = 0.2**0.5


def heads(channels: int, style: Style) -> int:
    """Attention heads of so many channels: one, or one for each 64 in adm, whose narrower blocks do not attend."""
    return 1 if style.head_channels is None else channels // style.head_channels


class Attention(nn.Module):
    """Each place of an image sees all others; queries, keys and values are the three thirds of one 1x1 convolution."""

    def __init__(self, channels: int, style: Style) -> None:
        super().__init__()
        self.heads, self.scale = heads(channels, style), style.scale
        if channels % self.heads:
            raise UsageError(f"{channels} channels do not split into {self.heads} attention heads; use another width.")
        self.norm = Norm(channels, style.epsilon)
        self.qkv = Conv(channels, 3 * channels, 1, gain=QUERY_GAIN)
        self.out = Conv(channels, channels, 1, gain=NEARLY_ZERO)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        q, k, v = self.qkv(self.norm(x)).unflatten(1, (3, self.heads, -1)).flatten(-2).transpose(-1, -2).unbind(1)
        seen = F.scaled_dot_product_attention(q, k, v)
        return self.out(seen.transpose(-1, -2).reshape(x.shape)).add_(x).mul_(self.scale)


class Block(nn.Module):
    """Norm, SiLU and convolution twice, the conditioning vector between them, and the input added at the end.

    The conditioning is added (Song et al. 2021), or scales and shifts the second norm (Dhariwal and Nichol 2021). A
    block that resamples does so before its first convolution, and resamples what it adds in the same way.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        conditioning: int,
        style: Style,
        *,
        dropout: float | int = 0,
        attention: bool = False,
        resample: Resample | None = None,
    ) -> None:
        super().__init__()
        self.scale, self.dropout, self.scale_shift = style.scale, dropout, style.scale_shift
        self.resample = Resampler(resample, style.taps) if resample else None
        self.norm0, self.conv0 = Norm(c_in, style.epsilon), Conv(c_in, c_out, 3)
        self.affine = Linear(conditioning, c_out * (2 if style.scale_shift else 1))
        self.norm1, self.conv1 = Norm(c_out, style.epsilon), Conv(c_out, c_out, 3, gain=NEARLY_ZERO)
        projected = c_in != c_out or (resample is not None and style.project_resampled)
        self.skip = Conv(c_in, c_out, 1) if projected else None
        self.attention = Attention(c_out, style) if attention and heads(c_out, style) else None

    def forward(self, x: Float[Tensor, "B C h w"], vector: Float[Tensor, "B E"]) -> Float[Tensor, "B K H W"]:
        h = F.silu(self.norm0(x))
        if self.resample is not None:
            h = self.resample(h)
        h = self._conditioned(self.conv0(h), self.affine(vector)[:, :, None, None])
        if self.dropout:
            h = F.dropout(h, self.dropout, self.training)
        x = self.conv1(h).add_(self._kept(x)).mul_(self.scale)
        return x if self.attention is None else self.attention(x)

    def _kept(self, x: Tensor) -> Tensor:
        """The input as it is added at the end; a 1x1 convolution comes before pixels repeat: it has less to do."""
        if self.resample is None:
            return x if self.skip is None else self.skip(x)
        if self.skip is not None and self.resample.repeats:
            return self.resample(self.skip(x))
        return self.resample(x) if self.skip is None else self.skip(self.resample(x))

    def _conditioned(self, h: Tensor, vector: Tensor) -> Tensor:
        if not self.scale_shift:
            return F.silu(self.norm1(h.add_(vector)))
        scale, shift = vector.chunk(2, dim=1)
        return F.silu(torch.addcmul(shift, self.norm1(h), scale + 1))

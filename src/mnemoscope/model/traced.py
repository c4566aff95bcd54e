"""Families that are known by a row: the user's own pipeline says what its network is given, in a dry run of it."""

import inspect
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond, concatenate, rows
from mnemoscope.model.dry import Recorded, dry_run
from mnemoscope.model.families import Family
from mnemoscope.model.rows import ROWS, Row
from mnemoscope.model.solvers import copied
from mnemoscope.model.spans import Token, tokens_of

NESTED = "added_cond_kwargs"
LENGTHS = "text_lengths"  # [B], how many positions of a padded text are there
KEPT = 256  # prompts whose encodings are kept


class Traced(Family):
    """A text-to-image pipeline whose class has a row in `mnemoscope.model.rows`.

    What its network is given is recorded in dry runs, one prompt at a time, so that no prompt's conditioning depends on
    another's; each prompt is encoded once and kept. `call` are further arguments of the pipeline's own call, such as
    `max_sequence_length`, `height` and `width`. `evaluations` counts the network's evaluations in dry runs.
    """

    has_ends = False

    def __init__(self, pipe: DiffusionPipeline, call: Mapping[str, Any] | None = None) -> None:
        super().__init__(pipe)
        self.row: Row = ROWS[type(pipe).__name__]
        self.name, self.texts, self.pooled = self.row.name, self.row.texts, self.row.pooled
        self.null_first = self.row.calls == "null first"
        self.joined = self.branches and self.row.calls != "apart"
        self.call, self.evaluations = {**self.row.call, **(call or {})}, 0
        self._kept: OrderedDict[Any, Any] = OrderedDict()
        self._shared: dict[Any, dict[str, Any]] = {}
        self._solvers: dict[Any, Any] = {}

    @staticmethod
    def matches(pipe: DiffusionPipeline) -> bool:
        return type(pipe).__name__ in ROWS

    @property
    def network(self) -> Any:
        return getattr(self.pipe, self.row.network)

    def draw_at(self, size: tuple[int, int] | None) -> None:
        """Draw images of this height and width in pixels, or of the model's own; `UsageError` where that cannot be."""
        if size is None:
            return
        if any(side % self.pixels for side in size):
            given = "x".join(map(str, size))
            raise UsageError(f"The size {given} cannot be drawn: give multiples of {self.pixels} pixels.")
        self.call |= {"height": size[0], "width": size[1]}
        self.__dict__.pop("latent_shape", None)

    @property
    def pixels(self) -> int:
        return self.row.pixels(self.pipe)

    @property
    def unguided(self) -> str | None:
        return None  # where sampling uses no second branch, the empty prompt under the same guidance still is one

    @property
    def distilled(self) -> str | None:
        return None if self.branches else "its guidance is distilled into the network"

    @property
    def branches(self) -> bool:
        """Whether the pipeline's sampling has a second branch at all."""
        return self.row.calls != "one" and not self.row.distilled(self.pipe)

    def guides(self, guidance_scale: float) -> bool:
        return self.branches and guidance_scale > self.row.off

    def combine(self, cond: Tensor, uncond: Tensor, guidance_scale: float) -> Tensor:
        return self.row.combine(self.row, cond, uncond, guidance_scale)

    @property
    def state_dtype(self) -> torch.dtype:
        return torch.float32 if self.row.float_state else self.network.dtype

    @property
    def default_guidance(self) -> float:
        return float(self._parameter(self.row.scale))

    def _parameter(self, name: str) -> Any:
        return self.call.get(name, inspect.signature(self.pipe.__call__).parameters[name].default)

    @cached_property
    def latent_shape(self) -> tuple[int, int, int]:
        arguments = self._dry("").arguments
        return self.row.packing.shape(arguments[self.row.x], arguments)

    def _dry(
        self, prompt: str, *, guided: bool = False, steps: int = 2, shape: Sequence[int] | None = None, number: int = 1
    ) -> Recorded:
        row, call = self.row, {**self.call, "num_inference_steps": steps}
        if shape is not None:
            call["height"], call["width"] = (side * row.pixels(self.pipe) for side in shape[-2:])
        if row.calls != "one":
            usual = self.default_guidance
            call[row.scale] = (usual if usual > row.off else row.off + 1) if guided else row.off
        negative = self.negative_prompt if self.negative_prompt is not None else row.null_prompt
        if guided and negative is not None:
            call["negative_prompt"] = [negative]
        return dry_run(self.pipe, self.network, [prompt], call, number=number)

    def solver(self, steps: int, shape: Sequence[int]) -> Any:
        """The pipeline's solver with its timesteps set for so many steps at this size, as the pipeline sets them."""
        scheduler = self.pipe.scheduler
        key = (steps, *shape[-2:], type(scheduler).__name__, json.dumps(dict(scheduler.config), default=str))
        if key not in self._solvers:
            self._solvers[key] = self._dry("", steps=steps, shape=shape).solver
        return copied(self._solvers[key])

    def encode(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        return concatenate(*(self._encoded(prompt, shape) for prompt in prompts))

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        return rows(self._null(shape), torch.zeros(count, dtype=torch.long))

    def _encoded(self, prompt: str, shape: Sequence[int]) -> Cond:
        return self._recorded(prompt, shape)[0]

    def _recorded(self, prompt: str, shape: Sequence[int]) -> tuple[Cond, dict[str, list[int]]]:
        """Conditioning of a prompt, and the ids that each text encoder was given for it."""

        def make() -> tuple[Cond, dict[str, list[int]]]:
            found = self._dry(prompt, shape=shape)
            return self._conditioning(found.arguments, 0), {k: v[0][0].tolist() for k, v in found.ids.items()}

        return self._keep(("cond", prompt, *shape[-2:], self._state()), make)

    def spans(self, prompts: Sequence[str]) -> list[list[Token]]:
        """Tokens of each prompt by all encoders whose embeddings have a position for each; first by their characters.

        Positions count through all texts, then through the pooled vectors.
        """
        return [sorted(self._tokens(prompt), key=lambda token: (token.start, token.place)) for prompt in prompts]

    def _tokens(self, prompt: str) -> list[Token]:
        (cond, ids), (_, empty) = (self._recorded(text, self.latent_shape) for text in (prompt, ""))
        lengths = [cond[name].shape[1] for name in self.texts]
        found = []
        for encoded in self.row.encoded:
            if encoded.encoder in ids:
                which = self.texts.index(encoded.text)
                given = (ids[encoded.encoder], empty[encoded.encoder], encoded, self.pipe)
                found += tokens_of(prompt, *given, lengths[which], sum(lengths[:which]))
        return found

    def tokens(self, prompts: Sequence[str]) -> list[list[str]]:
        """Texts of each prompt's own tokens at their positions, then the names of the pooled vectors; "" elsewhere."""
        cond = self._encoded("", self.latent_shape)
        blank = [""] * sum(cond[name].shape[1] for name in self.texts) + [n for n in self.pooled if n in cond]
        rows = [list(blank) for _ in prompts]
        for row, own in zip(rows, self.spans(prompts), strict=True):
            for token in own:
                row[token.place] = token.text
        return rows

    def ends(self, prompts: Sequence[str]) -> list[int]:
        raise UsageError(f"The text of a {self.name} model has no single end token, which this method needs.")

    def _null(self, shape: Sequence[int]) -> Cond:
        """Conditioning of the pipeline's own second branch; of the empty prompt where it has none."""
        if not self.branches:
            return self._encoded(self.negative_prompt or "", shape)

        def make() -> Cond:
            apart = self.row.calls == "apart"
            self.evaluations += apart  # the first call is carried out to come to the second
            found = self._dry("", guided=True, shape=shape, number=2 if apart else 1).arguments
            return self._conditioning(found, int(self.row.calls == "cond first"))

        return self._keep(("null", self.negative_prompt, *shape[-2:], self._state()), make)

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _state(self) -> int:
        """Changes with the text encoders' weights, so that no encoding outlives them."""
        encoders = (v for k, v in self.pipe.components.items() if k.startswith("text_encoder"))
        return sum(1 + p._version for e in encoders if isinstance(e, nn.Module) for p in e.parameters())

    def _conditioning(self, arguments: Mapping[str, Any], index: int) -> Cond:
        """One sample's rows of a call of the network."""
        row = self.row
        flat = {**arguments, **(arguments.get(NESTED) or {})}
        given = [n for n in (*row.texts, *row.pooled, *row.samples) if flat.get(n) is not None]
        found = {n: flat[n][index][None].detach().to(self.network.device) for n in given}
        if row.ragged:
            (name,) = row.texts
            text = found[name]
            room = self._parameter("max_sequence_length") - text.shape[1]
            found[LENGTHS] = torch.tensor([text.shape[1]], device=text.device)
            found[name] = nn.functional.pad(text, (0, 0, 0, room))
        return found

    def shared(self, shape: Sequence[int]) -> dict[str, Any]:
        """Arguments of the network that all samples of a size share."""
        key = tuple(shape[-2:])
        if key not in self._shared:
            row, found = self.row, self._dry("", shape=shape).arguments
            own = {*row.texts, *row.pooled, *row.samples, row.x, row.t, "return_dict"}
            self._shared[key] = {k: v for k, v in found.items() if k not in own}
        return self._shared[key]

    def guided(self, cond: Cond, guidance_scale: float) -> Cond:
        if "guidance" not in cond:
            return cond
        return {**cond, "guidance": torch.full_like(cond["guidance"], guidance_scale)}

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        if self.row.ragged == "groups":
            return self._predict_groups(x_t, t, cond)
        return self._predict(x_t, t, self._cut(cond))

    def _predict_groups(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """A call for each length of text: this network sees the padding, so that lengths must not mix."""
        times, lengths = t.to(x_t.device).expand(len(x_t)), cond[LENGTHS]
        groups = [(lengths == n).nonzero()[:, 0] for n in lengths.unique()]
        if len(groups) == 1:
            return self._predict(x_t, t, self._cut(cond))
        parts = [self._predict(x_t[g], times[g], self._cut(rows(cond, g))) for g in groups]
        return torch.cat(parts)[torch.cat(groups).argsort()]

    def _cut(self, cond: Cond) -> dict[str, Any]:
        """What the network takes of a batch: padded texts cut to the longest, or to each one's own length."""
        given: dict[str, Any] = dict(cond)
        if not self.row.ragged:
            return given
        (name,), lengths = self.row.texts, given.pop(LENGTHS)
        most = int(lengths.max())
        if self.row.ragged == "list":
            given[name] = [text[:n] for text, n in zip(given[name], lengths.tolist(), strict=True)]
            return given
        given[name] = given[name][:, :most]
        if self.row.ragged == "mask" and bool((lengths < most).any()):
            given[f"{name}_mask"] = torch.arange(most, device=lengths.device) < lengths[:, None]
        return given

    def _predict(self, x_t: Tensor, t: Tensor, cond: dict[str, Any]) -> Float[Tensor, "B C h w"]:
        row, network = self.row, self.network
        given = dict(self.shared(x_t.shape))
        if nested := given.get(NESTED):
            given[NESTED] = {**nested, **{k: cond.pop(k) for k in nested if k in cond}}
        given |= {name: list(given[name]) * len(x_t) for name in row.repeated} | cond
        times = row.time(t.to(x_t.device).expand(len(x_t)), x_t.dtype, self.pipe)
        given |= {row.x: row.packing.pack(x_t.to(network.dtype)), row.t: times, "return_dict": False}
        output = row.packing.unpack(network(**given)[0], x_t.shape)
        output = output[:, : x_t.shape[1]]  # a learnt variance beside it is not the solver's
        output = output.float() if row.floats else output
        return -output if row.sign < 0 else output

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        return self.row.decode(self.pipe, latents)

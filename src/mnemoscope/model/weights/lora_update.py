"""The update of one layer in a LoRA file, and what it adds to the weight."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

MAGNITUDES = ("dora_scale", "magnitude")  # of DoRA, as LyCORIS writes them and as PEFT does


@dataclass
class Update:
    """The tensors that change one layer, by their role, and the keys that they have in the file."""

    stem: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """lora, loha, lokr, diff, or the name of one that is not read."""
        roles = set(self.tensors) - {"alpha", *MAGNITUDES}
        if roles in ({"down", "up"}, {"down", "up", "mid"}):
            return "lora"
        if roles == {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}:
            return "loha"
        if {r[:7] for r in roles} == {"lokr_w1", "lokr_w2"}:
            return "lokr"
        if roles and roles <= {"diff", "diff_b"}:
            return "diff"
        return f"incomplete ({', '.join(sorted(roles or self.tensors))} alone)"

    def key(self, role: str) -> str:
        """The key that the tensor of a role has in the file."""
        return dict(zip(self.tensors, self.keys, strict=True))[role]

    @property
    def rank(self) -> int | None:
        """The rank of a low-rank update, where it has one."""
        named = {"lora": "down", "loha": "hada_w1_b", "lokr": "lokr_w2_b"}.get(self.kind, "")
        if self.kind == "lokr" and named not in self.tensors:
            named = "lokr_w1_b"
        return len(self.tensors[named]) if named in self.tensors else None

    def added(self, weight: Float[Tensor, "O ..."], delta: Float[Tensor, "..."]) -> Float[Tensor, "O ..."]:
        """What is added to a weight in float32: the delta, or of DoRA m (W + delta) / ||W + delta|| - W.

        The norm is over all but the axis that the magnitudes m are of: a layer's outputs, or, as LyCORIS may have it,
        its inputs (arXiv:2402.09353).
        """
        name = next((each for each in MAGNITUDES if each in self.tensors), None)
        if name is None:
            return delta.reshape(weight.shape)
        whole = weight.float()
        moved, magnitude = whole + delta.reshape(weight.shape).to(whole.device), self.tensors[name].float()
        axis = int(name == "dora_scale" and magnitude.shape[0] != len(weight))
        norm = moved.transpose(0, axis).flatten(1).norm(dim=1)
        shape = [-1 if k == axis else 1 for k in range(weight.dim())]
        return moved * (magnitude.flatten().to(norm) / norm).reshape(shape) - whole

    def parts(self, sizes: Sequence[int]) -> "list[Update] | None":
        """The updates of layers of these sizes whose outputs are joined in this one; None where they cannot be told."""
        joined = {"up", "magnitude", "dora_scale", "diff", "diff_b"} & set(self.tensors)
        if self.kind not in ("lora", "diff") or any(len(self.tensors[k]) != sum(sizes) for k in joined):
            return None
        split = {k: self.tensors[k].split(list(sizes)) for k in joined}
        return [
            Update(self.stem, {k: split[k][n] if k in split else v for k, v in self.tensors.items()}, self.keys)
            for n in range(len(sizes))
        ]

    def multiplied(self, scaling: float) -> "Update":
        """Of LoHa and LoKr the whole matrix that their factors make, which alone can be taken apart; else itself."""
        if self.kind not in ("loha", "lokr"):
            return self
        kept = {k: v for k, v in self.tensors.items() if k in MAGNITUDES}
        return Update(self.stem, {"diff": self.delta(scaling), **kept}, self.keys)

    def delta(self, scaling: float) -> Float[Tensor, "..."]:
        """What is added to the layer's weight, out x in, in float32: scaling times the product of the factors."""
        t = {role: value.float() for role, value in self.tensors.items()}
        if self.kind == "diff":
            return t["diff"] if "diff" in t else torch.zeros(())
        if self.kind == "loha":
            return scaling * (t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"])
        if self.kind == "lokr":
            one, other = (t.get(f"lokr_w{k}") for k in (1, 2))
            one = t["lokr_w1_a"] @ t["lokr_w1_b"] if one is None else one
            other = (t["lokr_w2_a"] @ t["lokr_w2_b"].flatten(1)) if other is None else other
            return scaling * torch.kron(one, other.flatten(1))
        down, up = t["down"], t["up"].flatten(1)
        if "mid" in t:
            return scaling * torch.einsum("or,rshw,si->oihw", up, t["mid"], down.flatten(1))
        return scaling * (up @ down.flatten(1))

"""Trained networks by what a command is given: a run of `emm train`, or a file of weights."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from mnemoscope.emm.networks.options import Kind
from mnemoscope.errors import UsageError

if TYPE_CHECKING:
    from mnemoscope.emm.networks.preconditioning import Preconditioned

SUFFIX = ".safetensors"


def _of(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text, "panel": "Network"})


@dataclass(frozen=True)
class Weights:
    """Which weights a source is read for: of a training an average, of a file what network they belong to."""

    ema: str | None = _of(None, "Average of the weights to draw from; the training's first if none.")
    preconditioning: str | None = _of(None, "Of a file of weights under EDM's own names: vp, ve, edm or iddpm.")
    network_config: str | None = _of(None, "JSON description of a file of weights; the .json beside it if none.")

    def __post_init__(self) -> None:
        if self.preconditioning is not None and self.preconditioning not in get_args(Kind):
            known = ", ".join(get_args(Kind))
            raise UsageError(f"--preconditioning {self.preconditioning} is not known; give one of {known}.")


def is_training(source: str) -> bool:
    """Whether a source is a run of `emm train`."""
    from mnemoscope.run.run import read_json

    run = Path(source) / "run.json"
    return run.is_file() and read_json(run).get("command") == "emm-train"


def is_network(source: str) -> bool:
    """Whether a source is a network that images can be drawn from: a training or a file of weights."""
    return source.endswith(SUFFIX) or is_training(source)


def network_of(source: str, weights: Weights, snapshot: str | int = "last") -> "Preconditioned":
    """The network of a source on the CPU, ready to sample from.

    `snapshot` of a training is the last, the best, or a step. Raises `UsageError` for a source that is neither a
    training nor a file of weights, and for options that are the other one's.
    """
    from mnemoscope.emm.networks.files import read_edm
    from mnemoscope.emm.training.snapshots import read_network

    if source.endswith(SUFFIX):
        if weights.ema is not None or snapshot != "last":
            raise UsageError(f"{source} is a file of weights, which has no snapshots and averages; leave them out.")
        beside = Path(source).with_suffix(".json")
        config = beside if weights.network_config is None and beside.is_file() else weights.network_config
        return read_edm(Path(source), config and Path(config), preconditioning=weights.preconditioning)  # type: ignore[arg-type]
    if not is_training(source):
        raise UsageError(f"{source} is neither a run of emm train nor a {SUFFIX} file; give one of these.")
    if weights.preconditioning is not None or weights.network_config is not None:
        raise UsageError(f"{source} is a training, which knows its network; leave --preconditioning and its like out.")
    return read_network(source, snapshot=step_of(snapshot), ema=weights.ema)


def step_of(snapshot: str | int) -> int | Literal["last", "best"]:
    """A snapshot from its text; raises `UsageError` for what is none."""
    if snapshot == "last" or snapshot == "best":
        return snapshot  # type: ignore[return-value]
    if isinstance(snapshot, int) or snapshot.isdecimal():
        return int(snapshot)
    raise UsageError(f"--snapshot {snapshot} is none; give last, best, or the step of one.")


def fingerprint(network: "Preconditioned") -> str:
    """What a network's weights are known again by."""
    digest = hashlib.sha256(f"{network.kind} {network.num_classes}".encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

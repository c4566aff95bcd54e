"""Snapshots of a training: every average of the weights at one moment in one file, and networks read from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mnemoscope.emm.networks import NetworkOptions, build
from mnemoscope.emm.networks.options import VERSIONS, require_current
from mnemoscope.emm.networks.preconditioning import Preconditioned
from mnemoscope.emm.training.average import Average
from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_json
from mnemoscope.run.writing import whole

FOLDER = "snapshots"
BETWEEN = "/"  # of an average and a weight in the name of a tensor


class Snapshots:
    """The snapshots of a run, `snapshots/step-000123.safetensors` each."""

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER

    def steps(self) -> list[int]:
        """The steps that have a snapshot, the first one first."""
        files = self.folder.glob("step-*.safetensors")
        return sorted(int(path.stem.removeprefix("step-")) for path in files)

    def file(self, step: int) -> Path:
        """Where the snapshot of a step is."""
        return self.folder / f"step-{step:06d}.safetensors"

    def write(self, step: int, averages: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write the weights of each average, whole or not at all."""
        weights = {
            f"{name}{BETWEEN}{key}": value.detach().cpu().contiguous().clone()  # averages share what is no parameter
            for name, average in averages.items()
            for key, value in average.items()
        }
        with whole(self.file(step)) as partial:
            save_file(weights, partial)

    def read(self, step: int, average: str) -> dict[str, Tensor]:
        """The weights of an average; raises `UsageError` where there are none that can be read."""
        file = self.file(step)
        try:
            with safe_open(file, framework="pt") as opened:
                names = [n for n in opened.keys() if n.partition(BETWEEN)[0] == average]  # noqa: SIM118 (no mapping)
                state = {n.partition(BETWEEN)[2]: opened.get_tensor(n) for n in names}
        except (OSError, SafetensorError) as e:
            raise UsageError(f"{file} cannot be read: {str(e).splitlines()[0]}; give a snapshot that is there.") from e
        if not state:
            raise UsageError(f"{file} has no average {average}; give one of those that the run was asked for.")
        return state

    def keep(self, steps: set[int]) -> None:
        """Delete all others."""
        for step in set(self.steps()) - steps:
            self.file(step).unlink()


def read_network(
    place: Path | str, *, snapshot: int | Literal["last", "best"] = "last", ema: str | None = None
) -> Preconditioned:
    """The network of a run of `emm train`, with the weights of a snapshot, on the CPU and ready to sample from.

    `snapshot` is its step, the last one that is there, or the one with the highest ratio. `ema` is an average by its
    name, the run's first if None. Raises `UsageError` for what the run does not have.
    """
    folder = Path(place)
    record = read_json(folder / "run.json")
    if record.get("command") != "emm-train":
        raise UsageError(f"{folder} is no run of emm train; give the folder of one.")
    refuse_another_network(folder)
    snapshots = Snapshots(folder)
    steps = snapshots.steps()
    if not steps:
        raise UsageError(f"{folder} has no snapshot yet; let its training go on.")
    average = str(Average.of(ema or record["settings"]["ema"][0]))
    if isinstance(snapshot, str):
        snapshot = steps[-1] if snapshot == "last" else _best(folder, average)
    network = built(record["network"])
    network.load_state_dict(snapshots.read(snapshot, average))
    return network


def refuse_another_network(folder: Path) -> None:
    """Raise `UsageError` for a training whose network had the name of another one, if there is a training."""
    file = folder / "run.json"
    network = read_json(file).get("network") if file.is_file() else None
    if isinstance(network, dict) and "options" in network:
        require_current(network["options"]["architecture"], network.get("version"), str(folder))


def description(network: NetworkOptions, channels: int, resolution: int, num_classes: int) -> Json:
    """What a network is built from again, as JSON; the version is named where it is not the first."""
    about = {"options": vars(network) | {}, "channels": channels, "resolution": resolution, "num_classes": num_classes}
    version = VERSIONS[network.architecture]
    return about | ({"version": version} if version > 1 else {})


def built(description: Mapping[str, Any], seed: int = 0) -> Preconditioned:
    """A new network by its description, not in training."""
    given = {name: description[name] for name in ("channels", "resolution", "num_classes")}
    network = build(NetworkOptions.of(description["options"]), **given, seed=seed)
    return network.eval().requires_grad_(False)


def _best(folder: Path, average: str) -> int:
    best = read_json(folder / "summary.json").get("averages", {}).get(average, {})
    if best.get("step_max") is None:
        raise UsageError(f"{folder} has no finished scores of {average}; give a step, or last.")
    return int(best["step_max"])

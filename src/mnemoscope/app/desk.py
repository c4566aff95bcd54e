"""What a page keeps ready between two questions: a threshold, an index, and a folder that goes when the page does."""

import threading
from pathlib import Path

from mnemoscope import registry
from mnemoscope.app.subject import PageSubject, Told
from mnemoscope.detection.run import run_detection
from mnemoscope.detection.scoring import Detection
from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.methods.amounts import is_number
from mnemoscope.methods.gate import Conditions
from mnemoscope.methods.thresholds import detection_summary, fixed_threshold
from mnemoscope.mitigation.redraw import Lookout
from mnemoscope.report.record import part
from mnemoscope.report.text import counted, number
from mnemoscope.run.schema import misfit_fields
from mnemoscope.search import build_index

NOT_SET = (
    "No threshold: no ordinary prompts were given, so the score only says which of two prompts is more suspicious."
)


class Desk:
    """A subject with its threshold and its index, and one lock: the model does one thing at a time.

    `folder` takes what is computed; `threshold` is what a detection takes and `limit` its number, None where there is
    nothing to set one on; `origin` says in words what it was set on. Raises `UsageError` for a threshold of other
    conditions than the page's.
    """

    def __init__(self, subject: PageSubject, folder: Path) -> None:
        self.subject, self.model, self.folder = subject, subject.model, folder
        self.lock = threading.Lock()
        self.detection = Detection(params={"steps": 1}, **{**subject.usual, **subject.sampling})
        self.threshold, self.origin = self._calibrated() if subject.threshold is None else self._given()
        self.limit = None
        if self.threshold is not None:
            self.limit = fixed_threshold(self.threshold, self.detection.conditions(self.model))
        self.lookout = self._lookout()

    def _given(self) -> tuple[str, str]:
        """The threshold that was given; one of a run comes with the detection that it was set by."""
        given, subject = str(self.subject.threshold), self.subject
        if is_number(given):
            return given, "given as a number when the page was started, not set on prompts of this model"
        summary = detection_summary(Path(given))
        known = part(summary, "conditions")
        if misfit_fields(known, Conditions):
            raise UsageError(f"{given} is no detection with a threshold; give the run of one, or NUMBER[:UNIT].")
        its_own: Told = {key: known[key] for key in ("num_inference_steps", "guidance_scale") if key in known}
        drawn = {**subject.usual, **its_own, **subject.sampling}
        usual, seeds = registry.detection(known["method"]).parameters, int(known.get("seeds", 1))
        params = known.get("params") or {}
        changed = {k: v for k, v in params.items() if k not in usual or v != usual[k].default}
        self.detection = Detection(known["method"], changed, seeds=seeds, **drawn)
        return given, origin(summary, f"of {Path(given).name}")

    def _calibrated(self) -> tuple[str | None, str]:
        """A threshold set on the ordinary prompts, where there are enough of them."""
        negatives, fpr = self.subject.negatives, self.subject.fpr
        if not negatives:
            return None, NOT_SET
        place = self.folder / "calibration"
        summary = run_detection(self.model, [], place, self.detection, negatives=negatives, fpr=fpr)
        if summary["threshold"] is None:
            few = counted(len(negatives), "ordinary prompt")
            return None, f"No threshold: {few} cannot set one at {100 * fpr:g} % false alarms."
        return str(place), origin(summary, self.subject.negatives_from)

    def _lookout(self) -> Lookout | None:
        subject = self.subject
        made = subject.features() if subject.features else None
        if subject.index is not None:
            return Lookout(subject.index, similarity=subject.similarity, features=made)
        if subject.references is None:
            return None
        made, place = made or descriptor("pixels"), self.folder / "index"
        build_index(subject.references, place, made, captions=subject.captions)
        return Lookout(place, similarity=subject.similarity, features=made)

    @property
    def images(self) -> int:
        """Images of a prompt: as many as the threshold averages over, where that is more than one."""
        return self.detection.seeds if self.detection.seeds > 1 else self.subject.images

    @property
    def compared_by(self) -> Told | None:
        """What pictures are compared by, with how many, and from which similarity on one counts as a copy."""
        if self.lookout is None:
            return None
        identity, index = self.lookout.features.identity, self.lookout.index
        return {
            "features": identity.features,
            "preset": identity.preset,
            "limit": self.lookout.similarity,
            "pictures": counted(index.count, "training picture"),
        }


def origin(summary: Told, whose: str) -> str:
    """What a threshold was set on, as a detection's summary has it."""
    fpr, count = number(summary.get("threshold_fpr")), int(number(summary.get("negatives")) or 0)
    if fpr is None:
        return f"{whose}, which says no rate of false alarms".strip()
    return f"set at {100 * fpr:g} % false alarms on {counted(count, 'ordinary prompt')} {whose}".strip()


def facts(desk: Desk) -> Told:
    """The line under the page's title: which model, sampled how, compared with what."""
    model, sampling = desk.model, desk.detection
    height, width = model.size
    guidance = model.family.guidance(sampling.guidance_scale)
    return {
        "model": model.source,
        "sampling": f"{sampling.num_inference_steps} steps, guidance {guidance:g}, {width} × {height} pixels",
        "origin": desk.origin,
        "compared": desk.compared_by,
    }

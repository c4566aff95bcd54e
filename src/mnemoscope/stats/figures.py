"""What two groups of scores say about a detector, as types."""

from typing import TypedDict


class Separation(TypedDict):
    """How well scores tell two groups apart: AUC, TPR at fixed FPRs with 95 % intervals, balanced accuracy."""

    auc: float | None
    auc_interval: list[float] | None
    tpr_at_1_fpr: float | None
    tpr_at_1_fpr_interval: list[float] | None
    tpr_at_3_fpr: float | None
    tpr_at_3_fpr_interval: list[float] | None
    tpr_at_5_fpr: float | None
    tpr_at_5_fpr_interval: list[float] | None
    balanced_accuracy: float | None


class CalibrationFigures(Separation):
    """That with a threshold, the sizes of the groups, and what the prompts given cannot support."""

    threshold: float | None
    threshold_fpr: float | None
    negatives: int
    positives: int
    notes: list[str]

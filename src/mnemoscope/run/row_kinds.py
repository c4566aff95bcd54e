"""The type of the rows of each command's runs."""

from mnemoscope.run.rows import (
    DetectRow,
    ExplainRow,
    FinetuneRow,
    GenerateRow,
    LocalizeRow,
    MeasureRow,
    RecoverRow,
    RegionRow,
    RewriteRow,
    SearchRow,
    SweepRow,
    ThresholdRow,
)
from mnemoscope.run.training_rows import (
    EmmImageRow,
    EmmRatioRow,
    EmmSweepRow,
    EmmTrainRow,
    ExperimentRow,
    TrainRow,
    WatchRow,
)

KINDS: dict[str, type] = {
    "detect": DetectRow,
    "explain": ExplainRow,
    "regions": RegionRow,
    "localize": LocalizeRow,
    "threshold": ThresholdRow,
    "generate": GenerateRow,
    "sweep": SweepRow,
    "rewrite": RewriteRow,
    "measure": MeasureRow,
    "search": SearchRow,
    "recover": RecoverRow,
    "finetune": FinetuneRow,
    "train": TrainRow,
    "watch": WatchRow,
    "experiment": ExperimentRow,
    "emm-train": EmmTrainRow,
    "emm-ratio": EmmRatioRow,
    "emm-sweep": EmmSweepRow,
    "emm-optimum": EmmImageRow,
    "emm-generate": EmmImageRow,
}

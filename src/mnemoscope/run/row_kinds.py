"""The type of the rows of each command's runs."""

from mnemoscope.run.bench_rows import BenchRow
from mnemoscope.run.emm_rows import EmmImageRow, EmmRatioRow, EmmSweepRow, EmmTrainRow
from mnemoscope.run.extract_rows import ExtractRow
from mnemoscope.run.image_rows import (
    FinetuneRow,
    GenerateRow,
    MeasureRow,
    MembershipRow,
    RecoverRow,
    RegionRow,
    RepairRow,
    SearchRow,
    SweepRow,
)
from mnemoscope.run.rows import (
    DetectionsRow,
    DetectRow,
    ExplainRow,
    LocalizeRow,
    RewriteRow,
    ThresholdRow,
)
from mnemoscope.run.training_rows import (
    ExperimentRow,
    TrainRow,
    WatchRow,
)

KINDS: dict[str, type] = {
    "detect": DetectRow,
    "detections": DetectionsRow,
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
    "membership": MembershipRow,
    "extract": ExtractRow,
    "finetune": FinetuneRow,
    "repair": RepairRow,
    "train": TrainRow,
    "watch": WatchRow,
    "experiment": ExperimentRow,
    "bench-detect": BenchRow,
    "bench-mitigate": BenchRow,
    "bench-explain": BenchRow,
    "bench-localize": BenchRow,
    "bench-measure": BenchRow,
    "emm-train": EmmTrainRow,
    "emm-ratio": EmmRatioRow,
    "emm-sweep": EmmSweepRow,
    "emm-optimum": EmmImageRow,
    "emm-generate": EmmImageRow,
}

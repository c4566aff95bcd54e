"""The job of detecting: rows, calibration on negatives, summary."""

from mnemoscope import lazily

_HOMES = {
    "Detection": "detection.scoring",
    "run_detection": "detection.run",
    "detect_rows": "detection.scoring",
    "detections": "detection.scoring",
    "import_detection": "detection.run",
    "local_dimension": "detection.dimension",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)

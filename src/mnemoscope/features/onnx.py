"""onnxruntime, imported here alone: unless it is told not to before that, it keeps a device id and sends events."""

import os
from typing import Any


def onnxruntime() -> Any:
    """The module, with its telemetry off; raises `ImportError` where it is not installed."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime

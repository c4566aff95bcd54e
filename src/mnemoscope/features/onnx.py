"""onnxruntime, whose telemetry the package switches off before anything imports it."""

from typing import Any


def onnxruntime() -> Any:
    """The module, with its telemetry off; raises `ImportError` where it is not installed."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime

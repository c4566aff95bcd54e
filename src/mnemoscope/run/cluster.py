"""A Ray cluster: the connection, the room that it has, and functions on their way to its processes."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from mnemoscope.errors import UsageError


def packed_for_workers(function: Callable[[Any], Any]) -> bytes:
    """A function with all that it refers to, as bytes; raises `UsageError` for what cannot be sent to a process."""
    from ray import cloudpickle

    try:
        return bytes(cloudpickle.dumps(function))
    except UsageError:
        raise
    except Exception as e:  # each class has its own way of refusing
        why = first_line(e)
        raise UsageError(
            f"What is to be computed cannot be sent to workers ({why}); open the model by its name or folder, or run "
            "it without workers."
        ) from e


def connected(address: str | None, least: int = 1) -> tuple[Any, bool]:
    """Ray, connected, and whether the connection began here; one that begins here has `least` processors or more."""
    try:
        import ray
    except ImportError:
        raise UsageError("Ray is not installed; install it with: pip install 'mnemoscope[ray]'.") from None
    if ray.is_initialized():
        return ray, False
    where = address or os.environ.get("RAY_ADDRESS", "local")
    own: dict[str, Any] = {"include_dashboard": False, "num_cpus": max(least, cores())} if where == "local" else {}
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, **own)
    except ConnectionError:
        raise UsageError(f"No Ray cluster answers at {where}; start one there, or give no address.") from None
    return ray, True


def room(resources: dict[str, float], share: int | float, each: int) -> int:
    """How many workers the cluster has room for now, one at least."""
    gpus = resources.get("GPU", 0)
    if share > gpus:
        raise UsageError(f"The workers need {share:g} GPUs and the Ray cluster has {gpus:g}; ask for fewer.")
    return max(1, int(gpus / share) if share else int(resources.get("CPU", 1)) // each)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_cuda() -> int:
    """1 where this process has loaded torch and can use a GPU, else 0."""
    torch = sys.modules.get("torch")
    return int(torch is not None and torch.cuda.is_available())


def first_line(error: BaseException) -> str:
    """What an error says, as far as a row or a sentence has room for it."""
    return str(error).strip().partition("\n")[0][:200]

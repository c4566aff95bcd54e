"""Whether the parts of a pipeline go together."""

from diffusers import DiffusionPipeline

from mnemoscope.errors import UsageError


def refuse_solver(pipe: DiffusionPipeline) -> None:
    """Raise `UsageError` for a U-Net with the solver of a flow model, which its pipeline cannot use either."""
    solver = type(pipe.scheduler).__name__
    if hasattr(pipe, "unet") and solver.startswith("FlowMatch"):
        raise UsageError(
            f"{solver} solves flow models, and a {type(pipe).__name__} is none; configure the one it was trained with."
        )

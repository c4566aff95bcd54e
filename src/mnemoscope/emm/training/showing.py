"""What a training shows of itself while it runs, and where it looks whether it is interrupted."""

from mnemoscope.emm.training.budget import Budget
from mnemoscope.run.progress import Progress
from mnemoscope.training.processes import Interruption


class Showing:
    """A bar for the steps and one for the images that are drawn of a snapshot.

    Raises `KeyboardInterrupt` between two batches of images; scored rows and the checkpoint before them are written.
    """

    def __init__(self, bar: Progress, budget: Budget, interruption: Interruption | None) -> None:
        self.bar, self.interruption = bar, interruption
        self.samples = budget.options.samples
        self.steps = bar.add_task("training", total=budget.steps)
        self.images = bar.add_task("scoring", visible=False, total=self.samples)

    def at(self, step: int) -> None:
        """So many steps are done."""
        self.bar.update(self.steps, completed=step)
        self.bar.update(self.images, visible=False)

    def drawn(self, first: int) -> None:
        """Images up to this one are drawn."""
        self.bar.update(self.images, completed=first, visible=True)
        if self.interruption:
            raise KeyboardInterrupt

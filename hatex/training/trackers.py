"""Losses to TensorBoard and Weights & Biases, through accelerate's trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatex.errors import TrainingError

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker


class Trackers:
    """Where losses are logged as they come; nowhere, if there are none."""

    def __init__(self, trackers: Sequence[GeneralTracker]) -> None:
        self._trackers = trackers

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log named values of one optimizer step (counted from 1)."""
        for tracker in self._trackers:
            tracker.log(dict(values), step=step)

    def finish(self) -> None:
        """Write out what is buffered."""
        for tracker in self._trackers:
            tracker.finish()


def check_trackers(names: Sequence[str]) -> None:
    """Raise TrainingError where the library of a tracker is not installed."""
    if not names:
        return
    from accelerate.tracking import get_available_trackers

    available = {tracker.value for tracker in get_available_trackers()}
    if missing := [name for name in names if name not in available]:
        raise TrainingError(
            f"{missing[0]} is not installed",
            where="train.report_to",
            hint=f"pip install 'hatex[{missing[0]}]'",
        )


def open_trackers(names: Sequence[str], run: str, folder: Path, settings: Mapping[str, Any]) -> Trackers:
    """Start a run of this name with every tracker; files go below `folder`."""
    if not names:
        return Trackers(())
    from accelerate import PartialState
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    PartialState(cpu=True)  # the trackers ask it which process may write
    folder.mkdir(parents=True, exist_ok=True)
    opened: list[GeneralTracker] = []
    for name in names:
        if name == "tensorboard":
            opened.append(TensorBoardTracker(run, logging_dir=folder))
        else:
            opened.append(WandBTracker("hatex", name=run, dir=str(folder)))
    for tracker in opened:
        tracker.start()
        tracker.store_init_configuration(
            {key: value for key, value in settings.items() if isinstance(value, int | float | str | bool)}
        )
    return Trackers(opened)

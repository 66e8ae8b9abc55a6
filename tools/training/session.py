"""One sitting of training: read the data, resume, train, save; or decay a copy and release its weights."""

from __future__ import annotations

import copy
import datetime
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline.errors import ConfigError
from stages.codec.device import find_device
from tools.training import context, context_export, unaided
from tools.training.config import TrainingConfig, load_training_config
from tools.training.disparity import DisparityRecipe
from tools.training.loop import Recipe, Trainer, append_log, decay, run, save_state
from tools.training.pictures import Library, read_library
from tools.training.published import PUBLISHED, PublishedRecipe
from tools.training.samples import Sampler

__all__ = ["Places", "finish", "fit_context", "fit_unaided", "train"]


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run reads, computes and writes."""

    config: Path
    data: Path
    state: Path
    """Holds NAME/state.pt: everything, every 5 minutes."""
    log: Path
    """Holds NAME/log.csv and NAME/trunk.safetensors: what is worth committing."""
    device: str = "cpu"
    """Where it trains: auto, cpu or cuda."""

    @property
    def name(self) -> str:
        """What the run is called: the configuration's name without `train-`."""
        return self.config.stem.removeprefix("train-")


def train(places: Places, minutes: float) -> None:
    """Go on from `state.pt`, else from the committed trunk, else afresh; until the time is over or Ctrl-C."""
    _, library, trainer = _prepare(places)
    state, log = places.state / places.name, places.log / places.name
    _resume(trainer, places)
    try:
        run(trainer, library, state, log / "log.csv", minutes * 60, say)
    except KeyboardInterrupt:
        say("stopping")
    save_state(trainer, state)
    save_trunk(trainer, log)


def finish(places: Places, minutes: float, weights: Path, context_steps: int = context.STEPS) -> None:
    """Save the trunk, decay a copy for `minutes`, log its scores in released.csv and write its weights.

    The default codec then gets its context model, which the rates in the log don't know of yet, and within half the
    minutes its network for pictures without a side view.
    """
    config, library, trainer = _prepare(places)
    log = places.log / places.name
    _resume(trainer, places)
    if trainer.step:
        save_trunk(trainer, log)
    decay(trainer, minutes * 60, say)
    scores = trainer.validate(library)
    append_log(trainer, scores, log / "released.csv", say)
    training = {
        "steps": trainer.step,
        "hours": round(trainer.seconds / 3600, 2),
        "rd_lambda": list(config.rd_lambda),
        "distortion": config.distortion,
        "held_out": list(config.held_out),
        "pictures": {
            "pairs": len(library.pairs),
            "pairs of lossy video": len(library.coarse),
            "single pictures": len(library.singles),
        },
        "date": datetime.date.today().isoformat(),
    }
    about = {"about": config.about} if config.about else {}
    description = about | {"training": training, "validation": scores}
    before = unaided.fitted_before(weights)
    model_id = trainer.recipe.release(trainer.average, weights, description)
    if isinstance(trainer.recipe, DisparityRecipe):
        context_export.complete(weights, library, trainer.sampler, say, context_steps)
        model_id = unaided.complete(weights, before, trainer, minutes * 30, say)
    _say_written(weights, model_id)


def fit_unaided(places: Places, weights: Path, minutes: float) -> None:
    """Go on fitting the network for pictures without a side view of a weights file of the default codec."""
    _, _, trainer = _prepare(places)
    before = unaided.fitted_before(weights)
    _say_written(weights, unaided.complete(weights, before, trainer, minutes * 60, say))


def fit_context(places: Places, weights: Path, context_steps: int = context.STEPS) -> None:
    """Fit the context model of a weights file of the default codec anew, whatever its transforms are by now."""
    config = load_training_config(places.config)
    torch.manual_seed(config.seed)
    library = read_library(places.data, config.held_out)
    sampler = Sampler(library, config.mixture, config.crop, config.seed)
    _say_written(weights, context_export.complete(weights, library, sampler, say, context_steps))


def _say_written(weights: Path, model_id: bytes) -> None:
    say(f"wrote {weights} ({weights.stat().st_size / 1e6:.1f} MB), model id {model_id.hex()}")


def save_trunk(trainer: Trainer, folder: Path) -> None:
    """The moving average in half precision, without optimiser state: a short warm-up rebuilds that."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.half().cpu().contiguous() for k, v in trainer.average.state_dict().items()}
    save_file(half, folder / "trunk.safetensors", {"step": str(trainer.step), "seconds": f"{trainer.seconds:.0f}"})


def say(text: str) -> None:
    """One line with the time."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def _prepare(places: Places) -> tuple[TrainingConfig, Library, Trainer]:
    config, device = load_training_config(places.config), find_device(places.device)
    seed = config.seed + time.time_ns() % 2**31  # a resumed run must not see the same batches again
    torch.manual_seed(seed)
    library = read_library(places.data, config.held_out)
    held = ", ".join(f"{len(pairs)} of {name}" for name, pairs in library.validation.items()) or "nothing"
    say(
        f"{len(library.pairs)} pairs, {len(library.coarse)} pairs of lossy video, "
        f"{len(library.singles)} single pictures; held out: {held}"
    )
    return (
        config,
        library,
        Trainer(config, _recipe(places, config), Sampler(library, config.mixture, config.crop, seed), device),
    )


def _recipe(places: Places, config: TrainingConfig) -> Recipe:
    try:
        if config.model == "disparity":
            return DisparityRecipe(config)
        if config.model in PUBLISHED:
            return PublishedRecipe(config)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{places.config}: network: {config.model} can't be built so: {error}") from error
    known = ", ".join(["disparity", *PUBLISHED])
    raise ConfigError(f"{places.config}: model {config.model!r} can't be trained, expected one of {known}")


def _resume(trainer: Trainer, places: Places) -> None:
    state = places.state / places.name / "state.pt"
    trunk = places.log / places.name / "trunk.safetensors"
    start = places.log / trainer.config.start / "trunk.safetensors" if trainer.config.start else None
    if state.is_file():
        trainer.load(torch.load(state, map_location=trainer.device, weights_only=True))
        say(f"going on from step {trainer.step}")
    elif trunk.is_file():
        _load_trunk(trainer, trunk)
        say(f"going on from the committed trunk at step {trainer.step}; the optimisers start afresh")
    elif start and start.is_file():
        trainer.recipe.start(trainer.sampler)
        taken, others = _load_trunk(trainer, start, partly=True)
        fresh = f"; {others} tensors start afresh, which it lacks or has of another shape" if others else ""
        say(f"starting with {taken} tensors of {start}, step {trainer.step}{fresh}")
    elif start:
        raise ConfigError(f"{places.config}: start: expected the trunk of another run at {start}, found none")
    else:
        trainer.recipe.start(trainer.sampler)
        trainer.average.load_state_dict(trainer.model.state_dict())
        say("starting afresh")


def _load_trunk(trainer: Trainer, path: Path, *, partly: bool = False) -> tuple[int, int]:
    """Take over a trunk; `partly`: what fits of another model's. How many tensors came from it, and how many didn't."""
    with safe_open(path, "pt") as f:
        weights = {key: f.get_tensor(key).float() for key in f.keys()}  # noqa: SIM118, it is no mapping
        counted = f.metadata()
    own = trainer.model.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and v.shape == own[k].shape} if partly else weights
    trainer.model.load_state_dict(fitting, strict=not partly)
    trainer.average.load_state_dict(copy.deepcopy(trainer.model.state_dict()))
    trainer.step, trainer.seconds = int(counted["step"]), float(counted["seconds"])
    return len(fitting), len(own) - len(fitting)

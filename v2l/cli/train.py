"""`v2l train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2l.cli import options
from v2l.cli.console import Console, report, write_json, write_path
from v2l.cli.export import export
from v2l.cli.options import argument, option
from v2l.cli.train_targets import targets
from v2l.config import DEFAULT_MODEL, HypernetConfig
from v2l.errors import UsageError, VideoError
from v2l.train.config import OPTIMIZERS, Recipe

if TYPE_CHECKING:
    from v2l.manifest import Item
    from v2l.train.run import Trained

train = typer.Typer(rich_markup_mode=None)


@train.callback()
def _train() -> None:
    """Train a hypernetwork on your own videos, for any SmolVLM base.

    A manifest is a JSON Lines file: id, video_path, prompt, target_text, and optionally question, answer, start, end
    and split (train, val or test) on each line.

    \b
      v2l train run clips.jsonl --model 500m --output mine
      v2l ingest lecture.mp4 --model 500m --checkpoint mine
    """


def _optimizer(value: str) -> str:
    if value not in OPTIMIZERS:
        raise typer.BadParameter(f"{value!r} is not {' or '.join(OPTIMIZERS)}.")
    return value


def _count(help: str, default: int) -> Any:
    return option("N", help, f"{default:,}", callback=options.positive)


@train.command("run", cls=options.Command)
def run_training(
    manifests: Annotated[list[Path], argument("MANIFEST...")],
    output: Annotated[Path, option("DIR", "The folder to train in; a run that was ended goes on there.", "",
                                   "-o", "--output")],
    model: options.Model = DEFAULT_MODEL,
    init: Annotated[str | None, option("FILE", "Hypernetwork to begin with: as for --checkpoint.", "a new one")] = None,
    steps: Annotated[int | None, _count("Updates of the weights.", Recipe.steps)] = None,
    epochs: Annotated[float | None, option("N", "Passes over the clips, instead of steps.",
                                           callback=options.positive)] = None,
    batch_size: Annotated[int | None, _count("Clips at once, on each GPU.", Recipe.batch_size)] = None,
    accumulate: Annotated[int | None, _count("Batches to one step.", Recipe.accumulate)] = None,
    optimizer: Annotated[str, option("NAME", "adamw or muon.", Recipe.optimizer, callback=_optimizer)]
    = Recipe.optimizer,
    lr: Annotated[float | None, option("RATE", "Highest learning rate.", f"{Recipe.lr:g}",
                                       callback=options.positive)] = None,
    muon_lr: Annotated[float | None, option("RATE", "The same of the matrices under muon.", f"{Recipe.muon_lr:g}",
                                            callback=options.positive)] = None,
    kl: Annotated[float, option("WEIGHT", "Add the divergence from the base with the video in its prompt.", "0",
                                callback=options.not_negative)] = Recipe.kl,
    self_distill: Annotated[bool, typer.Option(
        "--self-distill", help="Learn the base's own answers with the video in its prompt; targets are not read.")]
    = False,
    parts: Annotated[int | None, _count("Cut each clip at random into 1 to N segments, such as 8, and join them.",
                                        Recipe.parts)] = None,
    rank: Annotated[int | None, _count("Rank of a segment's adapter.", HypernetConfig.rank)] = None,
    latent: Annotated[int | None, _count("Width of the hypernetwork.", HypernetConfig.latent_size)] = None,
    queries: Annotated[int | None, _count("Its latent queries.", HypernetConfig.num_queries)] = None,
    blocks: Annotated[int | None, _count("Its encoder blocks.", HypernetConfig.num_blocks)] = None,
    every: Annotated[int | None, _count("Validate and save after so many steps.", Recipe.every)] = None,
    seed: Annotated[int, option("N", "Of the first weights, the order and the cuts.", f"{Recipe.seed}")] = Recipe.seed,
    frames: options.MaxFrames = None, fps: options.Fps = None, resolution: options.Resolution = None,
    workers: Annotated[int | None, _count("Threads that decode videos ahead.", Recipe.workers)] = None,
    checkpointing: Annotated[bool, typer.Option(
        "--checkpointing", help="Need less memory: compute the decoder twice.")] = False,
    device: options.Device = None,
    dtype: Annotated[options.Dtype, option("TYPE", "Compute in float32 or bfloat16.", "what is fast here")]
    = options.Dtype.auto,
    force: Annotated[bool, typer.Option("--force", "-f", help="Begin anew, whatever is in the folder.")] = False,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Train a hypernetwork on the clips of manifests.

    The base stays as it is. Lines of split val choose the best weights, those of test are left alone. In DIR then lie
    hypernetwork.safetensors, the best, last/ with the newest, losses.csv, losses.html and journal.jsonl. The same
    command goes on with a run that was ended, to the same numbers. A video that cannot be decoded is named and skipped.

    \b
      v2l train run clips.jsonl --model 500m --output mine
      v2l train run clips.jsonl --model 500m --output mine --parts 8 --kl 1
      torchrun --nproc-per-node 4 -m v2l train run clips.jsonl --model 500m --output mine
    """
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs exclude each other.")
    if kl and self_distill:
        raise UsageError("--kl and --self-distill exclude each other: the second is the divergence alone.")
    if muon_lr is not None and optimizer != "muon":
        raise UsageError("--muon-lr needs --optimizer muon.")
    sizes = options.given(rank=rank, latent_size=latent, num_queries=queries, num_blocks=blocks)
    if init is not None and sizes:
        raise UsageError("--init brings its own sizes; leave --rank, --latent, --queries and --blocks out.")
    if dtype is options.Dtype.float16:
        raise UsageError("Training computes in float32 or bfloat16, not float16.")
    from v2l.manifest import read_manifest

    items = [item for manifest in manifests for item in read_manifest(manifest)]
    recipe = replace(Recipe(optimizer=optimizer, kl=kl, self_distill=self_distill, seed=seed,
                            checkpointing=checkpointing),
                     **options.given(steps=steps, epochs=epochs, batch_size=batch_size, accumulate=accumulate, lr=lr,
                               muon_lr=muon_lr, parts=parts, every=every, workers=workers))
    from v2l.train.items import sort_out
    from v2l.train.processes import Processes

    sort_out(items, recipe)

    processes = Processes.from_environment()
    console = Console(quiet or not processes.main)

    def skipped(item: Item, error: VideoError) -> None:
        console.aside()
        report(error)

    with console.working("Loading"):
        from v2l.train.run import train

        trained = train(items, output, recipe, model=model, init=init, sizes=sizes, device=device, dtype=dtype.value,
                        sampling=options.given(frames=frames, fps=fps, resolution=resolution), offline=offline,
                        processes=processes, progress=console.progress, note=console.note,
                        skipped=skipped, force=force)
    if processes.main:
        _tell(console, trained, json)


def _tell(console: Console, trained: Trained, json: bool) -> None:
    if trained.skipped:
        count, clips = len(trained.skipped), trained.clips + trained.validation_clips
        were, them = ("was", "it") if count == 1 else ("were", "them")
        console.note(f"{count} of {clips} videos could not be decoded and {were} skipped; "
                     f"{trained.folder / 'journal.jsonl'} names {them}.")
    if json:
        write_json(trained.to_json())
    else:
        write_path(trained.weights)


for command in (targets, export):
    train.command(command.__name__, cls=options.Command)(command)

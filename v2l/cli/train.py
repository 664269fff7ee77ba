"""`v2l train`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2l.cli import options
from v2l.cli.console import Console, report, write_json, write_path
from v2l.cli.options import argument, option
from v2l.cli.outputs import check_writable
from v2l.cli.train_targets import targets
from v2l.config import DEFAULT_MODEL, HypernetConfig
from v2l.errors import UsageError, VideoError
from v2l.train.config import OPTIMIZERS, Recipe

if TYPE_CHECKING:
    from v2l.manifest import Item
    from v2l.train.run import Trained

_RELEASED = ".pt"
"""Ending of released checkpoints."""

train = typer.Typer(cls=options.Group, rich_markup_mode=None)


@train.callback()
def _train() -> None:
    """Train a hypernetwork on your own videos, for any SmolVLM base.

    A manifest is a JSON Lines file: id, video_path, prompt, target_text, and optionally question, answer, start, end
    and split (train, val or test) on each line.

    \b
      v2l train run clips.jsonl --model 500m --output mine
      v2l ingest lecture.mp4 --model 500m --checkpoint mine
    """


def _count(help: str, default: int) -> Any:
    """An option for a number above 0."""
    return option("N", help, f"{default:,}", callback=options.positive)


@train.command("run", cls=options.Command)
def run_training(
    manifests: Annotated[list[Path], argument("MANIFEST...")],
    output: Annotated[Path, option("DIR", "Folder to train in; an interrupted run resumes there.", "",
                                   "-o", "--output")],
    model: options.Model = None,
    init: Annotated[str | None, option("FILE", "Hypernetwork to start from, named as for --checkpoint.",
                                       "a new one")] = None,
    steps: Annotated[int | None, _count("Optimizer steps.", Recipe.steps)] = None,
    epochs: Annotated[float | None, option("N", "Passes over all clips, instead of --steps.",
                                           callback=options.positive)] = None,
    batch_size: Annotated[int | None, _count("Clips in a batch, on each GPU.", Recipe.batch_size)] = None,
    accumulate: Annotated[int | None, _count("Batches whose gradients are summed for one step.",
                                                Recipe.accumulate)] = None,
    optimizer: Annotated[str, option("NAME", "adamw or muon.", Recipe.optimizer, **options.choice(OPTIMIZERS))]
    = Recipe.optimizer,
    lr: Annotated[float | None, option("RATE", "Peak learning rate.", f"{Recipe.lr:g}",
                                       callback=options.positive)] = None,
    muon_lr: Annotated[float | None, option("RATE", "Peak learning rate of the matrices, with muon.",
                                            f"{Recipe.muon_lr:g}", callback=options.positive)] = None,
    kl: Annotated[float, option("WEIGHT", "Weight of the KL divergence from the base with the video in its prompt.",
                                f"{Recipe.kl:g}", callback=options.not_negative)] = Recipe.kl,
    self_distill: Annotated[bool, typer.Option(
        "--self-distill", help="Learn what the base itself answers with the video in its prompt, without targets.")]
    = False,
    parts: Annotated[int | None, _count("Cut each clip at random into 1 to N segments and join their adapters.",
                                        Recipe.parts)] = None,
    rank: Annotated[int | None, _count("Rank of a segment's adapter.", HypernetConfig.rank)] = None,
    latent: Annotated[int | None, _count("Width of the hypernetwork.", HypernetConfig.latent_size)] = None,
    queries: Annotated[int | None, _count("Latent queries of the hypernetwork.", HypernetConfig.num_queries)] = None,
    blocks: Annotated[int | None, _count("Encoder blocks of the hypernetwork.", HypernetConfig.num_blocks)] = None,
    every: Annotated[int | None, _count("Validate and save a checkpoint every N steps.", Recipe.every)] = None,
    seed: Annotated[int, option("N", "Seed of the initial weights, the order of clips and the cuts.",
                                f"{Recipe.seed}")] = Recipe.seed,
    frames: options.MaxFrames = None, fps: options.Fps = None, resolution: options.Resolution = None,
    workers: Annotated[int | None, _count("Threads that decode videos ahead of training.", Recipe.workers)] = None,
    checkpointing: Annotated[bool, typer.Option(
        "--checkpointing", help="Recompute activations in the backward pass: less memory, slower steps.")] = False,
    device: options.Device = None,
    dtype: Annotated[options.Dtype, option("TYPE", "Compute in float32 or bfloat16.", "what is fast here",
                                           parser=options.parse_dtype,
                                           autocompletion=options.completing(options.Dtype))]
    = options.Dtype.auto,
    force: Annotated[bool, typer.Option("--force", "-f", help="Start over, whatever DIR holds.")] = False,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Train a hypernetwork on the clips of manifests.

    The base stays frozen. Clips of split val choose the best weights; those of test are not used. DIR receives
    hypernetwork.safetensors (the best weights), last/ (the newest), losses.csv, losses.html and journal.jsonl. After an
    interrupt the same command resumes, with the same losses. A video that cannot be decoded is named and skipped.

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
    options.checkpoint(init)
    if dtype is options.Dtype.float16:
        raise UsageError("Training computes in float32 or bfloat16, not float16.")
    if os.path.lexists(output) and not output.is_dir():
        raise UsageError(f"{output} is a file, and training fills a folder; name one with -o.")
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

    with console.working("Loading"), options.telling_of_devices(console):
        from v2l.train.run import train

        trained = train(items, output, recipe, model=model, init=init, sizes=sizes, device=device, dtype=dtype.value,
                        sampling=options.given(frames=frames, fps=fps, resolution=resolution), offline=offline,
                        processes=processes, progress=console.progress, note=console.note,
                        skipped=skipped, force=force)
    if processes.main:
        _print_result(console, trained, json)


def _print_result(console: Console, trained: Trained, json: bool) -> None:
    if trained.skipped:
        count, clips = len(trained.skipped), trained.clips + trained.validation_clips
        were, them = ("was", "it") if count == 1 else ("were", "them")
        console.note(f"{count} of {clips} videos could not be decoded and {were} skipped; "
                     f"{trained.folder / 'journal.jsonl'} names {them}.")
    if json:
        write_json(trained.to_json())
    else:
        write_path(trained.weights)


train.command(cls=options.Command)(targets)


@train.command(cls=options.Command)
def export(
    checkpoint: Annotated[str, argument("CHECKPOINT")],
    output: Annotated[Path, option("FILE", "The .pt file to write.", "", "-o", "--output")],
    base: Annotated[str | None, option("NAME", "How the released code names the base.", "as it was trained")] = None,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Write a hypernetwork in the layout of the released checkpoints.

    The released code reads FILE, and so does ingest. CHECKPOINT is named as for ingest --checkpoint.

    \b
      v2l train export mine/hypernetwork.safetensors -o mine.pt
    """
    if output.suffix.lower() != _RELEASED:
        raise UsageError(f"{output} does not end in {_RELEASED}, by which released checkpoints are known; "
                         "name the output so.")
    check_writable(output)
    console = Console(quiet)
    with console.working("Loading"):
        from v2l.store.resolve import find_hypernetwork

        files = find_hypernetwork(DEFAULT_MODEL, checkpoint, offline=offline, progress=console.progress)
        from v2l.store.export import export_released

        named = export_released(files, output, base)
    if json:
        write_json({"output": str(output), "checkpoint": files.name, "base": named, "size": output.stat().st_size})
    else:
        write_path(output)

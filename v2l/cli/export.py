"""`v2l export`: adapters for other engines, and `v2l models export`: the text model that llama.cpp puts one onto."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from v2l.cli import options
from v2l.cli.adapters import read_adapter
from v2l.cli.ask import base_of, check_preset
from v2l.cli.console import Console, Failures, write_json, write_path
from v2l.cli.options import argument, option
from v2l.cli.outputs import check_writable
from v2l.config import PRESETS, Strategy
from v2l.errors import ModelError, UsageError, V2LError
from v2l.system.files import beside, check_replaceable, scratch_folder
from v2l.wording import command, not_among, shell_word

if TYPE_CHECKING:
    from v2l.adapter.factors import Factors
    from v2l.adapter.file import Adapter
    from v2l.engine import Engine
    from v2l.store.foreign.check import Agreement

FORMATS = ("peft", "gguf", "merged")
_GGUF = ".gguf"


def _format(value: tuple[str, Path]) -> tuple[str, Path]:
    if value[0] not in FORMATS:
        raise typer.BadParameter(f"{not_among(value[0], FORMATS)}.")
    return value


def _gguf_only(value: tuple[str, Path]) -> tuple[str, Path]:
    if value[0] != "gguf":
        raise typer.BadParameter(f"{value[0]!r} is not gguf, the one format of a whole text model.")
    return value


class TextModelType(str, Enum):
    """What matrices of a text model can be stored as: `v2l.store.foreign.text_model.WEIGHT_TYPES`, and as they are."""

    auto, f32, f16, bf16, q8_0 = "auto", "f32", "f16", "bf16", "q8_0"


Checked = Annotated[bool, typer.Option("--check", help="Load the output in its engine and compare answers with v2l's.")]


def export_(
    adapter: Annotated[str, argument("ADAPTER")],
    to: Annotated[tuple[str, Path], option("FORMAT PATH", "Write peft DIR, gguf FILE or merged DIR.", "", "--to",
                                           callback=_format)],
    each: Annotated[bool, typer.Option("--each", help="Write one export per segment.")] = False,
    dtype: Annotated[options.Dtype, option("TYPE", "Store float32, float16 or, merged, bfloat16.",
                                           "the adapter's float16, else float32; merged, float32")]
    = options.Dtype.auto,
    pad_rank: Annotated[int | None, option("N", "Fill up to rank N with zeros, which changes no answer.",
                                           "no filling", callback=options.positive)] = None,
    text_only: Annotated[bool, typer.Option("--text-only", help="Name modules as in a Llama, not as in a SmolVLM "
                                            "(peft).")] = False,
    check: Checked = False,
    model: Annotated[str | None, option("NAME", f"Base model: {options.MODEL_NAMES}.", "the adapter's",
                                        callback=options.preset, autocompletion=options.completing(PRESETS))] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Write it although an engine takes no such rank, or "
                                        "rounding loses much.")] = False,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Write an adapter for another engine.

    peft is a folder for PEFT (transformers) and vLLM; gguf a file for llama.cpp, which goes onto the text model that
    `v2l models export` writes; merged a folder with the base and the adapter added to its weights, for engines that
    take no adapters. Other engines sum all segments of an adapter, as ask --strategy join does. What to do with the
    output is printed on stderr.

    \b
      v2l export lecture.v2lora --to peft lecture-peft
      v2l export lecture.v2lora --to gguf lecture.gguf --check
      v2l export lecture.v2lora --to merged lecture-model
    """
    from v2l.adapter.factors import check_pad_rank

    format, place = to
    _check_call(format, place, dtype.value, pad_rank, text_only)
    console, failures, whole = Console(quiet), Failures(), read_adapter(adapter)
    outputs = _places(format, _outputs(whole, place, each), failures)
    if not outputs:
        failures.exit()
    for _, one in outputs:
        check_pad_rank(one, pad_rank)
    if not each:
        _note_segments(whole, console)
    engine = _engine(console, whole, model, offline, needed=check or format == "merged")
    chosen = None if dtype is options.Dtype.auto else dtype.value
    for path, one in outputs:
        _export(engine, Path(adapter), one, format, path, chosen, pad_rank, text_only, check, force, json, console)
    failures.exit()


def _check_call(format: str, place: Path, dtype: str, pad_rank: int | None, text_only: bool) -> None:
    """UsageError where the options make no sense together."""
    if format == "gguf" and place.suffix.lower() != _GGUF:
        raise UsageError(f"{place} does not end in {_GGUF}, by which engines know the file; name the output so.")
    if format == "merged" and pad_rank is not None:
        raise UsageError("--pad-rank is for peft and gguf: merged weights have no rank.")
    if format != "peft" and text_only:
        raise UsageError(f"--text-only is for peft; {format} is "
                         f"{'the text model by itself anyhow' if format == 'gguf' else 'always the whole model'}.")
    if format != "merged" and dtype == "bfloat16":
        raise UsageError("--dtype bfloat16 rounds an adapter; name float32 or float16.")


def _places(format: str, outputs: list[tuple[Path, Adapter]], failures: Failures) -> list[tuple[Path, Adapter]]:
    """The outputs that can be written; the others are counted as failures, where there are several."""
    usable = []
    for path, one in outputs:
        try:
            _check_place(format, path)
            usable.append((path, one))
        except V2LError as error:
            if len(outputs) == 1:
                raise
            failures.add(error, path)
    return usable


def _check_place(format: str, path: Path) -> None:
    """OutputError where the output cannot be written."""
    if format == "gguf":
        check_writable(path)
    else:
        from v2l.store.foreign.about import ABOUT

        check_replaceable(path, ABOUT)


def _outputs(adapter: Adapter, place: Path, each: bool) -> list[tuple[Path, Adapter]]:
    """What to write: the adapter or, with --each, every segment, to PATH with its number."""
    if not each:
        return [(place, adapter)]
    from v2l.adapter.join import each_segment

    count = len(adapter.segments)
    ending = place.suffix if place.suffix.lower() == _GGUF else ""
    stem = place.name.removesuffix(ending) if ending else place.name
    return [(beside(place.with_name(stem), f"{{}}-{i + 1:0{len(str(count))}d}{ending}"), one)
            for i, one in each_segment(adapter, range(count))]


def _note_segments(adapter: Adapter, console: Console) -> None:
    from v2l.adapter.factors import joined_parts

    if (count := joined_parts(adapter)) > Strategy.join_up_to:
        console.warn(f"{adapter.name} has {count} segments, which other engines sum up as `ask --strategy join` does; "
                     f"of more than {Strategy.join_up_to} that answers worse than v2l. Write one export per segment "
                     "with --each, or take some of them with `v2l slice`.")


def _engine(console: Console, adapter: Adapter, model: str | None, offline: bool, needed: bool) -> Engine | None:
    """An engine with the adapter's base; None where that is not on this disk and not needed. V2LError."""
    load = lambda base, offline: options.load_engine(console, base, None, "cpu", options.Dtype.float32, offline)
    if model is not None or needed:
        base = model or base_of(adapter.name, adapter.record)
        check_preset(adapter.name, adapter.record, base)
        return load(base, offline or (model is None and base not in PRESETS))
    try:
        return load(base_of(adapter.name, adapter.record), True)
    except V2LError:
        console.warn(f"The base {adapter.record['base']['id']} is not on this disk, so only the adapter was checked, "
                     "not whether it fits; name the base's folder with --model.")
        return None


def _export(engine: Engine | None, source: Path, adapter: Adapter, format: str, path: Path, dtype: str | None,
            pad_rank: int | None, text_only: bool, check: bool, force: bool, json: bool, console: Console) -> None:
    """Writes one export, checks it and prints it. V2LError."""
    from v2l.adapter.factors import factors
    from v2l.store.foreign.about import about_adapter

    if engine is not None:
        engine.bind(adapter)  # says what does not fit
    made = factors(adapter, None if format == "merged" else dtype, pad_rank)
    about = about_adapter(adapter, source, made, format)
    facts: dict[str, Any] = {}
    with console.working("Writing"):
        if format == "peft":
            facts = _write_peft(engine, adapter, made, about, path, text_only, force)
        elif format == "gguf":
            from v2l.store.foreign.gguf import write_adapter

            write_adapter(path, made, about)
        else:
            assert engine is not None
            facts = _write_merged(engine, made, about, path, dtype or "float32", force, console)
    if check:
        assert engine is not None
        with console.working("Checking"):
            compared = _compare_export(engine, adapter, format, path, text_only)
        _note_agreement(compared, path, console)
        facts["check"] = asdict(compared)
    _print(path, {"format": format, "rank": made.rank, "alpha": made.alpha, "segments": len(adapter.segments),
                  "dtype": about["dtype"], **facts}, json)
    console.note(_way_on(format, engine, adapter, path, facts.get("max_lora_rank"), text_only))


def _write_peft(engine: Engine | None, adapter: Adapter, made: Factors, about: dict[str, Any], path: Path,
                text_only: bool, force: bool) -> dict[str, Any]:
    from v2l.store.foreign.peft import VLLM_RANKS, vllm_rank, write_peft

    rank = None
    if made.rank <= VLLM_RANKS[-1] or not force:
        rank = vllm_rank(made.rank, adapter.name, adapter.rank)
    write_peft(path, made, about, text_only, engine.files.folder if engine else None)
    return {"max_lora_rank": rank}


def _write_merged(engine: Engine, made: Factors, about: dict[str, Any], path: Path, dtype: str, force: bool,
                  console: Console) -> dict[str, Any]:
    from v2l.store.foreign.merged import merged_rounding, write_merged

    rounding = merged_rounding(engine.files.folder, made, dtype)
    _refuse_loss(rounding.loss, f"--dtype {dtype}", "--dtype float32", force, console)
    about |= {"dtype": dtype, "changes": rounding.changes}
    write_merged(path, engine.files.folder, made, dtype, about)
    return {"rounding_loss": rounding.loss}


def _refuse_loss(loss: float, how: str, better: str, force: bool, console: Console) -> None:
    """Tells what rounding takes away of an adapter's change; UsageError where that is much."""
    from v2l.store.foreign.merged import MOST_LOST

    text = f"{how} rounds {loss:.2%} of what the adapter changes away"
    if loss > MOST_LOST and not force:
        raise UsageError(f"{text}, and more than {MOST_LOST:.0%} is not written without --force; take {better}, "
                         "or export the adapter by itself.")
    console.note(f"{text}.")


def _compare_export(engine: Engine, adapter: Adapter, format: str, path: Path, text_only: bool) -> Agreement:
    """What its engine makes of an export, beside v2l in float32."""
    from v2l.store.foreign import check

    bound, base = engine.bind(adapter), engine.base
    if format == "peft":
        return check.agreement(base, bound, *check.peft(base.folder, path, text_only))
    if format == "merged":
        return check.agreement(base, bound, *check.transformers(path))
    with scratch_folder(path.parent) as folder:  # on the disk that has room for exports
        text_model = folder / "base.gguf"
        _write_text_model(engine, text_model, "f32")
        return check.agreement(base, bound, *check.llama(text_model, path))


def _note_agreement(compared: Agreement, path: Path, console: Console) -> None:
    """Tells how near another engine is to v2l; ModelError where it computes something else."""
    text = (f"{compared.engine}: {compared.equal} of {compared.questions} greedy answers are v2l's, "
            f"log-probabilities of first tokens differ by at most {compared.difference:.2g}")
    if not compared.good:
        raise ModelError(f"{path} is written, but {text}, which is more than {compared.limit:.2g}: that engine does "
                         "not compute what v2l does; try another version of it, or --dtype float32.")
    console.note(f"{text}.")


def _print(path: Path, facts: dict[str, Any], json: bool) -> None:
    if json:
        size = sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]))
        write_json({"output": str(path), **facts, "size": size})
    else:
        write_path(path)


def _way_on(format: str, engine: Engine | None, adapter: Adapter, path: Path, rank: int | None, text_only: bool
            ) -> str:
    """How the engine is started with an export."""
    name, place = shell_word(path.stem), shell_word(path)
    if format == "gguf":
        return (f"llama.cpp: llama-server --model BASE.gguf --lora {place}\nBASE.gguf, once for all adapters of this "
                f"base: v2l models export {_model_name(engine, adapter)} --to gguf BASE.gguf")
    if format == "merged":
        return f"For llama.cpp and Ollama: {command('models export', path)} --to gguf {name}.gguf"
    if rank is None:
        return "vLLM takes no adapter of that rank."
    return f"vLLM: vllm serve {_served(engine, adapter, text_only)} --enable-lora --max-lora-rank {rank} " \
           f"--lora-modules {name}={place}"


def _served(engine: Engine | None, adapter: Adapter, text_only: bool) -> str:
    """The base as vLLM takes it: a Hub id and its commit, or a folder."""
    base = adapter.record["base"]
    if text_only:
        return "TEXT_MODEL"
    if base["revision"]:
        return f"{shell_word(base['id'])} --revision {shell_word(base['revision'])}"
    return shell_word(str(engine.files.folder)) if engine else "BASE"


def _model_name(engine: Engine | None, adapter: Adapter) -> str:
    """What --model takes for the adapter's base: a preset, a folder or a Hub id."""
    from v2l.store.names import preset_of

    base = adapter.record["base"]
    if preset := preset_of(str(base["id"])):
        return preset.name
    return shell_word(str(engine.files.folder if engine and not base["revision"] else base["id"]))


# The text model.


def export_model(
    name: Annotated[str, argument("NAME", PRESETS)],
    to: Annotated[tuple[str, Path], option("gguf FILE", "The GGUF file to write.", "", "--to", callback=_gguf_only)],
    type: Annotated[TextModelType, option("TYPE", "Store matrices as f32, f16, bf16 or q8_0.",
                                          "as the model stores them")] = TextModelType.auto,
    check: Checked = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Write a merged model although rounding loses much.")]
    = False,
    json: options.Json = False, quiet: options.Quiet = False, offline: options.Offline = False,
) -> None:
    """Write a model's text part for llama.cpp.

    The file answers adapters that `v2l export --to gguf` wrote, with v2l's prompt as its chat template; it sees no
    videos. NAME is what --model takes, or a folder that `v2l export --to merged` wrote.

    \b
      v2l models export 500m --to gguf 500m.gguf
      v2l models export lecture-model --to gguf lecture.gguf --type q8_0
    """
    path, console = to[1], Console(quiet)
    options.preset(name)
    _check_call("gguf", path, "", None, False)
    check_writable(path)
    engine = options.load_engine(console, name, None, "cpu", options.Dtype.float32, offline)
    with console.working("Writing"):
        from v2l.store.foreign.text_model import change_lost, stored_type

        chosen = stored_type(engine.files.folder) if type is TextModelType.auto else type.value
        loss = change_lost(engine.files.folder, chosen)
        if loss is not None:
            _refuse_loss(loss, f"--type {chosen}", "--type f32", force, console)
        _write_text_model(engine, path, chosen)
    facts: dict[str, Any] = {"format": "gguf", "model": engine.files.name, "type": chosen}
    if loss is not None:
        facts["rounding_loss"] = loss
    if check:
        with console.working("Checking"):
            facts["check"] = _check_text_model(engine, path, chosen, console)
    _print(path, facts, json)


def _write_text_model(engine: Engine, path: Path, type: str) -> None:
    from v2l.store.foreign.about import about_base
    from v2l.store.foreign.text_model import export_text_model

    files = engine.files
    export_text_model(files.folder, path, type, files.name, about_base(files, engine.base.fingerprint, type))


ROUNDED = 0.5
"""Largest difference of a first token's log-probability that weights in 8 bits, and products in bfloat16, may make."""


def _check_text_model(engine: Engine, path: Path, type: str, console: Console) -> dict[str, Any]:
    from v2l.store.foreign import check

    limit = check.TOLERANCE if type in ("f32", "f16") else ROUNDED
    compared = check.agreement(engine.base, None, *check.llama(path), limit)
    if not check.tokenizes_alike(path, engine.base):
        raise ModelError(f"{path} is written, but llama.cpp makes other tokens of a question than v2l; try another "
                         "version of it.")
    _note_agreement(compared, path, console)
    return asdict(compared)

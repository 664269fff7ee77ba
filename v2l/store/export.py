"""A hypernetwork of ours as a released `.pt`, which the released code reads (v2l/README.md section 1).

The pickle names classes of that code and of peft, which need not be there: stand-ins are written under their names.
"""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from v2l.config import HypernetConfig
from v2l.errors import ModelError
from v2l.model.folder import hypernetwork_shapes
from v2l.store.pickles import StandIn, stand_in
from v2l.system.files import replacing

if TYPE_CHECKING:
    from v2l.store.resolve import HypernetFiles

# The modules of the released hypernetwork in their order, those without weights too: it is that of the tensors, and
# torch notes each module's version.
_GATED: dict[str, Any] = {"gate_proj": {}, "up_proj": {}, "down_proj": {}, "act_fn": {}}
_BLOCK: dict[str, Any] = {
    "input_latents_layernorm": {}, "input_context_layernorm": {},
    "self_attn": {"q_proj": {}, "k_proj": {}, "v_proj": {}, "o_proj": {}},
    "post_attention_layernorm": {}, "pre_ff_layernorm": {}, "post_ff_layernorm": {}, "mlp": _GATED,
}


def _modules(config: HypernetConfig) -> dict[str, Any]:
    resampler = lambda blocks: {"layers": {str(i): _BLOCK for i in range(blocks)}, "layernorm": {}}
    return {
        "aggregator": {"perceiver": {"modality_projection": _GATED, "encoder": resampler(config.num_blocks),
                                     "decoder": resampler(1)}},
        "layers": {"0": {"mlp": {str(i): {} for i in range(7)}}},
        "bias_A": {}, "bias_B": {}, "scaler_A": {}, "scaler_B": {}, "head": {},
    }


def _names(modules: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of a tree of modules, each before those inside it; the first is the root's, which is empty."""
    yield prefix
    for name, inner in modules.items():
        yield from _names(inner, f"{prefix}.{name}" if prefix else name)


def _instance(dotted: str, **fields: Any) -> StandIn:
    """A stand-in for an object of the class `dotted` with these attributes."""
    kind = stand_in(dotted)
    instance = kind.__new__(kind)
    vars(instance).update(fields)
    return instance


class _Member:
    """A member of an enum: pickled as a call of the enum with the member's value."""

    def __init__(self, dotted: str, value: str) -> None:
        self.kind, self.value = stand_in(dotted), value

    def __reduce__(self) -> tuple[type[StandIn], tuple[str]]:
        return self.kind, (self.value,)


_InPython: Any = pickle._Pickler  # the pickler whose steps can be replaced


class _Pickler(_InPython):  # type: ignore[misc]
    """Writes a stand-in as the global it stands for, without asking whether there is one."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if isinstance(obj, type) and issubclass(obj, StandIn):
            self.write(pickle.GLOBAL + f"{obj.__module__}\n{obj.__name__}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)


def _lora_config(config: HypernetConfig, base: str) -> StandIn:
    """peft's LoraConfig, with the fields and the defaults of the peft version it names."""
    return _instance(
        "peft.tuners.lora.config.LoraConfig",
        task_type="CAUSAL_LM", peft_type=_Member("peft.utils.peft_types.PeftType", "LORA"), auto_mapping=None,
        peft_version="0.21.2", base_model_name_or_path=base, revision=None, inference_mode=False, r=config.rank,
        target_modules={config.target_module}, exclude_modules=None, lora_alpha=float(config.adapter_scale),
        lora_dropout=0.0, fan_in_fan_out=False, bias="none", use_rslora=False, modules_to_save=None,
        init_lora_weights=True, layers_to_transform=None, layers_pattern=None, rank_pattern={}, alpha_pattern={},
        megatron_config=None, megatron_core="megatron.core", trainable_token_indices=None, loftq_config={},
        eva_config=None, corda_config=None, lora_ga_config=None, use_dora=False, velora_config=None,
        alora_invocation_tokens=None, use_qalora=False, qalora_group_size=16, monteclora_config=None,
        layer_replication=None,
        runtime_config=_instance("peft.tuners.lora.config.LoraRuntimeConfig", ephemeral_gpu_offload=False),
        lora_bias=False, target_parameters=None, use_bdlora=None, arrow_config=None, kasa_config=None,
        ensure_weight_tying=False, _custom_modules=None,
    )


def _records(config: HypernetConfig) -> dict[str, Any]:
    """The entries of a released checkpoint that are no tensors."""
    import torch

    target, base = config.target_module, config.base
    aggregator = _instance(
        "ctx_to_lora.modeling.aggregator.AggregatorConfig",
        aggregator_type="perceiver", num_layers=config.num_layers, num_modules=1, num_extra_modules=0,
        output_size=config.latent_size, feature_size=config.hidden_size, pooling_type="mean", num_latent_factor=8,
        lora_r=config.rank, per_rank_gen=True, n_latent_queries=config.num_queries, num_blocks=config.num_blocks,
        num_self_attn_per_block=0, shared_weights=False, layer_to_layer_ctx_encoder=True,
    )
    hypernet = _instance(
        "ctx_to_lora.modeling.hypernet.HypernetConfig",
        latent_size=config.latent_size, use_light_weight_lora=False, light_weight_latent_size=128, per_rank_gen=True,
        use_per_rank_bias=False, use_bias=True, per_layer_processing=False, use_token_mixing=False,
        num_pre_head_layers=1, dropout_rate=0.0, lora_config=_lora_config(config, base), extra_modules=None,
        base_hidden_size=config.hidden_size, layer_indices=torch.arange(config.num_layers),
        feature_sizes=({target: config.d_in}, {target: config.d_out}), aggregator_config=aggregator,
    )
    encoder = _instance(
        "ctx_to_lora.configs.CtxEncoderArguments",
        ctx_encoder_model_name_or_path="precomputed", ctx_encoder_type="per_layer_activations", layer_idx=None,
        quantize_ctx_encoder=False, ctx_encoder_last_layer=None,
    )
    return {"base_model_name_or_path": base, "hypernet_config": hypernet, "ctx_encoder_args": encoder}


def export_released(files: HypernetFiles, path: str | os.PathLike[str], base: str | None = None) -> str:
    """Writes a hypernetwork as the released code saves it: the same names, classes and fields, tensors in float32.

    `base` is the name by which the released code loads the base, by default the one the hypernetwork was trained for;
    that code refuses a checkpoint of another. Returns it. The same hypernetwork gives the same bytes. Raises ModelError
    for one that the released code cannot hold, OutputError where `path` cannot be written.
    """
    import torch
    from safetensors import safe_open

    config = replace(files.config, base=files.config.base if base is None else base)
    _check(config, files.name)
    modules = list(_names(_modules(config)))
    place = {name: number for number, name in enumerate(modules)}
    order = lambda name: (place[name.rpartition(".")[0]], name.endswith(".bias"))
    content: OrderedDict[str, Any] = OrderedDict()
    with safe_open(files.weights, "pt") as stored:
        for name in sorted(hypernetwork_shapes(config), key=order):
            content[name] = stored.get_tensor(name).float()
    content.update(_records(config))
    # What torch gives a module's state_dict: a version for each module.
    content._metadata = OrderedDict((name, {"version": 1}) for name in modules)  # type: ignore[attr-defined]
    with replacing(path) as file:
        torch.save(content, file, pickle_module=SimpleNamespace(__name__="pickle", Pickler=_Pickler))
    return config.base


def _check(config: HypernetConfig, name: str) -> None:
    """ModelError unless the released code would build a hypernetwork of these sizes."""
    fixed = {key: getattr(HypernetConfig, key) for key in ("num_heads", "num_kv_heads", "head_dim")}
    if other := [f"{key} {getattr(config, key)}" for key, size in fixed.items() if getattr(config, key) != size]:
        needed = ", ".join(f"{key} {size}" for key, size in fixed.items())
        raise ModelError(f"{name} has {', '.join(other)}, and the released code is made for {needed} alone, so it "
                         "could not read it; train one with these.")
    if not config.base:
        raise ModelError(f"{name} does not say for which base it was made, which the released code asks; "
                         "name it with --base.")

"""PEFT's `adapter_config.json`: what hatex reads of it, and what it refuses rather than computes wrongly."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from hatex.errors import ModelError

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"

_REASONS: Final = {
    "use_dora": "DoRA (weight-decomposed) adapters are not a low-rank sum",
    "alora_invocation_tokens": "activated LoRA applies to part of the tokens only",
    "lora_bias": "LoRA with a bias on B is not a low-rank sum",
    "modules_to_save": "it carries whole retrained modules",
    "trainable_token_indices": "it carries retrained token embeddings",
    "target_parameters": "it changes parameters that are no linear layers",
    "layer_replication": "it is for a base with replicated layers",
    "fan_in_fan_out": "it is for transposed (Conv1D) layers",
}
_CHANGED_BASE: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that change the base's weights, so that the adapter is wrong on the plain base."""
_READ: Final = frozenset({"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"})
_INERT: Final = frozenset(
    {
        *("task_type", "peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
        *("inference_mode", "target_modules", "exclude_modules", "lora_dropout", "layers_to_transform"),
        *(
            "layers_pattern",
            "megatron_core",
            "qalora_group_size",
            "init_lora_weights",
            "bias",
            "loftq_config",
        ),
        *("eva_config", "lora_ga_config", "corda_config", "ensure_weight_tying", "runtime_config"),
    }
)
"""Keys that say nothing about how the update is computed, or are checked by name."""


_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """The part of an adapter's configuration that its update depends on."""

    r: int
    alpha: float
    rslora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    base_model: str | None

    def rank(self, module: str) -> int:
        """Rank of one module; patterns are matched as PEFT does (a suffix at a dot, read as a regular
        expression).
        """
        return _match(self.rank_pattern, module, self.r)

    def scaling(self, module: str) -> float:
        """alpha/r, with rsLoRA alpha/sqrt(r) (Kalajdzievski 2023)."""
        rank, alpha = self.rank(module), _match(self.alpha_pattern, module, self.alpha)
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def load_peft_config(folder: Path) -> PeftConfig:
    """Read `folder`/adapter_config.json; raises `ModelError` for anything but plain LoRA on linear layers."""
    path = folder / CONFIG
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"no {CONFIG}: not a PEFT adapter", where=str(folder)) from error
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError("not valid JSON", where=str(path)) from error
    if not isinstance(record, dict):
        raise ModelError("not a JSON object", where=str(path))
    if problem := _problem(record):
        raise ModelError(problem, where=str(path), hint="hatex takes plain LoRA adapters in PEFT's format")
    base = record.get("base_model_name_or_path")
    return PeftConfig(
        r=record["r"],
        alpha=float(record["lora_alpha"]),
        rslora=bool(record.get("use_rslora")),
        rank_pattern=record.get("rank_pattern") or {},
        alpha_pattern=record.get("alpha_pattern") or {},
        base_model=base if isinstance(base, str) else None,
    )


def dump_peft_config(config: PeftConfig, modules: tuple[str, ...], *, dropout: float) -> str:
    """The configuration as PEFT writes it, for `PeftModel.from_pretrained` and vLLM."""
    record = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": config.base_model,
        "inference_mode": True,
        "r": config.r,
        "lora_alpha": _whole(config.alpha),
        "lora_dropout": dropout,
        "use_rslora": config.rslora,
        "rank_pattern": dict(config.rank_pattern),
        "alpha_pattern": {key: _whole(value) for key, value in config.alpha_pattern.items()},
        "target_modules": list(modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
    }
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def _problem(record: Mapping[str, Any]) -> str | None:
    kind = record.get("peft_type")
    if kind != "LORA":
        return f"peft_type {kind!r} is not LORA"
    for key, reason in _REASONS.items():
        if record.get(key):
            return f"{key}: {reason}"
    if record.get("bias", "none") != "none":
        return "bias: it changes the biases of the base"
    start = record.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        return f"init_lora_weights {start!r}: it needs a base whose weights were changed"
    for key in sorted(set(record) - _READ - _INERT - set(_REASONS)):
        if record[key]:
            return f"{key} is set: hatex does not know what it does to the update"
    return _number_problem(record)


def _number_problem(record: Mapping[str, Any]) -> str | None:
    if not _is_rank(record.get("r")):
        return "r must be a positive whole number"
    if not _is_alpha(record.get("lora_alpha")):
        return "lora_alpha must be a number"
    for key, is_valid in (("rank_pattern", _is_rank), ("alpha_pattern", _is_alpha)):
        pattern = record.get(key) or {}
        if not isinstance(pattern, dict) or not all(map(is_valid, pattern.values())):
            return f"{key} must map module names to numbers"
        for name in pattern:
            try:
                re.compile(name)
            except re.error:
                return f"{key}: {name!r} is not a valid pattern"
    return None


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 20


def _is_alpha(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _match(pattern: Mapping[str, _Number], module: str, default: _Number) -> _Number:
    for key, value in pattern.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value

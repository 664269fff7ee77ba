"""Fuzzed folders of a base model: its JSON, its tokenizer, its safetensors and what says which there are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import torch

from reliability import mutations
from reliability.tensors import second_opinion
from v2l.model.base import Base
from v2l.model.generate import next_logits
from v2l.model.prompt import question_prompt
from v2l.store.resolve import find_base

REFERENCE = Path(__file__).parents[1] / "reference" / "tiny-vlm"
_WORDS = (
    "auto_map",
    "trust_remote_code",
    "_name_or_path",
    "rope_scaling",
    "head_dim",
    "quantization_config",
    "tie_word_embeddings",
)
_INDEX = "model.safetensors.index.json"
_TRAP = "from reliability.fuzz import fire\nfire()\nclass Evil:\n    from_pretrained = fire\n"


class Bases:
    """The reference base, one file of its folder changed. There is code in the folder too, which nobody may run."""

    name = "base"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "model"
        shutil.copytree(REFERENCE, self.folder)
        self.folder.chmod(0o755)
        (folder / "secret.safetensors").write_bytes((REFERENCE / "model.safetensors").read_bytes())
        for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py", "__init__.py", "setup.py"):
            (self.folder / name).write_text(_TRAP)
        weights = mutations.parts((self.folder / "model.safetensors").read_bytes())[0]
        self.files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        config = json.loads(self.files["config.json"])
        evil = {
            "AutoConfig": "configuration_evil.Evil",
            "AutoModel": "modeling_evil.Evil",
            "AutoTokenizer": ["tokenization_evil.Evil", None],
            "AutoModelForImageTextToText": "modeling_evil.Evil",
        }
        config |= {"auto_map": evil, "trust_remote_code": True}
        self.files["config.json"] = json.dumps(config).encode()
        self.index = {
            "metadata": {"total_size": 1},
            "weight_map": {name: "model.safetensors" for name in list(weights)[:5]},
        }
        self.changed = ""
        for name, data in self.files.items():
            (self.folder / name).write_bytes(data)
        self.logits = self._asked()

    def write(self, random: Random) -> bool:
        if self.changed == _INDEX:
            (self.folder / _INDEX).unlink(missing_ok=True)
        elif self.changed:
            (self.folder / self.changed).write_bytes(self.files[self.changed])
        self.changed = random.choice(
            ["config.json"] * 6
            + ["tokenizer.json"] * 4
            + ["model.safetensors"] * 4
            + [_INDEX] * 2
            + ["preprocessor_config.json", "processor_config.json"]
        )
        file = self.folder / self.changed
        if random.random() < 0.02:
            return self.changed != _INDEX
        if self.changed == _INDEX:
            file.write_bytes(mutations.dumped(random, mutations.of_json(random, json.loads(json.dumps(self.index)))))
            return False
        data = self.files[self.changed]
        if self.changed == "model.safetensors":
            header, tensors = mutations.parts(data)
            if random.random() < 0.2:
                data = mutations.of_bytes(random, data, len(data) - len(tensors))
            else:
                header, tensors = mutations.of_safetensors(random, header, tensors)
                data = mutations.framed(mutations.dumped(random, header), tensors)
        elif random.random() < 0.1:
            data = mutations.of_bytes(random, data)
        else:
            data = mutations.dumped(random, mutations.of_json(random, json.loads(data), _WORDS))
        file.write_bytes(data)
        return False

    def read(self) -> None:
        logits = self._asked()
        weights = (self.folder / "model.safetensors").read_bytes()
        if self.changed == "model.safetensors":
            second_opinion(weights)
        elif self.changed in ("preprocessor_config.json", "processor_config.json", _INDEX):
            assert logits.equal(self.logits), "another answer"

    def _asked(self) -> torch.Tensor:
        """The logits after a question, the vision tower having seen a tile."""
        files = find_base(str(self.folder))
        base = Base(files.folder, torch.device("cpu"), torch.float32)
        assert base.fingerprint.startswith("sha256:")
        assert len(base.see([np.zeros((1, base.tile, base.tile, 3), np.uint8)])) == base.image_seq_len
        return next_logits(base, None, base.encode(question_prompt("What happens?"))[:64])

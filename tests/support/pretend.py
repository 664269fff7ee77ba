"""A GPU that is not there: tensors that say they are on cuda or mps and hold CPU values.

Whatever looks at a tensor's device takes the GPU's side. An operation on tensors of two devices raises, as it does in
CUDA, and so does a dtype that the device has not. Its values are those a CPU computes, so they can be held against one.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

_COPIES = {"aten::_to_copy", "aten::copy_", "aten::_foreach_copy_"}
_WAITS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"}
_INDEXING = {"aten::index", "aten::index_put_", "aten::index_put"}


class Pretended(Tensor):
    """A tensor with the device it claims and the CPU's tensor it holds."""

    held: Tensor
    claimed: torch.device

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> Pretended:
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device="meta")
        made.held, made.claimed = held, device
        return made

    @property
    def device(self) -> torch.device:
        return self.claimed

    def cpu(self) -> Tensor:
        return self.to("cpu")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __getitem__(self, index: Any) -> Tensor:
        places = lambda part: torch.tensor(list(part), dtype=torch.int64, device=self.device)
        there = lambda part: places(part) if isinstance(part, (list, range)) else part
        return super().__getitem__(tuple(map(there, index)) if isinstance(index, tuple) else there(index))

    def numpy(self) -> Any:
        raise TypeError("can't convert a device's tensor to numpy; use .cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} of a tensor of a pretended device, outside of it")


class Pretence(TorchDispatchMode):
    """For as long as it is entered, `device` is there. `forbidden` are dtypes that it has not."""

    def __init__(self, device: str, forbidden: Sequence[torch.dtype] = ()) -> None:
        super().__init__()
        self.device, self.forbidden = torch.device(device), forbidden
        self.called: Counter[str] = Counter()
        """How often each operation was called on the device."""
        self.waits = 0
        """How often the CPU had to wait for values of the device."""
        self.sent = 0
        """How often values of the CPU were copied to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.name().partition(".")[0]
        if name != "aten::detach":
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        pretended = [x for x in tensors if isinstance(x, Pretended)]
        device = pretended[0].device if pretended else torch.device("cpu")
        if kwargs.get("device") is not None:
            device = torch.device(kwargs["device"])
            if device.type == "meta" and torch.get_default_device().type != "meta":
                device = self.device  # what torch's C++ makes beside a wrapper, which to it is on meta
            if device.type != "meta":
                kwargs["device"] = torch.device("cpu")
        others = [x for x in tensors if not isinstance(x, Pretended) and x.device.type != "meta"]
        self._check_devices(name, args, tensors, pretended)
        if device.type not in ("cpu", "meta"):
            self.called[name] += 1
        self.waits += bool(pretended) and (device.type == "cpu" or name in _WAITS)
        self.sent += device.type not in ("cpu", "meta") and name in _COPIES and any(x.dim() for x in others)
        bare = lambda x: x.held if isinstance(x, Pretended) else x
        out = func(*tree_map(bare, args), **tree_map(bare, kwargs))
        if device.type in ("cpu", "meta"):
            return out
        known = {id(x.held): x for x in pretended}  # what works in place returns what it was given
        return tree_map(lambda x: self._wrapped(x, device, known, name), out)

    def _wrapped(self, x: Any, device: torch.device, known: dict[int, Pretended], name: str) -> Any:
        if not isinstance(x, Tensor) or isinstance(x, Pretended):
            return x
        if x.dtype in self.forbidden:
            raise TypeError(f"{name} on {device} gives {x.dtype}, which it has not")
        return known[id(x)] if id(x) in known else Pretended(x, device)

    @staticmethod
    def _check_devices(name: str, args: Any, tensors: list[Tensor], pretended: list[Pretended]) -> None:
        others = [x for x in tensors if not isinstance(x, Pretended) and x.dim() > 0 and x.device.type != "meta"]
        if not pretended or not others or name in _COPIES:
            return
        if name in _INDEXING and isinstance(args[0], Pretended):  # a CPU's indices will do
            others = [x for x in others if not any(x is index for index in args[1])]
        if others:
            raise RuntimeError(f"Expected all tensors to be on the same device: {name}")


def _without_gradients(mode: Any) -> None:
    mode.before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)


def _as_before(mode: Any, *_: object) -> None:
    torch.set_grad_enabled(mode.before)


@contextlib.contextmanager
def pretended(device: str, forbidden: Sequence[torch.dtype] = ()) -> Iterator[Pretence]:
    """Makes `device` be there for as long as the context lasts."""
    made = torch.tensor

    def tensor(data: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return made(data, dtype=dtype).to(device or "cpu")

    with pytest.MonkeyPatch.context() as patch, Pretence(device, forbidden) as pretence:
        patch.setattr(torch, "tensor", tensor)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        # A wrapper's views cannot be inference tensors; without gradients is what is left of that mode.
        patch.setattr(torch.inference_mode, "__enter__", _without_gradients)
        patch.setattr(torch.inference_mode, "__exit__", _as_before)
        yield pretence


_FREE = {"alias", "as_strided", "detach", "empty", "empty_like", "expand", "mT", "new_empty", "permute", "reshape",
         "select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unflatten",
         "unsqueeze", "view", "_reshape_alias", "_unsafe_view"}
"""Operations without arithmetic and without a copy."""
_WHOLE = ("rms_norm", "scaled_dot_product_attention")
"""Functions that a GPU computes in one operation."""


class Operations(TorchDispatchMode):
    """Counts what is computed, on a pretended device or not. A `flatten` or `to` that copies counts by its copy."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        if name != "detach":
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        self.count += name not in _FREE
        return func(*args, **(kwargs or {}))

    def as_one(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The function, which counts as one operation whatever it is made of."""
        def whole(*args: Any, **kwargs: Any) -> Tensor:
            before = self.count
            made = function(*args, **kwargs)
            self.count = before + 1
            return made

        return whole


@contextlib.contextmanager
def operations() -> Iterator[Operations]:
    """What is counted for as long as the context lasts."""
    with pytest.MonkeyPatch.context() as patch, Operations() as counted:
        for name in _WHOLE:
            patch.setattr(F, name, counted.as_one(getattr(F, name)))
        yield counted

"""The errors v2l raises on purpose: one sentence that says what was wrong, with which file, and the way out."""

from __future__ import annotations

import os
import traceback
from textwrap import shorten


class V2LError(Exception):
    """An input failed. The command line prints the message and exits with `exit_status`."""

    exit_status = 1


class UsageError(V2LError):
    """The call itself is wrong: options that contradict each other, a question without an adapter."""

    exit_status = 2


class VideoError(V2LError):
    """A video that cannot be read: missing, not a video, truncated, without frames."""


class AdapterError(V2LError):
    """A `.v2lora` file that is damaged, or that does not fit the model or its companions."""


class ModelError(V2LError):
    """A base model or hypernetwork that is missing, damaged, or does not fit its partner."""


class OutputError(V2LError):
    """A place that cannot be written."""


class DeviceWarning(UserWarning):
    """A GPU that is there and cannot be used, so that the CPU computes."""


_NO_MEMORY = (
    "can't allocate memory", "not enough memory",  # a tensor, on Linux and on Windows
    "Cannot allocate memory", "paging file is too small",  # a mapped file
    "out of memory",  # CUDA, HIP and Metal, in an allocation or in a kernel
    "ALLOC_FAILED",  # cuBLAS, cuDNN
    "Invalid buffer size", "total bytes of NDArray",  # one array that is larger than Metal takes
)
"""What an error of torch or of the system says where memory did not suffice."""


def is_memory(error: BaseException) -> bool:
    """Whether an error means that the memory did not suffice."""
    # torch tells some full GPUs by a class of its own, all others by words; torch may not be imported here.
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or (isinstance(error, (RuntimeError, OSError)) and any(words in str(error) for words in _NO_MEMORY)))


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("V2L_DEBUG", "") not in ("", "0")


_NOT_MAPPED = "failed to map segment"
"""What the system says of a library for which there is no memory, or that lies where no programs may."""
_REASON = 100
"""Characters of what another package says, at most: torch lists all that it would take."""


def sentence(error: Exception, subject: str = "") -> str:
    """What is told of an error, one that was not raised on purpose too; `subject` stands before such."""
    if isinstance(error, V2LError):
        return str(error)
    if is_memory(error):
        return f"{subject}The memory did not suffice; use fewer --frames, a smaller --resolution or another --device."
    if package := _not_loaded(error):
        if _NOT_MAPPED in str(error):
            return (f"{subject}{package} cannot be loaded ({shorten(str(error), _REASON)}); check how much memory this "
                    "process may take (ulimit -v), and that programs may lie where it is installed (noexec).")
        prefix = "HF" if package == "huggingface_hub" else package.upper()
        return (f"{subject}{package} cannot be loaded ({type(error).__name__}: {shorten(str(error), _REASON)}); "
                f"check how it is installed, and the variables that it reads ({prefix}_...).")
    return (f"{subject}This is a bug in v2l ({type(error).__name__}: {str(error) or 'no message'}); "
            "set V2L_DEBUG=1 to see where it happened.")


def _not_loaded(error: BaseException) -> str:
    """The package of others that failed while it was being imported; empty where none did."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if frame.f_code.co_name == "<module>" and package not in ("v2l", "__main__"):
            return str(package)
    return ""


def not_finite(way: str, what: str = "") -> V2LError:
    """The error of an answer whose numbers are not finite, with the way out besides getting files again; `what` says,
    where it is known, which adapter gives no answer."""
    if what:
        return AdapterError(f"{what}, because with it the model's numbers are not finite: it was damaged, or made so; "
                            f"get it again, or {way}.")
    return ModelError("There is no answer, because the model's numbers are not finite: the adapter or the weights are "
                      f"damaged, or were made so; get them again, or {way}.")

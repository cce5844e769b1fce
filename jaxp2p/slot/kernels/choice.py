"""What works the homes out: programs that XLA makes, or kernels of our own that read every home once."""

import jax

from jaxp2p.model.types import Market
from jaxp2p.slot.prox.prosumer import UNROLL_LIMIT

KERNELS = ("auto", "xla", "fused", "interpret")  # auto: fused where there is a CUDA device


def fused(kernels: str) -> bool:
    """Whether kernels of our own are asked for.

    Raises ValueError for an unknown name, and for one that asks for them where this JAX cannot write them.
    """
    if kernels not in KERNELS:
        raise ValueError(f"unknown kernels {kernels!r}: choose from {', '.join(KERNELS)}")
    if kernels == "xla" or (kernels == "auto" and jax.default_backend() != "gpu"):
        return False
    if not available() and kernels != "auto":
        raise ValueError(f"kernels {kernels!r} need a newer JAX than {jax.__version__}: 'xla' does without")
    return available()


def available() -> bool:
    """Whether this JAX has what they are written in, which is still on the move."""
    try:
        from jax.experimental.pallas import triton
    except ImportError:
        return False
    return all(hasattr(triton, name) for name in ("load", "store", "CompilerParams"))


def suits_kernel(market: Market) -> bool:
    """Whether the trades of a home fit into the registers of a kernel."""
    return market.fee.shape[0] <= UNROLL_LIMIT


def interpreted(kernels: str) -> bool:
    """Whether they run as XLA programs, on any device: for tests."""
    return kernels == "interpret"

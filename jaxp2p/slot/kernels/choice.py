"""What works the homes out: programs that XLA makes, or kernels of our own that read every home once."""

import jax

from jaxp2p.model.types import Market
from jaxp2p.slot.prox.prosumer import UNROLL_LIMIT

KERNELS = ("auto", "xla", "fused", "interpret")  # auto: fused where there is a CUDA device


def fused(kernels: str) -> bool:
    """Whether kernels of our own are asked for. Raises ValueError for an unknown name."""
    if kernels not in KERNELS:
        raise ValueError(f"unknown kernels {kernels!r}: choose from {', '.join(KERNELS)}")
    return kernels in ("fused", "interpret") or (kernels == "auto" and jax.default_backend() == "gpu")


def suits_kernel(market: Market) -> bool:
    """Whether the trades of a home fit into the registers of a kernel."""
    return market.fee.shape[0] <= UNROLL_LIMIT


def interpreted(kernels: str) -> bool:
    """Whether they run as XLA programs, on any device: for tests."""
    return kernels == "interpret"

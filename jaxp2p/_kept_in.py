"""Where lowered programs are kept from run to run: said before JAX is imported, which `_lowered` does."""

LOWERED = "JAXP2P_LOWERED_DIR"  # variable of the environment

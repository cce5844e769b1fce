"""The community, its market and network, and what happened to them."""

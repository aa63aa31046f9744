"""The JiT transformer over a list of streams."""

from lf.network.jit import SIZES, Network, NetworkConfig

__all__ = ["SIZES", "Network", "NetworkConfig"]

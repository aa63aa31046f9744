"""Figures of a sweep, one module per kind; `draw` draws all of them, `write` writes them as PNG and PDF."""

from analysis.figures.style import STYLE
from analysis.figures.sweep import draw, png, write

__all__ = ["STYLE", "draw", "png", "write"]

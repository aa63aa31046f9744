"""Published numbers for comparison: which table of results/paper/ belongs to a sweep, and which row to which cell.

For rows of the published data set they are a column; for others, they are a separate table below, to compare trends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.results import PAPER


@dataclass(frozen=True)
class Published:
    """A table of results/paper/.

    Attributes:
        file: name of the file.
        where: publication.
        on: label of a sweep → column of the table.
        names: label's value → its name in the table, where they differ.
        only: values that other labels must have for the table to apply.
    """

    file: str
    where: str
    on: Mapping[str, str]
    names: Mapping[Any, Any] = field(default_factory=dict)
    only: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> pd.DataFrame:
        """The published table."""
        return pd.read_csv(PAPER / f"{self.file}.csv")

    def beside(self, table: pd.DataFrame) -> pd.Series:
        """The published score of each row of a sweep's table, guided if the row is; missing if there is none."""
        rows = self.rows.set_index(list(self.on.values()))
        found = []
        for _, cell in table.iterrows():
            guided = cell.get("guidance", "none") != "none"
            end = "_guided" if guided else "unguided"
            columns = [c for c in map(str, rows) if c.startswith("fid") and c.endswith(end)]
            keys = [self.names.get(cell[label], cell[label]) for label in self.on]
            key: Any = tuple(keys) if len(keys) > 1 else keys[0]
            fits = columns and all(cell.get(k) == v for k, v in self.only.items()) and key in rows.index
            found.append(rows.at[key, columns[0]] if fits else None)
        return pd.Series(found, index=table.index, dtype=float)


LF = "LF, arXiv 2602.11401, ImageNet-256"
KINDS = {"JiT": "JiT", "JiT+REPA": "JiT+REPA", "LF": "LF-DiT"}
PUBLISHED: dict[str, tuple[Published, ...]] = {
    "order_ablation": (
        Published("table01_order", f"{LF}, Table 1: one independent model a latent, FID-10K",
                  {"latent": "latent", "alpha": "alpha"}, {"pixels": "pixels64"}),
    ),
    "single_schedule": (
        Published("table08_single_schedule", f"{LF}, Table 8, FID-10K", {"model": "schedule"},
                  {"offset": "offset_0.1", "shifted": "shifted_9"}),
    ),
    "p_latent": (Published("table02_p_latent", f"{LF}, Table 2, FID-10K", {"p_latent": "p_latent"}),),
    "p_mean_d_mean": (
        Published("table03_d_mean", f"{LF}, Table 3, FID-10K", {"D_mean": "D_mean"}),
        Published("table04_p_mean", f"{LF}, Table 4, FID-10K", {"P_mean": "P_mean"}),
    ),
    "components": (
        Published("table05_components", f"{LF}, Table 5, FID-10K", {"components": "variant"},
                  {"all": "full", "no experts": "no_output_experts", "no early pixels": "no_early_pixel_times"}),
    ),
    "latent_noise": (
        Published("table06_latent_noise", f"{LF}, Table 6, FID-10K", {"latent_noise": "beta", "length": "epochs"},
                  {"short": 80, "long": 200}),
    ),
    "inference_noise": (
        Published("table07_inference_noise", f"{LF}, Table 7 (β 0.25, 200 epochs), FID-10K",
                  {"inference_noise": "inference_noise"}),
    ),
    "distillation": (
        Published("table09_conditional", f"{LF}, Table 9: with labels, FID-50K",
                  {"model": "model", "latent": "latent"}, KINDS, {"labels": "conditional"}),
        Published("table10_unconditional", f"{LF}, Table 10: without labels, FID-50K",
                  {"model": "model", "latent": "latent"}, KINDS, {"labels": "unconditional"}),
    ),
    "diffusability": (
        Published("table11_system", f"{LF}, Table 11: the tokenizer's PSNR beside FID-50K", {}),
    ),
    "system": (
        Published("table11_system", f"{LF}, Table 11, FID-50K", {"model": "model"}, {"JiT": "JiT-L", "LF": "LF-DiT-L"}),
        Published("peers_imagenet256", "ImageNet-256, FID-50K, as published by each", {}),
    ),
}  # fmt: skip


def tables_of(sweep: str) -> tuple[Published, ...]:
    """The published tables of a sweep, also by the name of its report (``order_ablation-digits``)."""
    return PUBLISHED.get(sweep.partition("-")[0], ())

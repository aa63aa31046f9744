"""`python -m analysis.notebooks [NAME …]`: writes, runs and saves the notebooks, one per group of figures.

    python -m analysis.notebooks
    python -m analysis.notebooks order noise

All notebooks are generated from one template. They read ``results/``, train nothing and need no GPU.
"""

from pathlib import Path

import nbformat
from IPython.display import Markdown, display
from nbclient import NotebookClient

import analysis
from analysis import results, tables
from analysis.figures import draw
from analysis.findings import findings
from lf.core.cli import Parser, run_command
from lf.core.errors import UserError, nearest

FOLDER = Path("notebooks")  # of the working folder
GROUPS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "order": (
        "Does the order of denoising matter, and which schedule is best?",
        "A model that denoises pixels *and* a latent may settle either of them first. Along a `shifted` path the "
        "latent runs ahead of the pixels where α > 1; along `cascaded` it is finished before the first pixel moves. A "
        "flat line over α means that order does not matter for that latent. In the measured figures, the square is "
        "all pairs of times; a path is a way through it from noise to a clean image.",
        ("order_ablation", "single_schedule"),
    ),
    "training": (
        "Where should training put its samples, and which parts matter?",
        "The share of samples that train the latent, the means of both streams' training densities, and what is lost "
        "without output experts or without early pixel times.",
        ("p_latent", "p_mean_d_mean", "components"),
    ),
    "noise": (
        "How much noise should finished latents keep?",
        "In training (β), for a short and a long one; and at inference.",
        ("latent_noise", "inference_noise"),
    ),
    "distillation": (
        "Ordering against distillation",
        "Latents that are generated first, against latents that a network is only aligned to (REPA): with and without "
        "labels, and by the place where the alignment acts; and whole systems.",
        ("distillation", "repa_placement", "system"),
    ),
    "diffusability": (
        "Does a tokenizer's reconstruction predict how well its latents are generated?",
        "Tokenizers of several rates, with and without alignment: reconstruction on one axis, generation on the other.",
        ("diffusability",),
    ),
    "guidance": (
        "Which guidance suits a trained network?",
        "Trials of a search over scales, kinds and shifts: one after the other, and over the scales of both streams.",
        ("guidance-*",),
    ),
}


def show(pattern: str) -> None:
    """Shows table, findings and figures of committed results, if there are any (``guidance-*``: of all searches)."""
    found = results.committed_names(pattern)
    for name in found:
        _show(name)
    if not found:
        print(f"{pattern}: no results yet")


def _show(name: str) -> None:
    frame = analysis.load(name, runs=None)
    question = frame.attrs["question"].partition("\n")[0]
    words = f"`{' '.join(frame.attrs['words'])}`" if frame.attrs["words"] else ""
    title = f"### {name}\n\n{question if question != name else ''}\n\n{words}"
    display(Markdown(title))  # type: ignore[no-untyped-call]
    display(Markdown(tables.markdown(frame)))  # type: ignore[no-untyped-call]
    display(Markdown("\n".join(f"- {line}" for line in findings(frame))))  # type: ignore[no-untyped-call]
    for title, figure in draw(frame, None).items():
        display(Markdown(f"**{title}**"), figure)  # type: ignore[no-untyped-call]


def notebook(name: str) -> nbformat.NotebookNode:
    """A new notebook, not run yet."""
    title, text, sweeps = GROUPS[name]
    made = [
        "    python -m sweeps.guidance RUN …  # with the words in results/guidance-ID/sweep.json\n"
        "    python -m analysis.export guidance-ID"
        if sweep == "guidance-*"
        else f"    python -m sweeps.launch {sweep} seeds=[0,1,2]\n    python -m analysis.export {sweep}"
        for sweep in sweeps
    ]
    start = (
        "%matplotlib inline\nfrom pathlib import Path\n\nimport matplotlib.pyplot as plt\n\n"
        "from analysis import figures, results\nfrom analysis.notebooks import show\n\n"
        "results.RESULTS = Path(RESULTS).resolve()\nplt.rcParams.update(figures.STYLE)"
    )
    v4 = nbformat.v4
    cells = [
        v4.new_code_cell('RESULTS = "../results"  # the toy\'s; full results are a folder of the same form'),
        v4.new_markdown_cell(f"# {title}\n\n{text}\n\nThe numbers were made by\n\n" + "\n".join(made)),
        v4.new_code_cell(start),
        *(v4.new_code_cell(f'show("{sweep}")') for sweep in sweeps),
        v4.new_markdown_cell(
            "Toy results (32-pixel procedural images, networks of 1.4 M parameters) can show whether an effect is "
            "there and which way it goes. They say nothing about its size on photographs, and `FD-shapes` is no FID."
        ),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"{name}-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def run(name: str) -> nbformat.NotebookNode:
    """The notebook with its outputs, run by a kernel in ``notebooks/``."""
    made = notebook(name)
    where = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(made, timeout=600, kernel_name="python3", resources=where, record_timing=False).execute()
    return made


def main(argv: list[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"notebooks; by default all: {', '.join(GROUPS)}")
    names = parser.parse_args(argv).names
    for name in names:
        if name not in GROUPS:
            raise UserError(f"{name}: no such notebook; {nearest(name, GROUPS)}")
    FOLDER.mkdir(exist_ok=True)
    for name in names or GROUPS:
        nbformat.write(run(name), FOLDER / f"{name}.ipynb")
        print(FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    run_command(main)

"""Three streams along points from a file, and a sweep of them."""

LATENTS = "latents=[{name: tiny, steps: 5, width: 8}, {name: pixels, cells: 2}]"
POINTS = "tiny: [0, 0.8, 1, 1]\npixels: [0, 0, 0.2, 1]\npixels_latent: [0, 0.1, 0.9, 1]\npiece_steps: [1, 2, 1]\n"
SWEEP = """
def cells(launch):
    for order in (["tiny", "pixels_latent", "pixels"], ["pixels", ["tiny", "pixels_latent"]]):
        path = {"name": "cascaded", "order": order}
        training = launch.train(schedule={"name": "points", "points": "path.yaml"})
        yield Cell({"order": str(order), "seed": 0}, training, launch.evaluate(path=path, steps=6))


from sweeps.cells import Cell
"""

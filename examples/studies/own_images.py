"""A study of one's own images and model: a folder of classes, and whether Lookbehind helps there.

export LOOKBEHIND_DATA=my_data               # the folder of the data sets
python examples/studies/own_images.py        # writes images to my_data/my_images, in place of yours
lookbehind run examples/studies/own_images.py --scale smoke
lookbehind report examples/studies/own_images.py --scale smoke
"""

from torch import nn

from lookbehind.data import default_root, read_folder
from lookbehind.lab import Row, Study, Table, Workload, chosen_on_validation, grid

study = Study("Lookbehind on my own images")


@study.dataset(train=1797, channels=1, size=8, classes=10, folder="my_images")
def my_images(folder, size):
    """Read my_images/<class>/<image>.png."""
    return read_folder(folder, size, channels=1)


@study.model
def my_net(channels: int, classes: int) -> nn.Module:
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


SMALL = Workload(dataset="my_images", model="my_net", train=400, epochs=2, batch=50, schedule="cosine")
study.compare("My images, my net", SMALL)


@study.item("SGD, SAM and Lookbehind at equal cost")
def accuracy(scale: str):
    """Return a table of test accuracies; each setting is chosen on validation images."""
    workload, seeds = (SMALL.for_epochs(24), range(5)) if scale == "cpu" else (SMALL, range(3))
    radii = (0.1, 0.2) if scale == "cpu" else (0.1,)
    rows = {
        "SGD": grid(workload, "base", seeds, budget=3, lr=(0.05, 0.1) if scale == "cpu" else (0.1,)),
        "SAM": grid(workload, "sam", seeds, budget=3, perturbation="sam", rho=radii),
        "Lookbehind": grid(workload, "lookbehind", seeds, budget=3, perturbation="sam", rho=radii, k=2, alpha=0.8),
    }
    cells = tuple(Row(name, (chosen_on_validation(candidates),)) for name, candidates in rows.items())
    return [Table("Test accuracy (%)", ("my images, my net",), cells, against="SGD")]


if __name__ == "__main__":
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = default_root() / "my_images" / f"class{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype("uint8")).save(path)
    print(f"Written: {number + 1} images in {default_root() / 'my_images'}")

"""Makes a small set of several labels an image of the blood cell images: which kinds of cells each one shows.

    python -m experiments.benchmarks.blood_cell_labels ../shared/data/bccd/BCCD blood
    supernet experiment=chest data=labelled_folder data.path=blood 'data.size=[60,80]' data.flip=true

The folder has train, val and test images of the set's own lists, and labels.csv. Two of the three labels almost always
apply: there are few "no"s to learn from and to judge by.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

CELLS = ("WBC", "RBC", "Platelets")
NAMES = ("white", "red", "platelets")


def rows(root: Path) -> Iterator[tuple[str, str, list[int]]]:
    """(name of an image, its part, whether each kind of cell is in it), of a folder as Pascal VOC's."""
    for part in ("train", "val", "test"):
        for name in (root / "ImageSets" / "Main" / f"{part}.txt").read_text().split():
            found = ElementTree.parse(root / "Annotations" / f"{name}.xml").iter("name")
            shown = {element.text for element in found}
            yield name, part, [int(cell in shown) for cell in CELLS]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder BCCD, with Annotations, ImageSets and JPEGImages")
    parser.add_argument("folder", type=Path, help="what is made; it must not exist")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True)
    with (asked.folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "split", *NAMES))
        for name, part, shown in rows(asked.root):
            shutil.copyfile(asked.root / "JPEGImages" / f"{name}.jpg", asked.folder / f"{name}.jpg")
            writer.writerow((f"{name}.jpg", part, *shown))


if __name__ == "__main__":
    main()

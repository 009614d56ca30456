"""Writes a set of pictures with boxes as VOC, COCO or YOLO folders; what the tests of the three readers share."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("cell", "dot", "rod")  # by the alphabet, as VOC numbers them


def drawn(count=12, size=(96, 64), seed=0):
    """For each picture: its pixels, and (class, x1, y1, x2, y2) of its boxes in whole pixels; one has none."""
    random = np.random.default_rng(seed)
    pictures = []
    for number in range(count):
        pixels = random.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)
        boxes = []
        for _ in range(0 if number == 3 else random.integers(1, 6)):
            width, height = random.integers(4, 30, 2)
            x, y = random.integers(0, size[0] - width), random.integers(0, size[1] - height)
            boxes.append((int(random.integers(3)), int(x), int(y), int(x + width), int(y + height)))
            pixels[y : y + height, x : x + width] = 200
        pictures.append((pixels, boxes))
    return pictures


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def parts_of(pictures):
    return {"train": pictures[:8], "val": pictures[8:10], "test": pictures[10:]}


def annotation(name, size, boxes, names=NAMES, more=""):
    objects = "".join(
        f"<object><name>{names[c]}</name>{more}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for c, x1, y1, x2, y2 in boxes
    )
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    where = f"<filename>{name}</filename><path>C:\\elsewhere\\{name}</path>"
    return f"<annotation>{where}{sides}{objects}</annotation>"


def write_voc(root, parts, names=NAMES):
    """As the devkit has it: JPEGImages, Annotations and ImageSets/Main."""
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for part, pictures in parts.items():
        stems = [f"{part}_{n}" for n in range(len(pictures))]
        for stem, (pixels, boxes) in zip(stems, pictures, strict=True):
            save(root / "JPEGImages" / f"{stem}.png", pixels)
            text = annotation(f"{stem}.png", pixels.shape[1::-1], boxes, names)
            (root / "Annotations" / f"{stem}.xml").write_text(text)
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(stems) + "\n")
    return root


def document(part, pictures, names=NAMES):
    images, annotations = [], []
    for n, (pixels, boxes) in enumerate(pictures):
        height, width = pixels.shape[:2]
        images.append({"id": 100 + 7 * n, "file_name": f"{part}_{n}.png", "width": width, "height": height})
        annotations += [
            {"id": 0, "image_id": 100 + 7 * n, "category_id": 5 + 10 * c, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for c, x1, y1, x2, y2 in boxes
        ]
    categories = [{"id": 5 + 10 * c, "name": name} for c, name in reversed(list(enumerate(names)))]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root, parts, names=NAMES):
    """As COCO has it: annotations/instances_<part>2017.json beside <part>2017/."""
    (root / "annotations").mkdir(parents=True)
    for part, pictures in parts.items():
        said = document(part, pictures, names)
        (root / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(said))
        for image, (pixels, _) in zip(said["images"], pictures, strict=True):
            save(root / f"{part}2017" / image["file_name"], pixels)
    return root


def line(box, size):
    c, x1, y1, x2, y2 = box
    width, height = size
    middle = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return " ".join([str(c), *map(repr, middle)])


def write_yolo(root, parts, names=NAMES):
    """A data.yaml, images/<part> and labels/<part>; pictures without objects have no .txt file."""
    for part, pictures in parts.items():
        (root / "labels" / part).mkdir(parents=True)
        for n, (pixels, boxes) in enumerate(pictures):
            save(root / "images" / part / f"{part}_{n}.png", pixels)
            if boxes:
                text = "\n".join(line(box, pixels.shape[1::-1]) for box in boxes)
                (root / "labels" / part / f"{part}_{n}.txt").write_text(text + "\n")
    places = "".join(f"{part}: images/{part}\n" for part in parts)
    (root / "data.yaml").write_text(f"path: /nowhere/at/all\n{places}nc: {len(names)}\nnames: {list(names)}\n")
    return root


WRITERS = {"voc": write_voc, "coco": write_coco, "yolo": write_yolo}


def shared(name):
    """A folder of real data in `shared` beside the repository or above it, or None."""
    above = Path(__file__).resolve().parents
    return next((each / "shared" / "data" / name for each in above if (each / "shared" / "data" / name).is_dir()), None)

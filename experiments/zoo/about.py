"""What a person writes of the models of the zoo: the data and their licence, the command, what a model is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_CLINICAL = "Not for clinical use: no decision about a person may rest on it."


@dataclass(frozen=True)
class About:
    """The part of a card that no run knows.

    Args:
        title: what the model does, in a few words.
        data: which images, how many, and what they show.
        source: who made them, and where they are described.
        licence: of the images.
        split: which were trained on, which chose, which were tested by.
        command: that makes a run of it, but for the seed.
        use: what it is meant for.
        limits: what it is not for, and what it cannot do.
    """

    title: str
    data: str
    source: str
    licence: str
    split: str
    command: str
    use: str
    limits: str


MODELS: Mapping[str, About] = {
    "digits": About(
        title="Handwritten digits of 8 x 8 pixels, ten classes",
        data="1,797 digits of 43 people, counts of ink from 0 to 16 scaled to 0 to 255, white on black",
        source="E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning "
        "Repository, the test part, as scikit-learn has it",
        licence="CC BY 4.0",
        split="1,438 for the search and the training, of which a tenth judges each epoch; 359 to test, drawn by class "
        "and fixed",
        command="supernet",
        use="Trying the calls out; the smallest example of a search",
        limits="Reads single digits, white on black, that fill the picture; photographs of paper are nothing that it "
        "has seen. Writers are in both parts.",
    ),
    "fashion_mnist": About(
        title="Articles of clothing of 28 x 28 pixels, ten classes",
        data="70,000 grey pictures of articles of a shop, white on black",
        source="H. Xiao, K. Rasul and R. Vollgraf 2017, Fashion-MNIST, arXiv:1708.07747",
        licence="MIT",
        split="5,000 of the published 60,000 to train, 500 of a class, of which a tenth judges each epoch; the "
        "published 10,000 to test",
        command="supernet experiment=laptop data=fashion_mnist data.train_limit=5000",
        use="Trying the calls out; comparing searches on a known data set",
        limits="Knows ten articles, white on black, alone in the picture; photographs of people are nothing that it "
        "has seen.",
    ),
    "pneumonia": About(
        title="Chest radiographs of children of 28 x 28 pixels: normal or pneumonia",
        data="PneumoniaMNIST: 5,856 frontal radiographs of children of one to five years, of one hospital (Guangzhou "
        "Women and Children's Medical Center), reduced to 28 x 28 pixels",
        source="J. Yang et al. 2023, MedMNIST v2, Scientific Data 10:41; from D. Kermany et al. 2018, Identifying "
        "Medical Diagnoses and Treatable Diseases by Image-Based Deep Learning, Cell 172",
        licence="CC BY 4.0",
        split="The published one: 4,708 to train, 524 to choose and to fix thresholds by, 624 to test; the test "
        "part is of another source, where 62 % have pneumonia and not 74 %",
        command="supernet experiment=xray data.path=pneumoniamnist.npz",
        use="Teaching and research on methods: searches, calibration, thresholds",
        limits=f"{_CLINICAL} 28 x 28 pixels show no doctor enough; children of one hospital alone; other machines, "
        "ages and diseases were never tested.",
    ),
    "bccd": About(
        title="Blood cells in smears: red and white cells and platelets, with boxes",
        data="BCCD: 364 pictures of 640 x 480 pixels of stained blood smears with 4,888 boxes",
        source="S. Cheng 2017, BCCD Dataset, from C. Nicolas and A. M. Mooney (cosmicad), "
        "github.com/Shenggan/BCCD_Dataset",
        licence="MIT",
        split="The published one: 205 to train, 87 to choose by, 72 to test",
        command="supernet experiment=bccd data.path=BCCD",
        use="Teaching and research on methods: a detector whose backbone was searched",
        limits=f"{_CLINICAL} One microscope, one stain and one magnification; red cells that nobody has labelled are "
        "in the pictures, too, so that its precision is measured too low.",
    ),
}

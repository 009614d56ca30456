"""Results in the shape that people know: what is read of them, what is drawn, and what other libraries make of them."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.data.augmentation import Augmentation
from supernet.data.preparation import Preparation
from supernet.deployment.answers import Objects, SeveralLabels
from supernet.deployment.drawing import draw_lines
from supernet.deployment.pictures import Picture, Pictures
from supernet.deployment.predictor import Predictor
from supernet.deployment.results import Result, labelled
from supernet.deployment.values import Boxes, Probabilities
from supernet.detection.head import AnchorFree
from supernet.runtime.errors import InputError
from supernet.space.architecture import Architecture
from supernet.space.darts import Darts

NAMES = {0: "RBC", 1: "WBC"}
DATA = torch.tensor(
    [[10.0, 20.0, 30.0, 60.0, 0.9, 1.0], [0.0, 0.0, 50.0, 40.0, 0.5, 0.0], [5.0, 5.0, 9.0, 9.0, 0.4, 0.0]]
)


def found(data=DATA, height=80, width=100):
    content = torch.full((3, height, width), 255, dtype=torch.uint8)
    picture = Picture(content, (height, width), Pictures((3, 8, 8)))
    return Result(dict(NAMES), boxes=Boxes(data, (height, width)), picture=picture)


def test_what_people_read_of_a_detection():
    result = found()
    assert len(result) == 3
    assert result.names[int(result.boxes.cls[0])] == "WBC"
    assert (result.masks, result.obb, result.keypoints, result.probs) == (None, None, None, None)
    assert (result.orig_shape, result.orig_img.shape, result.path) == ((80, 100), (80, 100, 3), None)
    assert result.verbose() == "2 RBCs, 1 WBC, "
    assert found(torch.zeros(0, 6)).verbose() == "(no detections), "
    assert len(result[0]) == len(result[result.boxes.conf > 0.8]) == 1
    assert [each.names[int(each.boxes.cls)] for each in result] == ["WBC", "RBC", "RBC"]
    assert result.numpy().boxes.xyxy.dtype == np.float32
    assert result.to(torch.float64).cpu().boxes.conf.dtype == torch.float64


def test_summaries_are_plain():
    (first, *_), shares = found().summary(), found().summary(normalize=True, decimals=2)
    assert first == {
        "name": "WBC",
        "class": 1,
        "confidence": 0.9,
        "box": {"x1": 10.0, "y1": 20.0, "x2": 30.0, "y2": 60.0},
    }
    assert shares[0]["box"] == {"x1": 0.1, "y1": 0.25, "x2": 0.3, "y2": 0.75}
    assert json.loads(found().to_json()) == found().summary()
    assert found().to_csv().splitlines()[:2] == ["name,class,confidence,x1,y1,x2,y2", "WBC,1,0.9,10.0,20.0,30.0,60.0"]
    one = Result({0: "a", 1: "b"}, Probabilities(torch.tensor([0.25, 0.75])))
    assert one.summary() == [{"name": "b", "class": 1, "confidence": 0.75}]
    assert one.verbose() == "b 0.75, a 0.25, "
    several = Result({0: "a", 1: "b"}, Probabilities(torch.tensor([0.25, 0.75]), (0.2, 0.7)))
    assert [row["name"] for row in several.summary()] == ["a", "b"]
    with pytest.raises(InputError, match="no objects"):
        one[0]
    with pytest.raises(InputError, match="knows no picture"):
        _ = one.orig_img


def test_a_plot_shows_boxes_where_they_are():
    result = found(DATA[:1])
    white, plain = result.orig_img, result.plot(labels=False, conf=False, line_width=1)
    changed = (plain != white).any(2)
    rows, columns = np.nonzero(changed)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (10, 20, 30, 60)
    assert not changed[22:59, 12:29].any()
    assert (result.plot()[:20] != white[:20]).any()  # the label stands above
    assert (white == 255).all()
    assert isinstance(result.plot(pil=True), Image.Image)
    assert (result.plot(boxes=False) == white).all()
    edge = found(torch.tensor([[-5.0, -5.0, 2000.0, 2000.0, 0.9, 0.0], [3.0, 3.0, 3.0, 3.0, 0.9, 1.0]]))
    assert edge.plot().shape == (80, 100, 3)
    probs = Result({0: "a", 1: "b"}, Probabilities(torch.tensor([0.3, 0.7])), picture=result.picture)
    assert probs.plot().shape == (320, 400, 3)  # enlarged, so that the lines can be read


def test_drawings_are_saved_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = found()
    assert result.save() == "results_image0.png"
    assert np.array_equal(np.asarray(Image.open("results_image0.png")), result.plot())
    assert result.save(tmp_path / "a.jpg", line_width=3) == str(tmp_path / "a.jpg")
    for place, says in (("a.txt", "saved with the ending"), ("no/a.png", "its folder is not there")):
        with pytest.raises(InputError, match=says):
            result.save(place)
    result.save_txt("labels.txt")
    result.save_txt("labels.txt", save_conf=True)
    lines = (tmp_path / "labels.txt").read_text().splitlines()
    assert len(lines) == 6
    assert (lines[0], lines[3]) == ("1 0.2 0.5 0.2 0.5", "1 0.2 0.5 0.2 0.5 0.9")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"line_width": -2}, "line_width=-2: needs a number of pixels above 0"),
        ({"line_width": "thick"}, "line_width=thick"),
        ({"line_width": True}, "line_width=True"),
        ({"font_size": 0}, "font_size=0"),
        ({"font_size": 1e9}, "font_size=1000000000.0: .* up to 1000"),
        ({"font_size": float("nan")}, "font_size=nan"),
        ({"img": np.zeros((8, 8), np.uint8)}, r"img: needs an array \(H, W, 3\) of uint8, .* of shape \(8, 8\)"),
        ({"img": np.zeros((8, 8, 3))}, "img: .* not float64"),
        ({"img": np.zeros((0, 8, 3), np.uint8)}, r"img: .* of shape \(0, 8, 3\)"),
        ({"img": "a.jpg"}, "img: needs an array"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(settings, says):
    with pytest.raises(InputError, match=says):
        found().plot(**settings)


def test_widths_may_be_fractions_and_pictures_of_pillow():
    result, image = found(), Image.new("RGB", (100, 80), "white")
    assert np.array_equal(
        result.plot(line_width=2.6, font_size=np.float32(11)), result.plot(line_width=3, font_size=11)
    )
    assert np.array_equal(result.plot(img=image), result.plot())
    assert image.getextrema() == ((255, 255),) * 3


def test_lines_and_cuttings_go_where_people_say(tmp_path):
    result = found()
    assert result.save_txt(tmp_path / "new" / "labels" / "a.txt") == str(tmp_path / "new" / "labels" / "a.txt")
    assert len((tmp_path / "new" / "labels" / "a.txt").read_text().splitlines()) == 3
    found(torch.zeros(0, 6)).save_txt(tmp_path / "none" / "b.txt")
    assert not (tmp_path / "none").exists()  # nothing was found
    names = ["cut.jpg", "smear.v2.jpg", "a.png", "im.jpg"]
    for given, name in zip(("cut", "smear.v2", "x/a.png", ""), names, strict=True):
        assert [path.name for path in map(Path, result[0].save_crop(tmp_path / "crops", given))] == [name]
    (tmp_path / "file").touch()
    for write in (result.save_txt, result.save_crop):
        with pytest.raises(InputError, match=r"file.*: cannot be made a folder"):
            write(tmp_path / "file" / "below")
    with pytest.raises(InputError, match="cannot be written"):
        result.save_txt(tmp_path)


def test_a_picture_that_its_form_cannot_hold_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"wide\.webp: cannot be written"):
        found(height=2, width=20_000).save(tmp_path / "wide.webp")
    assert not list(tmp_path.iterdir())


def test_without_a_viewer_that_is_said(monkeypatch, caplog):
    shown = []
    monkeypatch.setattr("PIL.ImageShow._viewers", [])
    found().show()
    assert "this machine has no viewer of pictures; write them with save" in caplog.text
    caplog.clear()
    monkeypatch.setattr("PIL.ImageShow.show", lambda image, *_: not shown.append(image))
    found().show(line_width=1)
    assert ([image.size for image in shown], caplog.text) == ([(100, 80)], "")


def test_a_name_of_a_stranger_chooses_no_folder(tmp_path):
    result = found()
    evil = Result({0: "../../x", 1: ".."}, boxes=result.boxes, picture=result.picture)
    written = evil.save_crop(tmp_path / "crops", "../im.png")
    assert len(written) == 3
    assert {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.png")} == {"crops"}
    assert Image.open(written[0]).size == (20, 40)
    assert "\x1b" not in str(list(tmp_path.rglob("*")))


def test_supervision_takes_a_result_as_it_is():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends another package
        supervision = pytest.importorskip("supervision")
    detections = supervision.Detections.from_ultralytics(found())
    np.testing.assert_array_equal(detections.xyxy, DATA[:, :4].numpy())
    np.testing.assert_array_equal(detections.confidence, DATA[:, 4].numpy())
    assert detections.class_id.tolist() == [1, 0, 0]
    assert detections.data["class_name"].tolist() == ["WBC", "RBC", "RBC"]
    assert (detections.tracker_id, detections.mask) == (None, None)
    assert len(supervision.Detections.from_ultralytics(found(torch.zeros(0, 6)))) == 0


class Fixed(torch.nn.Module):
    """A detector that finds the same boxes, in pixels of its own image, in every picture."""

    def __init__(self, boxes, classes=2):
        super().__init__()
        rows = [
            [*(9.0 if k == kind else -9.0 for k in range(classes)), logit, *box, 0.0, 0.0, 8.0]
            for kind, logit, box in boxes
        ]
        self.rows = torch.nn.Parameter(torch.tensor(rows))

    def forward(self, images):
        return self.rows.expand(len(images), -1, -1)


def detector(boxes, shape=(3, 60, 80), fit="pad"):
    return Predictor(
        Fixed(boxes),
        space=Darts(4, 3),
        architecture=Architecture("toy", {}),
        classes=("RBC", "WBC"),
        shape=shape,
        augmentation=Augmentation((0.0,) * 3, (1.0,) * 3, preparation=Preparation(fit=fit)),
        provenance={},
        answer=Objects(AnchorFree(1)),
    )


def test_boxes_come_in_the_pixels_of_each_picture():
    use = detector([(1, 4.0, (20.0, 15.0, 60.0, 45.0)), (0, 0.0, (0.0, 0.0, 40.0, 60.0))])
    wide, tall = np.zeros((120, 160, 3), np.uint8), np.zeros((120, 80, 3), np.uint8)
    first, second, third = use([wide, tall, torch.zeros(3, 30, 40)])
    assert first.boxes.xyxy.tolist() == [[40, 30, 120, 90], [0, 0, 80, 120]]
    assert second.boxes.xyxy.tolist() == [[0, 30, 80, 90], [0, 0, 40, 120]]  # laid between 20 and 60, half as large
    assert third.boxes.xyxy.tolist() == [[10, 7.5, 30, 22.5], [0, 0, 20, 30]]
    assert [r.boxes.orig_shape for r in (first, second, third)] == [(120, 160), (120, 80), (30, 40)]
    assert [use.names[int(k)] for k in first.boxes.cls] == ["WBC", "RBC"]
    assert set(first.speed) == {"preprocess", "inference", "postprocess"}


def test_what_is_asked_of_a_detector():
    same = (20.0, 15.0, 60.0, 45.0)
    use = detector([(1, 4.0, same), (0, 0.0, (0.0, 0.0, 40.0, 60.0)), (1, 3.0, (22.0, 15.0, 62.0, 45.0))])
    image = np.zeros((60, 80, 3), np.uint8)
    assert len(use(image)[0]) == 2  # two of one class overlap too much
    assert len(use(image, iou=0.99)[0]) == 3
    assert len(use(image, conf=0.9)[0]) == 1
    assert len(use(image, max_det=1, iou=1.0)[0]) == 1
    for conf in (np.float32(0.9), np.float64(0.9), torch.tensor(0.9), np.array(0.9)):
        assert len(use(image, conf=conf)[0]) == 1
    for most in (np.int64(1), np.uint8(1), torch.tensor(1)):
        assert len(use(image, max_det=most, iou=np.float32(1.0))[0]) == 1
    numbers = (np.int64(0), torch.tensor(0), np.array([0]), torch.tensor([0]), [np.int32(0)], {0}, range(1))
    for classes in ("RBC", 0, [0], ["RBC"], *numbers):
        assert use(image, classes=classes)[0].boxes.cls.tolist() == [0.0]
    stream = use([image] * 3, stream=True)
    assert next(stream).orig_shape == (60, 80)
    assert len(list(stream)) == 2
    assert use.predict(image)[0].verbose() == "1 RBC, 1 WBC, "
    unknown = ([2], 1.5, np.int64(7), torch.tensor([0.0]), [True], [np.bool_(True)], object(), [[0]])
    for wrong in unknown:
        with pytest.raises(InputError, match=r"there is no class .*; use 0 to 1"):
            use(image, classes=wrong)
    with pytest.raises(InputError, match="'cell': not among RBC, WBC"):
        use(image, classes="cell")
    with pytest.raises(InputError, match="channels=brg"):
        use(image, channels="brg")
    with pytest.raises(InputError, match="a detector, which has boxes"):
        use.probabilities(torch.zeros(1, 3, 60, 80))


def test_each_class_is_shown_from_its_own_confidence_on():
    use = detector([(1, 4.0, (20.0, 15.0, 60.0, 45.0)), (0, 0.0, (0.0, 0.0, 40.0, 60.0))])
    image = np.zeros((60, 80, 3), np.uint8)
    first, second = use(image)[0].boxes.conf.tolist()  # of WBC, of RBC
    for conf, kinds in (((0.1, 0.1), [1, 0]), ((second + 0.01, 0.1), [1]), ((0.1, first + 0.001), [0])):
        use.answer = Objects(AnchorFree(1), conf=conf)
        assert use(image)[0].boxes.cls.tolist() == kinds
        assert len(use(image, conf=0.1)[0]) == 2
    use.answer = Objects(AnchorFree(1), iou=0.0)
    assert len(use(image)[0]) == 2  # boxes of two classes may overlap


def test_objects_below_their_own_confidence_take_no_place():
    use = detector([(1, 4.0, (20.0, 15.0, 60.0, 45.0)), (0, 0.0, (0.0, 0.0, 40.0, 60.0))])
    use.answer = Objects(AnchorFree(1), conf=(0.1, 1.0))
    assert use(np.zeros((60, 80, 3), np.uint8), max_det=1)[0].boxes.cls.tolist() == [0]


def test_a_thousand_boxes_are_found_where_many_lie_twice():
    sides = [(x * 40.0, y * 40.0, x * 40.0 + 20, y * 40.0 + 20) for x in range(40) for y in range(25)]
    use = detector([(0, 4.0, box) for box in sides for _ in range(3)], shape=(3, 1000, 1600))
    result = use(np.zeros((1000, 1600, 3), np.uint8), max_det=1000)[0]
    assert len(result) == 1000
    assert result.verbose() == "1000 RBCs, "


def test_a_line_of_pixels_does_not_become_a_wall():
    assert draw_lines(np.zeros((1, 3000, 3), np.uint8), ["seven"]).shape == (1, 3000, 3)


def test_names_of_a_stranger_are_shown_escaped(tmp_path):
    seen, evil = found(), {0: "\x1b[31m", 1: "a\nb"}
    likely = Result(evil, probs=Probabilities(torch.tensor([0.25, 0.75])), picture=seen.picture)
    assert "\x1b" not in likely.verbose() + Result(evil, boxes=seen.boxes).verbose()
    likely.save_txt(tmp_path / "labels.txt")
    assert (tmp_path / "labels.txt").read_text() == "0.75 a\\nb\n0.25 \\x1b[31m\n"


def test_arrays_of_opencv_have_blue_first():
    use, red = detector([(1, 4.0, (0.0, 0.0, 9.0, 9.0))]), np.zeros((60, 80, 3), np.uint8)
    red[..., 0] = 200
    (result,) = use(red[..., ::-1], channels="bgr")
    assert result.orig_img[0, 0].tolist() == [200, 0, 0]
    red[:] = 7  # the result keeps what it was given
    assert result.orig_img[0, 0].tolist() == [200, 0, 0]


def test_several_labels_have_the_thresholds_of_the_model():
    use = detector([])
    use.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 60 * 80, 2))
    torch.nn.init.zeros_(use.network[1].weight)
    with torch.no_grad():
        use.network[1].bias.copy_(torch.tensor([0.0, 2.0]))
    use.answer = SeveralLabels(thresholds=(0.6, 0.7))
    image = np.zeros((60, 80, 3), np.uint8)
    (result,) = use(image)
    torch.testing.assert_close(result.probs.data, torch.tensor([0.5, 0.880797]))
    assert result.probs.present == [1]
    assert use(image, conf=0.4)[0].probs.present == [0, 1]
    assert list(labelled(result, 1)) == [("WBC", pytest.approx(0.880797))]
    with pytest.raises(InputError, match=r"classes=\[0\]: is for objects"):
        use(image, classes=[0])


def several(shares, thresholds, names=("nodule", "mass", "fluid")):
    picture = found().picture
    return Result(dict(enumerate(names)), Probabilities(torch.tensor(shares), thresholds), picture=picture)


def test_of_several_labels_those_are_said_that_reach_their_thresholds(tmp_path):
    result = several([0.3, 0.6, 0.8], (0.2, 0.7, 0.5))  # the second is likelier than the first, and is not there
    assert result.verbose() == result.cpu().numpy().verbose() == "fluid 0.80, nodule 0.30, "
    assert [row["name"] for row in result.summary()] == ["nodule", "fluid"]
    assert np.array_equal(result.plot(), draw_lines(result.orig_img, ["fluid: 0.80", "nodule: 0.30"]))
    assert np.array_equal(result.plot(conf=False), draw_lines(result.orig_img, ["fluid", "nodule"]))
    assert np.array_equal(result.plot(probs=False), result.orig_img)
    result.save_txt(tmp_path / "labels.txt")
    assert (tmp_path / "labels.txt").read_text() == "0.80 fluid\n0.30 nodule\n"


def test_where_no_label_reaches_its_threshold_that_is_said(tmp_path):
    result = several([0.3, 0.6, 0.4], (0.5, 0.7, 0.5))
    assert (result.verbose(), result.summary(), result.to_csv()) == ("(no labels), ", [], "")
    assert np.array_equal(result.plot(), draw_lines(result.orig_img, ["no labels"]))
    result.save_txt(tmp_path / "labels.txt")
    assert not (tmp_path / "labels.txt").exists()


def test_more_labels_than_a_drawing_has_room_for_are_counted():
    names = [f"finding {n}" for n in range(14)]
    result = several([0.9 - n / 100 for n in range(14)], (0.5,) * 14, names)
    assert result.verbose().count("finding") == 14
    lines = [f"finding {n}: {0.9 - n / 100:.2f}" for n in range(12)]
    assert np.array_equal(result.plot(), draw_lines(result.orig_img, [*lines, "and 2 more"]))

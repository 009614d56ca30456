"""What a model can be asked for, and what it has no use for."""

import pytest

from supernet.deployment.answers import Objects, OneLabel, SeveralLabels
from supernet.deployment.asking import asked_of
from supernet.runtime.errors import InputError

NAMES = {0: "ant", 1: "bee"}
NOTHING = {"conf": None, "iou": None, "max_det": None, "classes": None}
GIVEN = {"conf": 0.3, "iou": 0.5, "max_det": 300, "classes": "bee"}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize(
    ("answer", "used"), [(OneLabel(), ()), (SeveralLabels(), ("conf",)), (Objects(), tuple(GIVEN))]
)
def test_a_setting_that_a_model_has_no_use_for_is_refused(answer, used, name):
    setting = {name: GIVEN[name]}
    assert asked_of(NAMES, answer, **NOTHING).max_det is None
    if name in used:
        assert getattr(asked_of(NAMES, answer, **NOTHING | setting), name) in (GIVEN[name], (1,))
    else:
        with pytest.raises(InputError, match=f"^{name}={GIVEN[name]}: .*leave it out$"):
            asked_of(NAMES, answer, **NOTHING | setting)

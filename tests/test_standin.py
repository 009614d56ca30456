"""The product on the stand-in for CUDA: as on the CPU, with graphs as without, and no more launches than it had.

A process on the stand-in takes seconds to start, so that each test has one, and many jobs in it.
"""

import ast
import json
import math
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from supernet.search import methods
from tests.standin.building import why_not

ROOT = Path(__file__).parents[1]
HERE = ROOT / "tests" / "standin"
JOBS = (  # in groups of some minutes at most
    ("darts", "gdas", "pc_darts", "snas", "fbnet", "proxyless", "drnas", "fair_darts", "beta_darts", "gaea"),
    ("gaea_pc_darts", "r_darts_l2", "r_darts_dp", "r_darts_es", "r_darts_ada", "darts_minus", "sdarts_rs"),
    ("p_darts", "drnas_progressive", "darts_pt", "darts_pt_fixed", "sdarts_adv"),
    ("random_search", "spos", "fairnas", "aging", "enas", "proxyless_r", "tunas", "oles"),
    ("darts_2nd", "idarts"),
    ("darts_2nd_exact", "conjugate_gradient"),
    ("ten steps", "ten training steps"),
    ("adagrad", "drop path", "monitor", "nasbench201", "ten steps of second order"),
    ("mobile darts", "mobile spos", "mobile bignas", "mobile once_for_all"),
    ("explored", "explored again"),
    ("cpu to cuda", "cuda to cpu", "cuda to cuda", "retraining"),
    ("darts/matmul", "darts/reference", "darts/bfloat16", "pc_darts/matmul"),
)
TOLERANCE = 1e-2  # relative, or of 0.01 where a number is smaller; losses are alike to 1e-6
LOOSER = {
    # Initial weights have moved the CPU's generator on by the time that it draws what is dropped; a GPU's is fresh.
    "p_darts": math.inf,
    "r_darts_dp": math.inf,
    "drop path": math.inf,
    "conjugate_gradient": 0.3,  # directions that are nearly without curvature make much of rounding
    "darts/bfloat16": 0.1,
}
ALONE = ("logits", "supernet", "network", "recorded")
"""Compared with graphs alone: Adam moves a logit by its rate whichever sign a rounding error has; a bias before a norm
follows rounding errors, too."""
WAITS = {  # in a step, by whom and why
    "supernet/space/supernet.py _on": "which operations of a single path run is decided on the host",
    "supernet/space/supernet.py idle": "which operations of a single path have no gradient",
    "supernet/search/black_box/reinforce.py _rewarded": "rewards are read on the host",
    "supernet/search/differentiable/architects.py conjugate_gradient": "a direction without curvature ends them",
}

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


def on_the_standin(*words: str, timeout: float = 290) -> str:
    """What a script prints."""
    command = [sys.executable, "-m", "tests.standin", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


def outcomes(*jobs: str) -> dict:
    """What jobs give, by their names."""
    found = {}
    for line in on_the_standin(str(HERE / "jobs.py"), *jobs).splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    assert list(found) == list(jobs)
    return found


def distance(ours: dict, theirs: dict) -> float:
    """The largest difference of two jobs' numbers, infinite where one is none; all else is equal."""
    assert ours.keys() == theirs.keys()
    far = 0.0
    for name in ours:
        if name.startswith(ALONE):
            continue
        if not isinstance(ours[name], float):
            assert ours[name] == theirs[name], name
            continue
        apart = abs(ours[name] - theirs[name]) / max(0.01, abs(theirs[name]))
        far = max(far, math.inf if math.isnan(apart) else apart)
    return far


def check(job: str, outcome: dict) -> None:
    """As on the CPU, with graphs as without to the bit, nothing lost or prohibited, and no wait in a settled step."""
    if (tolerance := LOOSER.get(job, TOLERANCE)) < math.inf:
        assert distance(outcome["plain"], outcome["cpu"]) <= tolerance, job
    plain, graphs = ({**outcome[way], "recorded": 0} for way in ("plain", "graphs"))
    assert plain == graphs, job
    assert outcome["beside"] == 0, job
    assert outcome["journal"] == {}, job
    assert outcome["steps"] > 0 or job.startswith("explored"), job
    places = {f"{line.split(':')[0]} {line.split()[-1]}" for line in outcome["waits"]}
    assert places <= WAITS.keys(), (job, outcome["waits"])
    if job.startswith("ten"):
        assert outcome["graphs"]["recorded"] == 1, job


def test_the_standin_shows_what_it_is_for():
    source = ast.parse((HERE / "checks.py").read_text())
    (listed,) = (node.value for node in source.body if isinstance(node, ast.Assign) and node.targets[0].id == "CHECKS")
    defined = [n.name for n in source.body if isinstance(n, ast.FunctionDef) and not n.args.args and not n.args.vararg]
    printed = on_the_standin("--gpus", "2", "--bytes", "1000000000", str(HERE / "checks.py")).split()
    assert printed == [name.id for name in listed.elts]
    assert sorted(printed) == sorted(defined)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", JOBS, ids=lambda jobs: jobs[0])
def test_jobs(jobs):
    for job, outcome in outcomes(*jobs).items():
        check(job, outcome)


def test_every_method_has_a_job():
    names = {*dir(methods)} - {"Method", "adam"}
    jobs = [job for group in JOBS for job in group]
    assert names <= {job.removeprefix("mobile ") for job in jobs}
    assert LOOSER.keys() <= {*jobs}


NESTED = """
import subprocess, sys, torch
print(torch.cuda.device_count(), torch.cuda.mem_get_info()[1] >> 30, torch.ones(2, device="cuda").sum().item())
sys.stdout.flush()
if sys.argv[1:]:
    bare = subprocess.run([sys.executable, "-c", "import tests.standin.account"], capture_output=True, text=True)
    print("not on the stand-in" in bare.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "tests.standin", __file__], check=True)
"""


@pytest.mark.slow
def test_a_process_that_a_script_starts_may_be_on_a_standin_of_its_own(tmp_path):
    """Two small GPUs that count, and one of the usual size with numbers; between them a process on none."""
    script = tmp_path / "nested.py"
    script.write_text(NESTED)
    printed = on_the_standin("--count", "--gpus", "2", "--bytes", str(2 << 30), str(script), "again").split()
    assert printed == ["2", "2", "0.0", "True", "1", "80", "2.0"]


LATE = """
import threading, time, torch
class Late(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: x * 2)
    @staticmethod
    def backward(ctx, gradient):
        reached.set()
        time.sleep(0.5)
        return gradient
reached = threading.Event()
total = Late.apply(torch.ones(3, device="cuda", requires_grad=True)).sum()
threading.Thread(target=total.backward, daemon=True).start()
reached.wait()
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param("", 0, marks=pytest.mark.slow),
        pytest.param("raise SystemExit(3)", 3, marks=pytest.mark.slow),
        ("raise SystemExit('why')", 1),
    ],
)
def test_a_script_may_end_while_autograd_is_at_work(tmp_path, end, status):
    script = tmp_path / "late.py"
    script.write_text(LATE + end)
    command = [sys.executable, "-m", "tests.standin", "--count", str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    assert ("why" in done.stderr) == (status == 1)


def test_steps_launch_and_move_no_more_than_they_did():
    """`counts.py` says how the bounds are written anew; a change that raises one is to be worth it."""
    bounds = json.loads((HERE / "launches.json").read_text())
    if not version("torch").startswith(f"{bounds['torch']}."):
        pytest.skip(f"the bounds are those of PyTorch {bounds['torch']}")
    rows = json.loads(on_the_standin("--count", str(HERE / "counts.py")))["rows"]
    assert rows.keys() == bounds["rows"].keys()
    for name, row in rows.items():
        for what, value in row.items():
            assert value <= bounds["rows"][name][what], (name, what)
    assert all(row["launches"] <= 8 for name, row in rows.items() if name.endswith("whole"))


SOUND = {"cpu": {"a": 1.0, "b": "x"}, "plain": {"a": 1.0001, "b": "x"}, "graphs": {"a": 1.0001, "b": "x"}}
SOUND |= {"beside": 0, "journal": {}, "steps": 2, "waits": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"plain": {"a": 1.02, "b": "x"}, "graphs": {"a": 1.02, "b": "x"}},
        {"plain": {"a": math.nan, "b": "x"}, "graphs": {"a": math.nan, "b": "x"}},
        {"graphs": {"a": 1.00010001, "b": "x"}},
        {"cpu": {"a": 1.0, "b": "y"}},
        {"cpu": {"a": 1.0}},
        {"beside": 1},
        {"journal": {"prohibited during a capture: cudaMalloc": 1}},
        {"steps": 0},
        {"waits": {"supernet/search/loop.py:90 search": 1}},
    ],
    ids=str,
)
def test_what_is_wrong_is_seen(change):
    check("sound", SOUND)
    with pytest.raises(AssertionError):
        check("changed", {**SOUND, **change})

"""The benchmarks' own test: tiny cells, contenders that are right, and ones that are not.

No figure of time is asserted. Imports benchmarks, which is beside the package in a checkout.
"""

import csv
import os
import sys

import numpy as np
import pytest
from click.testing import CliRunner

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from benchmarks import cells, environments, floors, problem, report, runner  # noqa: E402
from benchmarks.contenders import ALL, BY_KEY, Contender  # noqa: E402

SETTINGS = runner.Settings(rounds=2, seconds=0.01, limit=20)

FAULTY = """
import os, time
import numpy as np
from benchmarks.contenders import numpy_expansion

def version():
    return "faulty"

def prepare(variant, cell, data, threads):
    call = numpy_expansion.prepare("", cell, data, threads)
    if variant == "fails":
        raise RuntimeError("out of order")

    def faulty():
        results = [np.array(result) for result in call()]
        if variant == "one-entry":
            results[0][cell.n // 2, cell.m // 3] += 0.1
        elif variant == "not-a-number":
            results[0][0, 0] = np.nan
        elif variant == "dtype":
            results[0] = results[0].astype("float16")
        elif variant == "shape":
            results[0] = results[0].T
        elif variant == "sign":
            results[1] = -results[1]
        elif variant == "dies":
            os._exit(3)
        elif variant == "hangs":
            time.sleep(60)
        return results

    return faulty
"""


def faulty(variant, task="kernel"):
    module = "outside.faulty_contender"
    key = "faulty-" + variant
    return Contender(key, variant, module, variant, None, "peer", (task,), ("grid",), False)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "faulty_contender.py").write_text(FAULTY)
    return str(tmp_path)


def measure(found, contenders, folder=None, settings=SETTINGS, missing=None):
    with runner.Stage([folder] if folder else []) as stage:
        return runner.measure(stage, found, [(c, 1) for c in contenders], settings, missing)


def check_all_right(records):
    for record in records:
        assert record["status"] == "ok", record
        assert record["seconds"] and min(record["seconds"]) > 0
        assert record["error"] <= record["tolerance"]


def test_contenders_are_right_and_timed():
    found = [cells.cell(task, 50, 43, 7, dtype="float64") for task in ("kernel", "gradient")]
    keys = ("rbf_op", "numpy", "theano-expansion")
    records = measure(found, [BY_KEY[key] for key in keys])
    assert len(records) == len(found) * len(keys)
    check_all_right(records)


def test_numpy_is_right_in_every_task():
    found = []
    for dtype in cells.DTYPES:
        for symmetric in (False, True):
            for task in ("kernel", "gradient", "product", "product gradient"):
                p = 2 if task.startswith("product") else 0
                found.append(cells.cell(task, 60, 60, 4, dtype, symmetric, p))
    records = measure(found, [BY_KEY["numpy"], BY_KEY["blocks-numpy"]])
    assert len(records) == len(found)
    check_all_right(records)


def test_matrix_free_product_is_right():
    found = [cells.cell("product", 60, 45, 4, dtype="float64", p=2)]
    check_all_right(measure(found, [BY_KEY["dot-rbf_op"]]))


@pytest.mark.parametrize(
    "variant, status, reason",
    [
        ("right", "ok", None),
        ("one-entry", "wrong", "K is off by"),
        ("not-a-number", "wrong", "K is off by inf"),
        ("dtype", "failed", "K has dtype float16 instead of float32"),
        ("shape", "failed", "K has shape (31, 200)"),
        ("fails", "failed", "out of order"),
        ("dies", "failed", "its process died (exit 3)"),
    ],
)
def test_faults_are_reported(folder, variant, status, reason):
    # More rows than are compared entry by entry: the sums must find the wrong one.
    found = [cells.cell("kernel", 200, 31, 3)]
    (record,) = measure(found, [faulty(variant)], folder)
    assert record["status"] == status
    assert status == "ok" or reason in record["reason"]
    assert (status == "ok") == bool(record.get("seconds"))


def test_wrong_gradient_is_reported(folder):
    contender = faulty("sign", "gradient")
    record = measure([cells.cell("gradient", 30, 20, 3)], [contender], folder)[0]
    assert record["status"] == "wrong" and "dx is off by 2" in record["reason"]


def test_hanging_contender_is_given_up_and_others_go_on(folder, monkeypatch):
    monkeypatch.setattr(runner, "_GRACE_SECONDS", 1.0)
    settings = SETTINGS._replace(limit=9.0)
    found = [cells.cell("kernel", 30, 20, 3)]
    records = measure(found, [faulty("hangs"), faulty("right")], folder, settings)
    assert records[0]["status"] == "too slow"
    assert records[0]["reason"] == "gave no result within 10 s"
    check_all_right(records[1:])


def test_a_core_is_busy_as_long_as_it_should_be():
    from benchmarks.contenders import rbf_op_busy

    with rbf_op_busy.busy_core() as spinning:
        assert spinning.poll() is None
        assert os.sched_getaffinity(spinning.pid) == {min(os.sched_getaffinity(0))}
    assert spinning.poll() is not None
    check_all_right(measure([cells.cell("kernel", 50, 43, 7)], [BY_KEY["rbf_op-busy"]]))


def record(key, role, task, size, seconds, threads=2, symmetric=False):
    return {
        "key": key,
        "label": key,
        "role": role,
        "threads": threads,
        "cell": cells.cell(task, *size, symmetric=symmetric)._asdict(),
        "status": "ok",
        "seconds": seconds,
    }


def test_targets_are_compared_with_least_times():
    size, small = (4000, 4000, 10), cells.SMALLEST
    grid = [
        record("rbf_op", "ours", "kernel", size, [0.01, 0.02]),
        record("slow", "peer", "kernel", size, [0.09, 0.07]),
        record("fast", "peer", "kernel", size, [0.03]),
        record("rbf_op-reused", "ours too", "kernel", size, [0.001]),
        record("rbf_op", "ours", "gradient", size, [0.031]),
        record("fast", "peer", "gradient", size, [0.062]),
        record("rbf_op", "ours", "kernel", size, [0.006], symmetric=True),
        record("limit-arithmetic", "limit", "kernel", size, [0.008, 0.009]),
        record("limit-stores", "limit", "kernel", size, [0.003]),
        record("limit-streams", "limit", "kernel", size, [0.002]),
        record("rbf_op", "ours", "kernel", small, [9e-6]),
        record("theano-empty", "overhead", "kernel", small, [5e-6]),
    ]
    threads = [
        record("rbf_op", "ours", "kernel", size, [seconds], threads=count)
        for count, seconds in ((1, 0.019), (2, 0.01))
    ]
    busy = [
        record("rbf_op", "ours", "kernel", size, [0.009, 0.010, 0.011]),
        record("rbf_op-busy", "ours too", "kernel", size, [0.001, 0.004, 0.040]),
    ]
    ceilings = {
        "arithmetic": {n: {"float32": 4e10} for n in ("multiply_adds", "pairs", "triples")},
        "exponential": {"float32": 4e9},
        "memory": {
            "64000000": dict.fromkeys(("stores", "streams", "loads", "pages", "huge_pages"), 1e12)
        },
    }
    groups = {"grid": grid, "threads": threads, "busy": busy}
    run = {"machine": {}, "threads": 2, "ceilings": ceilings, "groups": groups}
    rows = {row[:2]: row[2:] for row in report.targets(report.Results(run))}
    full, half = "4000x4000x10", "4000x4000x10 y=x"
    assert rows["best peer, K, float32", full] == ("3.00", ">= 2.00", "3.75", "met")
    assert rows["best peer, gradient, float32", full] == ("2.00", ">= 3.00", "7.75", "not met")
    assert rows["best peer, K", "geometric mean, all"] == ("3.00", ">= 4.00", "3.75", "limit")
    # By themselves: 0.004 s of arithmetic and of exponentials, 0.002 s of memory.
    name = "floor (arithmetic), K, float32"
    assert rows[name, full] == ("0.40", ">= 0.75", "0.50", "limit")
    assert rows["gradient / K, float32", full] == ("3.10", "<= 3.00", "0.80", "not met")
    assert rows["y=x / y given, K, float32", half] == ("0.60", "<= 0.60", "0.20", "met")
    overhead = rows["us over an empty call, float32", "5x3x10"]
    assert overhead == ("4.00", "<= 3.00", "", "not met")
    assert rows["1 / 2 threads, K, float32", full] == ("1.90", ">= 1.85", "", "met")
    assert rows["busy / free, K, float32", full][0] == "1.50"


def test_limits_of_a_cell():
    """What a floor is made of; pages are no part of it."""
    rates = {
        "arithmetic": {n: {"float64": 1e9} for n in ("multiply_adds", "pairs", "triples")},
        "exponential": {"float64": 1e9},
        "memory": {
            "8000000": {"stores": 2e9, "streams": 4e9, "loads": 8e9, "pages": 1, "huge_pages": 2}
        },
    }
    cell = cells.cell("kernel", 1000, 1000, 3, dtype="float64")
    found = floors.floor(cell, rates)
    parts = {"arithmetic": 0.003, "exp": 0.001, "memory": 0.002, "pages": 4e6}
    assert found.parts == pytest.approx(parts)
    assert found[:2] == (parts["arithmetic"], "arithmetic") and found.single == found[:2]
    found = floors.floor(cell, rates, {"arithmetic": 0.0035, "stores": 0.005, "streams": 0.0032})
    assert found[:2] == (0.0035, "both") and found.single == (0.0032, "memory")
    assert floors.floor(cell, rates, {"arithmetic": 0.0045}).seconds == pytest.approx(0.004)
    assert floors.terms(cell._replace(symmetric=True)) == (500500, 3, 0, 0)
    gradient = cells.cell("product gradient", 7, 5, 4, p=2)
    assert floors.terms(gradient) == (35, 4, 4, 4)
    assert floors.terms(gradient._replace(d=64)) == (35, 0, 0, 4 + 3 * 64)  # matrix products
    assert floors.floor(gradient, rates) is None  # too small


@pytest.mark.parametrize("task", ["kernel", "gradient", "product"])
def test_limits_take_time(task):
    cell = cells.cell(task, 400, 300, 3, p=2 if task == "product" else 0)
    contenders = [c for c in ALL if c.role == "limit" and task in c.tasks]
    records = measure([cell, cell._replace(n=2)], contenders)
    assert len(records) == len(contenders)  # none where calling is all there is
    assert all(r["status"] == "ok" and min(r["seconds"]) > 0 for r in records)


def test_targets_of_products():
    def record(key, task, seconds, role="peer", **more):
        cell = cells.cell(task, 30000, 30000, 3, p=1)
        found = dict(key=key, label=key, role=role, threads=2, cell=cell._asdict(), status="ok")
        return dict(found, seconds=[seconds], **more)

    slow = dict(status="too slow", first=9.0)
    records = [
        record("dot-rbf_op", "product", 1.0, role="ours"),
        record("formed-rbf_op", "product", 0.5, role="ours too"),
        record("blocks-jax", "product", 1.5),
        record("dot-keops", "product", 4.5),
        record("dot-rbf_op", "product gradient", 3.0, role="ours"),
        record("blocks-jax", "product gradient", 7.0),
        dict(record("dot-keops", "product gradient", 0), **slow),
    ]
    run = {"machine": {}, "threads": 2, "ceilings": None, "groups": {"product-large": records}}
    rows = {row[0]: row[2:] for row in report.targets(report.Results(run))}
    assert rows == {
        "KeOps, K @ W": ("4.50", ">= 4.00", "", "met"),
        "KeOps, gradient of K @ W": ("> 3.00", ">= 4.00", "", "not known"),
        "best peer but KeOps, K @ W": ("1.50", ">= 2.00", "", "not met"),
        "best peer but KeOps, gradient of K @ W": ("2.33", ">= 2.00", "", "met"),
        "gradient of K @ W / K @ W": ("3.00", "<= 4.00", "", "met"),
    }
    records[5].update(slow)  # the best of the others now
    rows = {row[0]: row[2:] for row in report.targets(report.Results(run))}
    assert rows["best peer but KeOps, gradient of K @ W"] == ("> 3.00", ">= 2.00", "", "met")


def test_runs_are_shown_together(tmp_path):
    def record(n, seconds, key="numpy"):
        cell = cells.cell("kernel", n, 3, 10)._asdict()
        return {"key": key, "threads": 2, "cell": cell, "seconds": [seconds]}

    old, again, new, other = record(5, 1), record(6, 2), record(6, 3), record(6, 4, "numba")
    first = {"machine": {}, "threads": 2, "groups": {"grid": [old, again, other]}}
    first["ceilings"] = {"exponential": {"float32": 3.0}, "memory": {"8": {"loads": 1.0}}}
    later = {"machine": {}, "threads": 2, "groups": {"threads": [again], "grid": [new]}}
    later["ceilings"] = {"exponential": {"float32": 4.0}, "memory": {"9": {"loads": 2.0}}}
    paths = []
    elsewhere = dict(later, machine={"processor": "Z80"})
    for run in (first, later, dict(later, threads=1), elsewhere):
        paths.append(str(tmp_path / ("%d.json" % len(paths))))
        report.write_json(run, paths[-1])
    both = report.read_json(paths[:2])
    assert both["groups"] == {"grid": [old, new, other], "threads": [again]}
    assert both["ceilings"]["exponential"] == {"float32": 4.0}
    assert both["ceilings"]["memory"] == {"8": {"loads": 1.0}, "9": {"loads": 2.0}}
    with pytest.raises(ValueError, match="1 threads, not 2"):
        report.read_json(paths[:3])
    with pytest.raises(ValueError, match="another processor: Z80, not unknown"):
        report.read_json([paths[0], paths[3]])


def test_environments_can_be_shared_between_checkouts(monkeypatch, tmp_path):
    monkeypatch.setenv("RBF_OP_BENCH_ENVIRONMENTS", str(tmp_path))
    assert environments.folder("jax") == str(tmp_path / ".venv-bench-jax")
    assert not environments.is_ready("jax")


def test_missing_contenders_are_named():
    contender = BY_KEY["numpy"]
    records = measure([cells.cell("kernel", 9, 8, 2)], [contender], missing={"numpy": "no wheel"})
    assert records[0]["status"] == "missing"
    absent = contender._replace(key="absent", module="no_such.module")
    records += measure([cells.cell("kernel", 9, 8, 2)], [absent])
    assert records[1]["status"] == "missing"
    run = {"machine": {}, "threads": 1, "ceilings": None, "groups": {"grid": records}}
    lines = report.reasons(report.Results(run).groups["grid"])
    assert any("missing. no wheel" in line for line in lines)
    assert any("no_such" in line for line in lines)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("task", cells.TASKS)
def test_sampled_reference_agrees_with_the_whole(monkeypatch, task, symmetric):
    p = 0 if task in ("kernel", "gradient") else 2
    cell = cells.cell(task, 90, 90 if symmetric else 70, 3, symmetric=symmetric, p=p)
    whole = problem.reference(cell)
    monkeypatch.setattr(problem, "EXACT_ENTRIES", 0)
    sampled = problem.reference(cell)
    compared = 0
    for name in set(whole) & set(sampled):
        if not name.endswith("_index"):
            index = None if name + "_index" in whole else sampled.get(name + "_index")
            expected = whole[name] if index is None else whole[name][index]
            np.testing.assert_allclose(sampled[name], expected, rtol=1e-12, atol=1e-12)
            compared += 1
    assert compared


def test_every_contender_names_a_module_and_every_task_somebody():
    folder = os.path.join(ROOT, "benchmarks", "contenders")
    for contender in ALL:
        assert os.path.exists(os.path.join(folder, contender.module + ".py"))
    assert len(BY_KEY) == len(ALL)


def test_command_line_writes_what_it_measured(tmp_path, monkeypatch):
    from benchmarks.__main__ import main

    sizes = (cells.SMALLEST, (400, 300, 3))
    tiny = [cells.cell("kernel", *size, dtype="float64") for size in sizes]
    monkeypatch.setitem(cells.GROUPS, "grid", lambda quick: tiny)
    arguments = ["--cells", "grid", "--contenders", "rbf_op,numpy,theano-empty", "--threads", "1"]
    arguments += ["--rounds", "1", "--seconds", "0.01", "--output", str(tmp_path)]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "NumPy, expansion" in done.output
    assert max(len(line) for line in done.output.splitlines()) <= 80
    with open(str(tmp_path / "results.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["key"], row["n"]) for row in rows if row["status"] == "ok"} == {
        ("rbf_op", "5"),
        ("numpy", "5"),
        ("theano-empty", "5"),
        ("rbf_op", "400"),
        ("numpy", "400"),
    }
    large = [row for row in rows if row["n"] == "400"]
    assert all(float(row["floor_s"]) > 0 for row in large)
    again = CliRunner().invoke(main, ["--from", str(tmp_path / "results.json")])
    title = "K, float64"
    assert title in again.output
    assert again.output[again.output.index(title) :].strip() in done.output
    assert (tmp_path / "performance-speedup.png").exists()


def test_publishing_rewrites_what_was_measured(tmp_path, monkeypatch):
    from benchmarks import publish

    def block(name):
        text = (tmp_path / "performance.md").read_text()
        return text.split("<!-- measured: %s -->\n" % name)[1].split("<!-- end -->")[0]

    def run(group, seconds):
        size = cells.cell("kernel", 2000, 2000, 10)._asdict()
        keys = [("rbf_op", "ours", seconds), ("numpy", "peer", 7 * seconds)]
        records = [
            dict(key=key, label=key, role=role, threads=2, cell=size, seconds=[least], cpu=[least],
                 status="ok", reason="", version="1", error=0, calls=1)
            for key, role, least in keys
        ]  # fmt: skip
        machine = {"processor": "Z80"}
        measured = dict(machine=machine, threads=2, ceilings=None, groups={group: records})
        path = publish.publish(report.Results(measured), "performance")
        assert path == str(tmp_path / "performance.md")

    monkeypatch.setattr(publish, "DOCS", str(tmp_path))
    monkeypatch.setattr(publish, "FIGURES", str(tmp_path / "figures"))
    names = ["machine", "ceilings", "comparison", "contenders", "targets", "product"]
    marks = [
        "<!-- measured: %s -->\nold\n<!-- end -->\n" % n for n in names + ["figures", "growth"]
    ]
    (tmp_path / "performance.md").write_text("words\n".join(marks))
    run("grid", 0.5)
    assert "| 2000x2000x10 | 500 | 3500 | numpy | 7.0 |" in block("comparison")
    assert "Geometric mean of the ratios from n = 2000 up: 7.0.\n" in block("comparison")
    assert "Z80" in block("machine") and block("growth") == "old\n"
    assert block("figures") == "![performance-speedup](figures/performance-speedup.png)\n"
    before = block("comparison")
    run("growth-n", 0.25)
    assert block("growth") == "![performance-n](figures/performance-n.png)\n"
    assert block("comparison") == before
    assert sorted(os.listdir(str(tmp_path / "figures"))) == [
        "performance-n.png",
        "performance-speedup.png",
    ]


def test_cells_are_selected_by_their_words():
    from benchmarks.__main__ import _selected

    found = cells.product_large()
    assert _selected(found, ()) == found
    chosen = _selected(found, ("product 30000x30000x3 ", "gradient 100000x100000x100 p=10"))
    assert [(c.task, c.n, c.d, c.p) for c in chosen] == [
        ("product", 30000, 3, 1),
        ("product", 30000, 3, 10),
        ("product gradient", 100000, 100, 10),
    ]


def test_command_line_refuses_unknown_names():
    from benchmarks.__main__ import main

    done = CliRunner().invoke(main, ["--contenders", "cupy"])
    assert done.exit_code == 2 and "no cupy" in done.output
    done = CliRunner().invoke(main, ["--cells", "product", "--only", "product", "--only", "nosuch"])
    assert done.exit_code == 2 and "product 10000x10000x3 p=1 float32" in done.output
    assert 'no cell has "nosuch"' in done.output and "kernel" not in done.output


def test_bars_are_in_the_order_of_the_tables():
    from benchmarks import figures

    found = cells.grid()
    sections = [
        (task, dtype, [c for c in found if (c.task, c.dtype) == (task, dtype)], [])
        for dtype in cells.DTYPES
        for task in ("kernel", "gradient")
    ]
    bars = [cell for cell, _ in figures._in_turn(sections, "kernel")]
    assert [cell.size for cell in bars[::2]] == [cell.size for cell in sections[0][2]]
    assert [cell.dtype for cell in bars] == list(cells.DTYPES) * (len(bars) // 2)

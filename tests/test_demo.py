"""What `rbf-op demo` shows: each part computes what it says, notices what is wrong, and exits so.

Times are taken at small sizes, and never judged.
"""

import hashlib
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from rbf_op import RBFDotGrad, RBFKernel, cli, usage
from rbf_op.demo import digits, layer_timing, question, show

click_testing = pytest.importorskip("click.testing")

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

ALL_BUT_LOOPS = [way for way in question.WAYS if way != "nested loops"]


# -- part 1: the question ------------------------------------------------------------------------


def test_exact_values():
    exact = question.exact(*question.draw())
    np.testing.assert_allclose(
        exact[0], [1.83702294e-25, 1.78983680e-26, 9.22899970e-27], rtol=5e-9
    )
    np.testing.assert_allclose(exact, question.PRINTED, rtol=3e-5)


@pytest.mark.parametrize("way", question.WAYS)
def test_every_way_gives_what_the_question_printed(way, only_our_c_code):
    single, double = [question.evaluate(way, dtype) for dtype in ("float32", "float64")]
    assert single.dtype == "float32" and double.dtype == "float64"
    np.testing.assert_allclose(single, question.PRINTED, rtol=3e-5)
    np.testing.assert_allclose(double, question.exact(*question.draw()), rtol=1e-13)


def test_the_node_is_as_exact_as_its_distance_allows():
    x, W, S = question.draw()
    exact = question.exact(x, W, S)
    distance = -np.log(2 * exact / S**2)
    error = np.abs(question.evaluate("rbf_kernel", "float64") / exact - 1)
    assert (error <= (4 + distance) * 2.0**-52).all()


def test_relative_error_does_not_hide_nan():
    assert np.isnan(question.relative_error(np.array([1.0, np.nan]), np.ones(2)))


# -- part 2: the layer ---------------------------------------------------------------------------


def assert_checked_and_timed(rows):
    assert list(rows) == ALL_BUT_LOOPS
    for row in rows.values():
        assert "failed" not in row
        assert 0 < row["error"] < 1e-4
        assert row["compile_seconds"] > 0 and row["peak_bytes"] >= 0
        for task in layer_timing.TASKS:
            assert row[task]["seconds"] > 0 and row[task]["cores"] >= 0.9


def test_nested_loops_are_timed_at_a_small_size():
    row = layer_timing.measure_nested_loops(3, 4, 2)
    assert row["forward"]["seconds"] > 0 and row["error"] < 1e-4


@pytest.mark.parametrize("way", question.WAYS)
def test_only_our_way_holds_our_node(way):
    import rbf_op.fusion  # noqa: F401 (its rewrite replaces the plain ways, unless told not to)

    contender = layer_timing.Contender(way, 3, 4, 2, "float64", with_gradient=False)
    nodes = contender.functions["forward"].maker.fgraph.apply_nodes
    fused = [node for node in nodes if isinstance(node.op, RBFKernel)]
    assert len(fused) == (way == "rbf_kernel")


@pytest.mark.parametrize("output", range(4))
def test_a_wrong_contender_is_noticed(output):
    contender = layer_timing.Contender("rbf_kernel", 6, 4, 5, "float64")
    assert contender.error() < layer_timing.TOLERANCE["float64"]
    both = contender.functions[layer_timing.GRADIENT]

    def wrong(*inputs):
        results = [value.copy() for value in both(*inputs)]
        results[output].flat[0] *= 1 + 1e-6
        return results

    contender.functions[layer_timing.GRADIENT] = wrong
    assert contender.error() > layer_timing.TOLERANCE["float64"]


def test_contenders_that_fail_are_reported(monkeypatch):
    monkeypatch.setitem(layer_timing.TOLERANCE, "float32", 0)
    rows = layer_timing.measure(["no such way", "rbf_kernel"], 4, 3, 2, rounds=1)
    assert "ended with code 1 (KeyError" in rows["no such way"]["failed"]
    assert "wrong by" in rows["rbf_kernel"]["failed"]


def test_peak_memory_sees_what_was_freed_again():
    with usage.PeakMemory() as peak:
        np.ones(1 << 23)  # 64 MiB
    assert 60e6 < peak.bytes < 100e6


def test_other_programs_are_seen_and_own_work_is_not(monkeypatch):
    command = "print(flush=True)\nwhile True: pass"
    other = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        with usage.OtherPrograms() as others:
            time.sleep(1)
    finally:
        other.kill()
        other.communicate()
    assert 0.1 < others.cores <= os.cpu_count() + 0.1

    monkeypatch.setattr(usage.os, "sysconf", lambda name: 1e18)  # as if nobody had run
    with usage.OtherPrograms() as others:
        sum(range(10**6))
    assert others.cores == 0


def test_busy_cores_counts_threads_that_work():
    data, finished = bytes(1 << 20), threading.Event()

    def work():
        hashlib.sha256(data).digest()  # without the GIL

    def work_on():  # to the end: a thread that has ended leaves no record
        while not finished.is_set():
            work()

    def cores():
        with usage.BusyCores() as busy:
            start = time.perf_counter()
            while time.perf_counter() < start + 0.5:
                work()
        return busy.cores

    assert cores() < 1.1
    thread = threading.Thread(target=work_on)
    thread.start()
    try:
        assert cores() > 1.1
    finally:
        finished.set()
        thread.join()


# -- part 3: digits ------------------------------------------------------------------------------


def test_both_networks_have_the_same_loss():
    data = digits.load(dtype="float64")
    hidden = (digits.fused_hidden, digits.plain_hidden)
    losses = [digits.Network(layer, data, centres=60).epoch(0.01)[:20] for layer in hidden]
    assert len(losses[0]) == 20 and losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(*losses, rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_network_learns_digits(seed):
    network = digits.Network(digits.fused_hidden, digits.load(seed), seed=seed)
    before = [parameter.get_value() for parameter in network.parameters]
    epochs = list(digits.train(network, show.EPOCHS))
    assert epochs[-1].accuracy >= 0.97
    assert epochs[-1].loss < epochs[0].loss / 10
    for old, parameter in zip(before, network.parameters):  # centres and widths as well
        assert not np.allclose(old, parameter.get_value(), rtol=0.01)


# -- the whole -----------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(show, "SIZES", {True: dict(size=(30, 5, 4), rounds=1, nested=(3, 2))})
    monkeypatch.setattr(digits, "CENTRES", 20)
    monkeypatch.setattr(show, "EPOCHS", 2)


def run_cli(*arguments):
    return click_testing.CliRunner().invoke(cli.commands(), arguments)


def test_demo_measures_and_prints_all_parts_in_80_columns_and_draws(small, monkeypatch, tmp_path):
    measure, announced, measured = layer_timing.measure, [], []

    def watched(*arguments, step, **options):
        def announce(text):
            announced.append(text)
            step(text)

        measured.append(measure(*arguments, step=announce, **options))
        return measured[-1]

    monkeypatch.setattr(layer_timing, "measure", watched)
    monkeypatch.setattr(show, "ACCURACY", 0.1)
    monkeypatch.chdir(tmp_path)
    figure = tmp_path / "layer.png"
    result = run_cli("demo", "--quick", "--plot", figure.name)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert "…" not in result.output  # nothing cut off
    for text in ("1.83702294e-25", "1.83701953e-25", *question.WAYS, "test accuracy", "layer.png"):
        assert text in result.output
    assert "FAILED" not in result.output
    assert figure.read_bytes().startswith(b"\x89PNG")
    (rows,) = measured
    assert_checked_and_timed(rows)
    assert len(announced) == layer_timing.steps(ALL_BUT_LOOPS, 1)


@pytest.mark.parametrize("others", [0.2, 0.3])
def test_demo_says_before_and_after_that_others_use_the_cores(small, monkeypatch, others):
    class Others:
        cores = others * os.cpu_count()

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    seconds = {"seconds": 1e-3, "cores": 1.0}
    row = {"compile_seconds": 1.0, "peak_bytes": 1e6, "forward": seconds}
    row[layer_timing.GRADIENT] = {"seconds": 4.4e-2, "cores": 1.0}
    slow = dict(row, forward={"seconds": 1.0}, **{layer_timing.GRADIENT: seconds})
    rows = {"norm expansion": row, "rbf_kernel": slow}
    monkeypatch.setattr(layer_timing, "measure", lambda *arguments, **options: rows)
    monkeypatch.setattr(layer_timing, "measure_nested_loops", lambda *arguments: row)
    monkeypatch.setattr(show.usage, "OtherPrograms", Others)
    monkeypatch.setattr(show.time, "sleep", lambda seconds: None)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    console = show.Console(width=80, record=True)
    show.show_layer(console, [], size=(2000, 100, 500), rounds=1, nested=(10, 5))
    text = " ".join(console.export_text().split())
    busy = others > 0.25
    assert text.count("Other programs use ") == text.count("Other programs used ") == busy
    assert text.count("OMP_WAIT_POLICY=passive") == 2 * busy
    assert "0.001 x" in text and "44.0 x" in text
    assert "the 1 000 000 entries here would need 5.6 hours to compile and 20 s" in text


def test_demo_fails_when_a_part_fails(small, monkeypatch):
    monkeypatch.setattr(question, "PRINTED", question.PRINTED * (1 + 1e-4))
    monkeypatch.setattr(show, "ACCURACY", 1.1)
    monkeypatch.setattr(question, "WAYS", {"rbf_kernel": question.fused_node})
    monkeypatch.setattr(show, "show_layer", lambda console, failures, **size: {})
    result = run_cli("demo", "--quick")
    assert result.exit_code == 1
    assert "FAILED rbf_kernel: 1" in result.output
    assert "FAILED digits: accuracy" in result.output


@pytest.mark.parametrize("path", ["/nowhere/at/all/x.png", "x.docx"])
def test_demo_refuses_a_figure_it_cannot_write_before_it_measures(path):
    result = run_cli("demo", "--plot", path)
    assert result.exit_code == 2
    assert "--plot" in result.output


@pytest.mark.parametrize("arguments", [["no-such-command"], ["demo", "--no-such-option"]])
def test_misuse_exits_with_2(arguments):
    assert run_cli(*arguments).exit_code == 2


def run_without(modules, *arguments, **variables):
    """`rbf-op` with some modules not to be found."""
    code = "import sys; sys.modules.update(dict.fromkeys(%r)); " % (modules,)
    return subprocess.run(
        [sys.executable, "-c", code + "from rbf_op.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([ROOT, *sys.path]), **variables),
    )


@pytest.mark.parametrize(
    "modules, arguments, listed",
    [
        (["click"], [], "click, which is not installed. Run: pip install click"),
        (["rich"], [], "rich, which is not installed. Run: pip install rich"),
        (
            ["click", "rich", "sklearn", "matplotlib"],
            [],
            "click, rich and scikit-learn, which are not installed. "
            "Run: pip install click rich scikit-learn",
        ),
        (
            ["click", "matplotlib"],
            ["--plot", "x.png"],
            "click and matplotlib, which are not installed. Run: pip install click matplotlib",
        ),
    ],
)
def test_what_is_missing_is_named_at_once(modules, arguments, listed):
    result = run_without(modules, "demo", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == ["rbf-op needs " + listed]


def test_help_without_click_names_both_commands():
    result = run_without(["click", "rich"], "--help")
    assert result.returncode == 0 and result.stderr == ""
    assert "rbf-op doctor" in result.stdout
    assert "rbf-op demo" in result.stdout and "pip install click rich" in result.stdout


def test_demo_without_a_compiler_says_so_in_a_line():
    flags = ",".join(filter(None, [os.environ.get("THEANO_FLAGS"), "cxx="]))
    result = run_without([], "demo", THEANO_FLAGS=flags)
    assert result.returncode == 2 and result.stdout == ""
    assert "apt install g++" in result.stderr.splitlines()[-1]


def readme():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        return file.read()


def example_of_the_readme(number):
    return readme().split("```python\n")[number].split("```")[0]


def test_the_example_of_the_readme_runs():
    names = {}
    exec(example_of_the_readme(1), names)
    x, W, S = question.draw(names["x"].dtype)
    dW, dS = names["train"](x, W, S)
    assert dW.shape == W.shape
    exact = question.exact(x, W, S)
    np.testing.assert_allclose(dS, 2 * exact.sum(axis=0) / S, rtol=1e-4)


def test_the_model_of_the_readme_is_fused_and_reported_as_printed_there(capsys):
    names = {}
    exec(example_of_the_readme(2), names)
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    lines = [line.strip() for line in readme().splitlines()]
    start = lines.index(printed[0])
    assert lines[start : start + len(printed)] == printed
    nodes = names["train"].maker.fgraph.apply_nodes
    assert sum(isinstance(node.op, RBFDotGrad) for node in nodes) == 1
    assert not any(isinstance(node.op, RBFKernel) for node in nodes)  # the cost comes with it

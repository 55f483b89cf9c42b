"""The programs under clients/ and what runs them: a client that fails is named, never passed over.

PyMC3, Keras and Lasagne themselves are run by `make clients`, as part of .ci/run: each needs an
environment of its own. Touches clients/run.py and, through it, rbf_op.
"""

import pytest
from clients import run


def test_the_question_as_asked_and_as_answered():
    results = run.results_of("question")
    assert run.failure(results) is None
    assert results["nodes"] == [2, 2]


GOOD = {"nodes before": [0, 0], "nodes": [1, 1], "difference": 1e-12, "tolerance": 1e-9}


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({}, None),
        ({"nodes before": [1, 0]}, "was fused too"),
        ({"nodes": [1, 0]}, "was not fused"),
        ({"difference": 1e-3}, "differ by 1.0e-03"),
        ({"difference": float("nan")}, "differ"),
    ],
)
def test_what_counts_as_a_failure(changed, reason):
    found = run.failure(dict(GOOD, **changed))
    assert found is None if reason is None else reason in found


def test_a_client_that_cannot_be_installed_fails(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(run, "ROOT", str(tmp_path))
    # No index: what pip says without a network, and at once.
    monkeypatch.setitem(run.CLIENTS, "keras_rbf", "--no-index keras==2.3.1")
    monkeypatch.setattr("sys.argv", ["run.py", "keras_rbf"])
    assert run.main() == 1
    assert "FAILED keras_rbf could not be installed" in capsys.readouterr().out


def test_a_client_that_fails_or_says_nothing_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "HERE", str(tmp_path))
    (tmp_path / "question.py").write_text("raise SystemExit('out of luck')")
    with pytest.raises(run.Failed, match="question did not run(.|\n)*out of luck"):
        run.results_of("question")
    (tmp_path / "question.py").write_text("print('hello')")
    with pytest.raises(run.Failed, match="printed no results but: hello"):
        run.results_of("question")

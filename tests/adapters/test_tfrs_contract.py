"""TensorFlow Recommenders' own tests, as its wheel ships them, against farann's layers.

The furthest of -c is the nearest of c: layers whose `index` negates the candidates must pass the
tests that were written for nearest ones.
"""

from __future__ import annotations

import importlib.util
import re
import unittest
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from tensorflow_recommenders.layers import factorized_top_k
from tfrs_cases import tf

from farann.adapters.tfrs import BruteForceFurthest, Furthest, StreamingFurthest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# What TFRS's tests give to its ScaNN layer; our layers have nothing of the kind.
SCANN_OPTIONS = {"num_leaves", "num_leaves_to_search", "num_reordering_candidates"}


# Of the 96 combinations of six parameters every so many-th is gone through: of each two parameters
# each pair of values comes up.
_EACH = 9
# Goes through a data set 256 times, for half a minute: other cases ask a streaming layer for ids,
# and other layers for the metric by ids. "test_session" is a helper of tf.test.TestCase.
_SLOW = "test_id_based_evaluation0"


class Negated:
    """Make a furthest layer a nearest one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{k: v for k, v in options.items() if k not in SCANN_OPTIONS})

    def index(self, candidates: Any, identifiers: Any = None) -> Any:
        return super().index(-tf.convert_to_tensor(candidates), identifiers)  # type: ignore


@tf.keras.utils.register_keras_serializable(package="farann tests")
class NearestBruteForce(Negated, BruteForceFurthest):
    pass


@tf.keras.utils.register_keras_serializable(package="farann tests")
class NearestNative(Negated, Furthest):
    pass


@tf.keras.utils.register_keras_serializable(package="farann tests")
class NearestStreaming(Negated, StreamingFurthest):
    def index_from_dataset(self, candidates: Any) -> Any:
        if isinstance(candidates.element_spec, tuple):
            return super().index_from_dataset(candidates.map(lambda ids, rows: (ids, -rows)))
        return super().index_from_dataset(candidates.map(tf.negative))


def load(name: str, top_k: SimpleNamespace) -> ModuleType:
    """A test module of TFRS in which `top_k` has taken the place of its own layers."""
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.multiple(factorized_top_k, **vars(top_k)):  # decorators read them now
        spec.loader.exec_module(module)
    if hasattr(module, "layers"):
        vars(module)["layers"] = SimpleNamespace(factorized_top_k=top_k)
    else:
        vars(module)["factorized_top_k"] = top_k
    return module


def cases(kind: str, brute_force: type, scann: type, *suites: str) -> Iterator[Any]:
    """The cases of some suites of a test module, with the layers' places taken as said."""
    top_k = SimpleNamespace(Streaming=NearestStreaming, BruteForce=brute_force, ScaNN=scann)
    module = load(f"tensorflow_recommenders.{kind}.factorized_top_k_test", top_k)
    layers = f"{brute_force.__name__} for BruteForce, {scann.__name__} for ScaNN"
    for suite in suites:
        by_method: dict[str, list[Any]] = {}
        for case in unittest.defaultTestLoader.loadTestsFromTestCase(getattr(module, suite)):
            assert isinstance(case, unittest.TestCase)
            name = case.id().removeprefix(f"{type(case).__module__}.")
            if not name.endswith(".test_session") and _SLOW not in name:
                method = re.match(r"\D*", name.partition(" ")[0])
                assert method is not None
                number = int(name.partition(" ")[0][method.end():] or 0)
                by_method.setdefault(method[0], []).append(
                    (number, pytest.param(case, id=f"{layers}: {name}")))
        for numbered in by_method.values():
            numbered.sort(key=lambda pair: pair[0])
            yield from (case for _, case in numbered[:: _EACH if len(numbered) > 20 else 1])


# ScannTest asks what BruteForceTest does, of the same cases and by the same function
# (test_scann_top_k): the native layer goes through them in ScaNN's place, and in no other.
@pytest.mark.parametrize("case", [
    *cases("layers", NearestBruteForce, NearestNative, "StreamingTest", "BruteForceTest",
           "ScannTest"),
    *cases("metrics", NearestBruteForce, NearestNative, "FactorizedTopKTest"),
])
def test_of_tfrs(case: unittest.TestCase) -> None:
    result = unittest.TestResult()
    case.run(result)
    assert result.testsRun == 1 and not result.skipped
    assert result.wasSuccessful(), "".join(text for _, text in result.failures + result.errors)

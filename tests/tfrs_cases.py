"""What the tests of the TensorFlow adapter share; they are skipped where TensorFlow is missing."""

from __future__ import annotations

import pytest

REASON = "needs tensorflow, tf-keras and tensorflow-recommenders; `make test` installs them if it can"

tf = pytest.importorskip("tensorflow", reason=REASON)
pytest.importorskip("tf_keras", reason=REASON)
pytest.importorskip("tensorflow_recommenders", reason=REASON)

"""What the tests of the TensorFlow adapter share; they are skipped where TensorFlow is missing."""

from __future__ import annotations

import pytest

REASON = "needs tensorflow, tf-keras, tensorflow-recommenders: `make test` installs what it can"

tf = pytest.importorskip("tensorflow", reason=REASON)
pytest.importorskip("tf_keras", reason=REASON)
pytest.importorskip("tensorflow_recommenders", reason=REASON)

"""Several variables of TensorFlow that are assigned and read as one, whichever threads do it.

Their version is odd while they are assigned. Compiled functions read it before and after them, and
read again if it changed; eager calls wait for a lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Tensor = Any

_ASSIGNING = threading.Lock()  # of all layers: it is held for some microseconds
_MOST_TRIES = 1_000_000  # reads in a compiled function, which takes seconds
_NOT_WHOLE = ("the layer's candidates are half replaced, as their weights were saved while they "
              "were assigned: index them once more")


@contextmanager
def assigning(version: Any) -> Iterator[None]:
    """Have the variables assigned in the block seen at once; of other libraries there is no
    version, and no compiled function that reads them."""
    with _ASSIGNING:
        if version is None:
            yield
            return
        before = int(version) // 2 * 2
        version.assign(before + 1)
        yield
        version.assign(before + 2)  # after an error it stays odd


def read(version: Any, reads: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results of functions that each read a variable, of one moment between assignments."""
    if version is None or _is_eager():
        with _ASSIGNING:
            return [one() for one in reads]
    import tensorflow as tf

    def once(tries: Tensor, *_: Tensor) -> list[Tensor]:
        with tf.control_dependencies([tries]):
            before = version.read_value()
        with tf.control_dependencies([before]):
            values = [one() for one in reads]
        with tf.control_dependencies(values):
            after = version.read_value()
        return [tries + 1, tf.equal(before, after) & tf.equal(before % 2, 0), *values]

    first = once(tf.constant(0))
    _, is_whole, *values = tf.while_loop(
        lambda tries, is_whole, *_: ~is_whole & (tries < _MOST_TRIES), once, first,
        shape_invariants=[one.shape for one in first])
    with tf.control_dependencies([tf.debugging.assert_equal(is_whole, True, _NOT_WHOLE)]):
        return [tf.identity(one) for one in values]


def _is_eager() -> bool:
    import tensorflow as tf

    return bool(tf.executing_eagerly())

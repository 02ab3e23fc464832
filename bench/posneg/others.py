"""Single models of other libraries, those that can be imported: scores of all users and items."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Wide = NDArray[np.float64]
Fit = Callable[[Ints, Ints, Bools, tuple[int, int], int], Wide]
DIM = 16
_EPOCHS = 40


def _implicit_als(users: Ints, items: Ints, liked: Bools, shape: tuple[int, int], seed: int
                  ) -> Wide:
    from scipy.sparse import csr_matrix

    # Of negative confidence is what isn't preferred.
    weights = csr_matrix((np.where(liked, 20.0, -20.0), (users, items)), shape)
    model = import_module("implicit.als").AlternatingLeastSquares(
        factors=DIM, regularization=10.0, random_state=seed, num_threads=1, use_gpu=False)
    model.fit(weights, show_progress=False)
    return np.asarray(model.user_factors @ model.item_factors.T, np.float64)


def _implicit_bpr(users: Ints, items: Ints, liked: Bools, shape: tuple[int, int], seed: int
                  ) -> Wide:
    from scipy.sparse import csr_matrix

    likes = csr_matrix((np.ones(liked.sum()), (users[liked], items[liked])), shape)
    model = import_module("implicit.bpr").BayesianPersonalizedRanking(
        factors=DIM, random_state=seed, num_threads=1, use_gpu=False)
    model.fit(likes, show_progress=False)
    return np.asarray(model.user_factors @ model.item_factors.T, np.float64)


def _cornac_mf(users: Ints, items: Ints, liked: Bools, shape: tuple[int, int], seed: int) -> Wide:
    cornac = import_module("cornac")
    data = cornac.data.Dataset.from_uir(
        [(str(u), str(i), 1.0 + good) for u, i, good in
         zip(users, items, liked.astype(float), strict=True)], seed=seed)
    model = cornac.models.MF(k=DIM, lambda_reg=0.1, use_bias=True, seed=seed, num_threads=1)
    model.fit(data)
    scores = np.zeros(shape)
    rows = np.array([int(user) for user in data.user_ids])
    columns = np.array([int(item) for item in data.item_ids])
    scores[np.ix_(rows, columns)] = model.i_biases + model.u_factors @ model.i_factors.T
    return scores


def _lightgcn(users: Ints, items: Ints, liked: Bools, shape: tuple[int, int], seed: int) -> Wide:
    torch = import_module("torch")
    _older_names()
    recbole, data = import_module("recbole.config"), import_module("recbole.data")
    lightgcn = import_module("recbole.model.general_recommender").LightGCN
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "likes" / "likes.inter"
        file.parent.mkdir()
        file.write_text("user_id:token\titem_id:token\n" + "".join(
            f"{user}\t{item}\n" for user, item in zip(users[liked], items[liked], strict=True)))
        argv, sys.argv = sys.argv, sys.argv[:1]  # which RecBole would read as its own
        try:
            config = recbole.Config(model="LightGCN", dataset="likes", config_dict={
                "data_path": folder, "checkpoint_dir": folder, "use_gpu": False, "gpu_id": "",
                "state": "ERROR", "show_progress": False, "embedding_size": DIM,
                "load_col": {"inter": ["user_id", "item_id"]},
                "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "RO", "group_by": "user",
                              "mode": "full"}})
        finally:
            sys.argv = argv
        torch.manual_seed(seed)
        np.random.seed(seed)  # RecBole draws negatives by it
        known = data.create_dataset(config)
        batches = data.data_preparation(config, known)[0]
        model = lightgcn(config, batches.dataset)
        optimizer = torch.optim.Adam(model.parameters(), lr=config["learning_rate"])
        for _ in range(_EPOCHS):
            for batch in batches:
                optimizer.zero_grad()
                model.calculate_loss(batch).backward()
                optimizer.step()
        with torch.no_grad():
            found = [embeddings.numpy() for embeddings in model()]
        scores = np.zeros(shape)
        rows, columns = (known.id2token(field, np.arange(1, len(each))).astype(np.int64)
                         for field, each in zip(("user_id", "item_id"), found, strict=True))
    scores[np.ix_(rows, columns)] = found[0][1:] @ found[1][1:].T
    return scores


def _older_names() -> None:
    """Names that RecBole 1.2 asks for, and numpy 2 and scipy 1.13 no longer have."""
    sparse: Any = import_module("scipy.sparse")
    for name, kind in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
        if not hasattr(np, name):
            setattr(np, name, kind)
    if not hasattr(sparse.dok_matrix, "_update"):
        sparse.dok_matrix._update = lambda self, values: self._dict.update(values)


# Of both kinds of labels, and of likes alone.
SIGNED: dict[str, Fit] = {"implicit's least squares": _implicit_als,
                          "cornac's factorization": _cornac_mf}
OF_LIKES: dict[str, Fit] = {"implicit's BPR of likes": _implicit_bpr,
                            "RecBole's LightGCN of likes": _lightgcn}

"""The parts of both rankers that judge them by feedback."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farann._types import Float32Array, Float64Array
from farann.adapters.posneg import feedback, fitting
from farann.adapters.posneg.blend import Blend
from farann.adapters.posneg.calibration import expit
from farann.adapters.posneg.diagnosis import Finding, Seen, diagnose
from farann.adapters.posneg.evaluation import THIS, Evaluation, Method, Sides, evaluate
from farann.adapters.posneg.naming import Ids
from farann.adapters.posneg.scoring import Model, Pair, query_pair
from farann.adapters.posneg.signed import Members, observe, queries_of
from farann.contract import checks

RAW, ITEMS = "average of raw scores", "items' record alone"


class JudgedFusion:
    """The part of `FusionRanker` that judges it."""

    _members: Members
    _blend: Blend | None

    def evaluate(self, queries: Any, item_ids: npt.ArrayLike, labels: npt.ArrayLike, *,
                 users: npt.ArrayLike | None = None, user_ids: npt.ArrayLike | None = None,
                 k: int = 10) -> Evaluation:
        """Compare this ranker with simpler ways on feedback that nothing has seen.

        Parameters
        ----------
        queries, item_ids, labels, users, user_ids
            Feedback as in `fit`: neither the models nor `fit` may have had it.
        k : int
            How much of a list counts. Users with more items than that are ranked.

        Returns
        -------
        Evaluation
            The rows are each model alone, the average of raw scores, the items' record, this
            ranker, and an oracle that knows the labels; ``str()`` makes a table of it.
        """
        k, blend = checks.to_int("k", k, 1), self._blend
        if blend is None:
            raise RuntimeError("evaluate: fit must be called first")
        given, similar = self._feedback(queries, item_ids, labels, users, user_ids)
        signs, zero = self._members.directions, np.zeros(1)
        said = [sign * line(column, zero)
                for sign, line, column in zip(signs, blend.lines, similar.T, strict=True)]
        methods = [Method(f"{name} model alone", each, expit(each))
                   for name, each in zip(self._members.names, said, strict=True)]
        # Likes first: what the others are compared with.
        methods.sort(key=lambda method: not method.name.startswith("positive"))
        fused = blend.items[given.items] + np.column_stack(said) @ blend.weights
        methods += [Method(RAW, np.nan_to_num(signs * similar).mean(axis=1)),
                    Method(ITEMS, blend.about.record[given.items]),
                    Method(THIS, fused, expit(blend.chance(fused)))]
        dropped = [report.name for report in blend.reports if report.dropped]
        of_likes = np.array([sign == 1 for sign in self._members.signs])
        likes = np.column_stack(said) @ np.where(of_likes, blend.weights, 0.0)
        sides = Sides(likes, fused - likes) if likes.any() else None
        return evaluate(given.users, given.liked, methods, k, dropped, sides)

    def diagnose(self, queries: Any, item_ids: npt.ArrayLike, labels: npt.ArrayLike, *,
                 users: npt.ArrayLike | None = None, user_ids: npt.ArrayLike | None = None
                 ) -> list[Finding]:
        """What is wrong with models or labels, by feedback as in `fit`; it need not be fitted.

        Given feedback other than that of `fit`, it also tells if models were trained on the
        latter.

        Returns
        -------
        list of Finding
            Empty if nothing was found.
        """
        given, similar = self._feedback(queries, item_ids, labels, users, user_ids)
        blend, chances = self._blend, None
        before = [float("nan")] * len(self._members.names)
        if blend is not None:
            zero = np.zeros(1)
            before = [report.auc for report in blend.reports]
            said = np.column_stack([line(column, zero) for line, column in
                                    zip(blend.lines, similar.T, strict=True)])
            fused = said @ (self._members.directions * blend.weights) + blend.items[given.items]
            chances = expit(blend.chance(fused))
        return diagnose(given.users, given.liked, [
            Seen(*each) for each in zip(self._members.names, self._members.directions
                                        [:, np.newaxis] * similar.T, before, strict=True)], chances)

    def _feedback(self, queries: Any, item_ids: npt.ArrayLike, labels: npt.ArrayLike,
                  users: npt.ArrayLike | None, user_ids: npt.ArrayLike | None
                  ) -> tuple[feedback.Feedback, Float64Array]:
        members = self._members
        asked, _ = queries_of(members, queries, [True] * len(members.sides), single=False)
        every = [each for each in asked if each is not None]
        given = feedback.checked(every, members.ids, item_ids, labels,
                                 feedback.Users.of(users, user_ids, len(every[0])), None, None)
        similar = observe(members, asked, given.users, given.items).similar
        return given._replace(users=feedback.askers(given)), similar


class JudgedPair:
    """The part of `PosNegRanker` that judges it."""

    _ids: Ids
    _pair: Pair
    _model: Model | None

    def evaluate(self, positive_queries: npt.ArrayLike, negative_queries: npt.ArrayLike,
                 item_ids: npt.ArrayLike, labels: npt.ArrayLike, *,
                 users: npt.ArrayLike | None = None, user_ids: npt.ArrayLike | None = None,
                 k: int = 10) -> Evaluation:
        """Compare this ranker with simpler ways on feedback that nothing has seen.

        Parameters and return value are those of `FusionRanker.evaluate`, with the queries of
        both models.
        """
        k, model = checks.to_int("k", k, 1), self._model
        if model is None:
            raise RuntimeError("evaluate: fit must be called first")
        given, similar = self._feedback([positive_queries, negative_queries], item_ids, labels,
                                        users, user_ids)
        fused = fitting.fused_of(self._pair, model, given)
        chances = None if model.probability is None else expit(model.probability(fused))
        alone = [Method("positive model alone", np.nan_to_num(similar[:, 0])),
                 Method("negative model alone", -np.nan_to_num(similar[:, 1]))]
        return evaluate(
            feedback.askers(given), given.liked,
            [*alone, Method(RAW, np.nan_to_num(similar * [1.0, -1.0]).mean(axis=1)),
             Method(ITEMS, model.items[given.items]), Method(THIS, fused, chances)], k, [],
            self._sides(model, similar[:, 0], fused))

    def _sides(self, model: Model, similar: Float64Array, fused: Float64Array) -> Sides | None:
        """What the positive model adds to fused scores; None where scores aren't sums."""
        if model.fusion.name != "logit" or self._pair.normalize is not None:
            return None
        likes = model.fusion.weight * model.positive(similar, np.zeros(1))
        return Sides(likes, fused - likes)

    def diagnose(self, positive_queries: npt.ArrayLike, negative_queries: npt.ArrayLike,
                 item_ids: npt.ArrayLike, labels: npt.ArrayLike, *,
                 users: npt.ArrayLike | None = None, user_ids: npt.ArrayLike | None = None
                 ) -> list[Finding]:
        """What is wrong with models or labels, by feedback as in `fit`; it need not be fitted.

        Returns
        -------
        list of Finding
            Empty if nothing was found.
        """
        given, similar = self._feedback([positive_queries, negative_queries], item_ids, labels,
                                        users, user_ids)
        chances, model = None, self._model
        if model is not None and model.probability is not None:
            chances = expit(model.probability(fitting.fused_of(self._pair, model, given)))
        return diagnose(feedback.askers(given), given.liked, [
            Seen("positive", similar[:, 0], float("nan")),
            Seen("negative", -similar[:, 1], float("nan"))], chances)

    def _feedback(self, both: Any, item_ids: npt.ArrayLike, labels: npt.ArrayLike,
                  users: npt.ArrayLike | None, user_ids: npt.ArrayLike | None
                  ) -> tuple[feedback.Feedback, Float64Array]:
        queries: tuple[Float32Array, Float32Array] = query_pair(self._pair, *both, single=False,
                                                                zeros=True)
        given = feedback.checked(queries, self._ids, item_ids, labels,
                                 feedback.Users.of(users, user_ids, len(queries[0])), None, None)
        members = Members(("positive", "negative"), (1, -1), self._pair[:2], self._ids)
        return given, observe(members, queries, given.users, given.items).similar



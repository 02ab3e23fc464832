"""A log of clicks and passes, as a daily mail may leave it: generated, the same in every run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DAYS, SHOWN, CHOICE = 60, 12, 80
AGES, REGIONS, CATEGORIES, PUBLISHERS, TASTES = 6, 10, 15, 40, 6


class ClickLog(NamedTuple):
    """What was shown, a row for each item in each mail.

    Attributes
    ----------
    mails, items : dict of arrays
        Features of mails (who got it, when and where) and of items.
    mail, item : int array (n,)
        Numbers of the mail and of the item.
    day : int array (n,)
    clicked, balanced : bool array (n,)
        Whether it was clicked; which rows a balanced log keeps, half of them clicks.
    chance : float array (n,)
        That it was to be clicked, which no model is told.
    """

    mails: dict[str, np.ndarray]
    items: dict[str, np.ndarray]
    mail: np.ndarray
    item: np.ndarray
    day: np.ndarray
    clicked: np.ndarray
    balanced: np.ndarray
    chance: np.ndarray


def make(rows: int) -> ClickLog:
    """A log whose first 42 days have about so many balanced rows."""
    rng = np.random.default_rng(0)
    n_mails = max(int(rows / 4.2), 300)
    n_users, n_items = max(n_mails // 20, 50), int(np.clip(rows // 100, 200, 3000))

    # Users and items have tastes by their features, and some of their own.
    age, region = rng.integers(0, AGES, n_users), rng.integers(0, REGIONS, n_users)
    category, publisher = rng.integers(0, CATEGORIES, n_items), rng.integers(0, PUBLISHERS, n_items)
    length, quality = rng.random(n_items), rng.normal(0, 0.5, n_items)
    taste = (rng.normal(0, 1, (AGES, TASTES))[age] + rng.normal(0, 0.7, (REGIONS, TASTES))[region]
             + rng.normal(0, 0.5, (n_users, TASTES)))
    drift = rng.normal(0, 0.3, (AGES, TASTES))[age]  # over the whole time
    kind = np.tanh(rng.normal(0, 1, (CATEGORIES, TASTES))[category]
                   + rng.normal(0, 0.7, (PUBLISHERS, TASTES))[publisher]
                   + rng.normal(0, 0.4, (n_items, TASTES)))
    popular = -0.8 * np.log1p(rng.permutation(n_items))
    weekend = rng.normal(0, 0.6, CATEGORIES)

    user, day = rng.integers(0, n_users, n_mails), np.sort(rng.integers(0, DAYS, n_mails))
    phone, leaning = rng.random(n_mails) < 0.5, rng.normal(0, 0.7, n_users)
    shown, logits = [], []
    for at in np.array_split(np.arange(n_mails), max(n_mails // 2000, 1)):
        # Of some items, the old system shows popular ones and ones that fit, more or less.
        choice = np.argpartition(rng.gumbel(size=(len(at), n_items)) + popular, -CHOICE,
                                 axis=1)[:, -CHOICE:]
        mine = np.tanh(taste[user[at]] + drift[user[at]] * day[at, None] / DAYS)[:, None, :]
        meeting = mine * kind[choice]
        like, annoyance = meeting[..., :3].sum(axis=2), meeting[..., 3:].sum(axis=2)
        logit = (1.3 * like - 2.2 * np.maximum(annoyance, 0) + quality[choice]
                 + np.where((day[at] % 7 >= 5)[:, None], weekend[category[choice]], 0)
                 - np.where(phone[at, None], 1.2 * np.maximum(length[choice] - 0.4, 0), 0)
                 + leaning[user[at], None] - 0.6)
        best = np.argsort(-(0.5 * like + rng.gumbel(size=choice.shape)), axis=1)[:, :SHOWN]
        shown.append(np.take_along_axis(choice, best, axis=1))
        logits.append(np.take_along_axis(logit, best, axis=1))

    chance = 1 / (1 + np.exp(-np.concatenate(logits).ravel()))
    clicked = rng.random(len(chance)) < chance
    passes = np.flatnonzero(~clicked)
    balanced = clicked.copy()
    balanced[rng.permutation(passes)[: clicked.sum()]] = True
    mail = np.repeat(np.arange(n_mails), SHOWN)

    def names(word: str, numbers: np.ndarray) -> np.ndarray:
        return np.char.add(f"{word} ", numbers.astype(str))

    return ClickLog(
        {"user_id": names("user", user), "age": names("age", age[user]),
         "region": names("region", region[user]), "weekday": names("day", day % 7),
         "device": np.where(phone, "phone", "desktop")},
        {"item_id": names("item", np.arange(n_items)), "category": names("category", category),
         "publisher": names("publisher", publisher), "length": length.astype(np.float32)},
        mail, np.concatenate(shown).ravel(), day[mail], clicked, balanced, chance)

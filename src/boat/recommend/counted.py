"""Recommenders that count sessions and train no network."""

import numpy as np
import tensorflow as tf

from boat.models import examples
from boat.models.examples import Examples, Sessions
from boat.recommend import counts
from boat.recommend.parameters import RecommendParameters
from boat.recommend.scores import FollowerScores, NeighbourScores, PageScores, PopularScores

_MOST_PAGES = 200_000
_DAY = 86_400


def popular(part: Sessions, names: np.ndarray, frequency: np.ndarray, parameters: RecommendParameters) -> tf.Module:
    """Score each product by its share of the views."""
    return PopularScores(shares(frequency))


def co_occurrence(
    part: Sessions, names: np.ndarray, frequency: np.ndarray, parameters: RecommendParameters
) -> tf.Module:
    """Score each product by how often it followed the products of the session."""
    follows = counts.followers(Examples(part.codes("product_id", names), part.offsets), len(names))
    return FollowerScores(follows, shares(frequency))


def vmis_knn(part: Sessions, names: np.ndarray, frequency: np.ndarray, parameters: RecommendParameters) -> tf.Module:
    """Score each product by the votes of similar sessions."""
    codes = part.codes("product_id", names)
    sessions = counts.memberships(codes, part.offsets, part.seconds, len(names))
    return NeighbourScores(sessions, parameters.sample, parameters.neighbours, shares(frequency))


def pages(part: Sessions, names: np.ndarray, frequency: np.ndarray, parameters: RecommendParameters) -> tf.Module:
    """Score each product by how often it followed the page that the shopper is on."""
    urls = part.shared_pages[:_MOST_PAGES]
    codes = part.codes("product_id", names)
    days = (part.seconds.max() - part.seconds) / _DAY
    pages, numbers = part.pages
    before = examples.encode(pages, urls)[numbers]
    weights = 0.5 ** (days / parameters.half_life)
    return PageScores(urls, counts.page_followers(before, codes, part.offsets, weights, (len(urls), len(names))))


def shares(frequency: np.ndarray) -> np.ndarray:
    """Divide by the sum."""
    shares: np.ndarray = frequency / frequency.sum()
    return shares

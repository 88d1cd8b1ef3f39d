"""The registry of recommenders.

To add one, write its network or its counting function in a file of this package, add a line to `RECOMMENDERS`, and add
the name to `RecommendModel`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from boat.kinds import Range, Space, resolve
from boat.recommend.parameters import RecommendModel


@dataclass(frozen=True)
class Recommender:
    """How one recommender is built. Its module is imported when it is trained.

    Attributes:
        network: `module:class` of a `SessionNetwork`; empty for a recommender that only counts.
        counts: `module:function` that counts sessions into scores; empty for a network.
        space: The parameters that tuning varies.
        added: Counting recommenders whose scores are added to the network's.
        uses_pages: Whether the products that follow a page are counted too.
    """

    network: str = ""
    counts: str = ""
    space: Space = field(default_factory=dict)
    added: tuple[RecommendModel, ...] = ()
    uses_pages: bool = False

    def load(self) -> Any:
        """Import the network's class or the counting function."""
        return resolve(self.network or self.counts)


_NETWORK: Space = {
    "dimensions": Range(32, 256, step=32),
    "window": Range(4, 40),
    "scale": Range(6.0, 24.0),
    "dropout": Range(0.0, 0.8),
    "learning_rate": Range(5e-4, 2e-2, log=True),
    "epochs": Range(2, 20),
}
_NEIGHBOURS: Space = {"sample": Range(100, 5000, log=True), "neighbours": Range(20, 1500, log=True)}

RECOMMENDERS: Mapping[RecommendModel, Recommender] = {
    "blend": Recommender(
        network="boat.recommend.networks:AttentionNetwork",
        space={**_NETWORK, **_NEIGHBOURS},
        added=("vmis_knn", "co_occurrence"),
        uses_pages=True,
    ),
    "attention": Recommender(network="boat.recommend.networks:AttentionNetwork", space=_NETWORK),
    "session_lstm": Recommender(network="boat.recommend.networks:RecurrentNetwork", space=_NETWORK),
    "masked_transformer": Recommender(network="boat.recommend.networks:MaskedNetwork", space=_NETWORK),
    "prod2vec_knn": Recommender(network="boat.recommend.networks:SkipGramNetwork", space=_NETWORK),
    "vmis_knn": Recommender(counts="boat.recommend.counted:vmis_knn", space={**_NEIGHBOURS, "window": Range(2, 40)}),
    "co_occurrence": Recommender(counts="boat.recommend.counted:co_occurrence", uses_pages=True),
    "popular": Recommender(counts="boat.recommend.counted:popular"),
}

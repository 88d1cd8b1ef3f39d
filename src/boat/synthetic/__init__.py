"""A synthetic shop: seeded, of any size in constant memory, in layout and shape of the Coveo Data Challenge 2021.

Shoppers walk among related products: from a product on to the few that follow it, to others of its style, back, or
somewhere else. What they put in the cart and buy depends on how long and how often they looked, and on an interest that
no column shows. The figures come from the challenge's own data set, of which nothing is in here.
"""

from boat.synthetic.shop import DRIFTS, Drift, Shop, generate

__all__ = ["DRIFTS", "Drift", "Shop", "generate"]

"""A synthetic shop in the format of the Coveo Data Challenge 2021, generated from a seed in constant memory.

Shoppers walk among related products: to one of the few that follow a product, to another of its style, back, or to a
popular one. Adds and purchases depend on the number of views and repeated views, and on a hidden interest. The
distributions follow the challenge's data set, but no data of it is included.
"""

from boat.synthetic.shop import DRIFTS, Drift, Shop, generate

__all__ = ["DRIFTS", "Drift", "Shop", "generate"]

from tests.shops import client, shop, shop_files

__all__ = ["client", "shop", "shop_files"]

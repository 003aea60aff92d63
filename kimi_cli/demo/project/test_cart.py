import unittest

from cart import Cart, Item


class CartTest(unittest.TestCase):
    def setUp(self) -> None:
        self.cart = Cart()
        self.cart.add(Item("tea", 450, count=2))
        self.cart.add(Item("mug", 1100))

    def test_sum(self) -> None:
        self.assertEqual(self.cart.total(), 2000)

    def test_coupon(self) -> None:
        self.cart.apply("SPRING")
        self.assertEqual(self.cart.total(), 1800)

    def test_two_coupons(self) -> None:
        self.cart.apply("SPRING")
        self.cart.apply("FRIEND")
        self.assertEqual(self.cart.total(), 1620)

    def test_same_coupon_counts_once(self) -> None:
        self.cart.apply("SPRING")
        self.cart.apply("SPRING")
        self.assertEqual(self.cart.total(), 1800)


if __name__ == "__main__":
    unittest.main()

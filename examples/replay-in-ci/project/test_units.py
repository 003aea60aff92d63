import unittest

from units import parse_size


class ParseSize(unittest.TestCase):
    def test_units(self) -> None:
        self.assertEqual(parse_size("12 B"), 12)
        self.assertEqual(parse_size("1.5MB"), 1_500_000)

    def test_no_size(self) -> None:
        for text in ("", "MB", "5", "5 XB"):
            with self.assertRaises(ValueError):
                parse_size(text)

"""A shopping cart."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Item:
    name: str
    cents: int
    count: int = 1


@dataclass
class Cart:
    items: list[Item] = field(default_factory=list)
    coupons: list[str] = field(default_factory=list)

    def add(self, item: Item) -> None:
        self.items.append(item)

    def apply(self, coupon: str) -> None:
        self.coupons.append(coupon)

    def total(self) -> int:
        """Cents to pay; each coupon takes off a tenth, and counts once."""
        cents = sum(item.cents * item.count for item in self.items)
        for _ in self.coupons:
            cents -= cents // 10
        return cents

"""The generated shop: its rows, and the SQLite file that holds them.

Each split has a shop of its own; no customer, city, product or order id of one is in another. All amounts are whole
dollars. What a piece cost in an order is not what the stock list says today, so that taking the wrong column gives a
wrong answer.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ..words import CITIES, NAMES, PRODUCTS, SURNAMES

STATUSES = ("open", "paid", "shipped", "returned")
REASONS = ("broken", "late", "unwanted", "wrong", "faulty")
_FIRST_ORDER = {"train": 1001, "dev": 2001, "gate": 3001, "test": 4001}
_CUSTOMERS = {"train": 60, "dev": 30, "gate": 40, "test": 44}
_ORDERS = {"train": 320, "dev": 150, "gate": 220, "test": 240}
_DAYS = 28
_SCHEMA = """
CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE orders(id INTEGER PRIMARY KEY, customer_id INTEGER, product TEXT, quantity INTEGER, price INTEGER,
                    day INTEGER, status TEXT);
CREATE TABLE stock(product TEXT PRIMARY KEY, quantity INTEGER, price INTEGER);
CREATE TABLE refunds(order_id INTEGER PRIMARY KEY, amount INTEGER, reason TEXT);
"""


@dataclass(frozen=True, slots=True)
class Customer:
    """A row of `customers`."""

    id: int
    name: str
    city: str


@dataclass(frozen=True, slots=True)
class Order:
    """A row of `orders`; `price` is what one piece cost then."""

    id: int
    customer_id: int
    product: str
    quantity: int
    price: int
    day: int
    status: str

    @property
    def total(self) -> int:
        """What the order cost, in dollars."""
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class Stock:
    """A row of `stock`."""

    product: str
    quantity: int
    price: int


@dataclass(frozen=True, slots=True)
class Refund:
    """A row of `refunds`."""

    order_id: int
    amount: int
    reason: str


@dataclass(frozen=True, slots=True)
class World:
    """All rows of one shop, and names and order ids that are not in it."""

    customers: tuple[Customer, ...]
    orders: tuple[Order, ...]
    stock: tuple[Stock, ...]
    refunds: tuple[Refund, ...]
    strangers: tuple[str, ...]
    missing_orders: tuple[int, ...]

    def customer(self, order: Order) -> Customer:
        """Return who placed `order`."""
        return self.customers[order.customer_id - 1]

    def orders_of(self, customer: Customer) -> list[Order]:
        """Return the orders of one customer."""
        return [order for order in self.orders if order.customer_id == customer.id]

    def order(self, order_id: int) -> Order:
        """Return the order with this id."""
        return next(order for order in self.orders if order.id == order_id)


def make_world(split: str, seed: int) -> World:
    """Return the shop of a split (`train`, `dev`, `gate`, `test`)."""
    rng = Random(f"shop world {split} {seed}")
    names = [f"{first} {last}" for first in NAMES[split] for last in SURNAMES]
    rng.shuffle(names)
    count = _CUSTOMERS[split]
    customers = tuple(Customer(number, names[number - 1], rng.choice(CITIES[split])) for number in range(1, count + 1))
    stock = tuple(Stock(product, rng.randint(11, 160), rng.randint(6, 95)) for product in PRODUCTS[split])
    ids = list(range(_FIRST_ORDER[split], _FIRST_ORDER[split] + _ORDERS[split] * 5 // 4))
    missing = set(rng.sample(ids, len(ids) - _ORDERS[split]))
    orders = tuple(_order(rng, number, count, stock) for number in ids if number not in missing)
    refunded = sorted(rng.sample(orders, len(orders) // 3), key=lambda order: order.id)
    refunds = tuple(Refund(order.id, rng.randint(2, order.total - 1), rng.choice(REASONS)) for order in refunded)
    return World(customers, orders, stock, refunds, tuple(names[count : 2 * count]), tuple(sorted(missing)))


def _order(rng: Random, number: int, customers: int, stock: tuple[Stock, ...]) -> Order:
    item = rng.choice(stock)
    price = item.price + rng.choice((-4, -3, -2, -1, 1, 2, 3, 4))
    day = rng.randint(1, _DAYS)
    return Order(number, rng.randint(1, customers), item.product, rng.randint(2, 12), price, day, rng.choice(STATUSES))


def write_world(world: World, path: Path) -> None:
    """Write the shop into a new SQLite file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    try:
        connection.executescript(_SCHEMA)
        _insert(connection, "customers", ((row.id, row.name, row.city) for row in world.customers))
        _insert(
            connection,
            "orders",
            ((o.id, o.customer_id, o.product, o.quantity, o.price, o.day, o.status) for o in world.orders),
        )
        _insert(connection, "stock", ((row.product, row.quantity, row.price) for row in world.stock))
        _insert(connection, "refunds", ((row.order_id, row.amount, row.reason) for row in world.refunds))
        connection.commit()
    finally:
        connection.close()


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[int | str, ...]]) -> None:
    listed = list(rows)
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(listed[0]))})", listed)

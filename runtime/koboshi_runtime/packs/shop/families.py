"""The families of questions: what is drawn from the shop, what is right, and which calls find it.

A question's answer is counted from the rows in Python, never from the calls that the solver makes: that both agree is
tested. Questions whose answer would be nothing or zero are drawn again, save those of the `no_...` families.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from .world import STATUSES, Customer, Order, World

_JOIN = "FROM orders JOIN customers ON customer_id=customers.id WHERE"


@dataclass(frozen=True, slots=True)
class SolvingCall:
    """One call that the solver makes, with the thought that leads to it; `argument` is a query or an expression."""

    thought: str
    tool: str
    argument: str


@dataclass(frozen=True, slots=True)
class Question:
    """Values for the wording's slots, the right answer (None: there is no such thing) and the calls that find it."""

    slots: Mapping[str, str | int]
    answer: str | int | None
    calls: tuple[SolvingCall, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of question. Level 1 is one lookup, 2 counts and totals, 3 joins, 4 joins with more, 5 unseen shapes."""

    name: str
    level: int
    draw: Callable[[World, Random], Question]


def _sql(thought: str, query: str) -> SolvingCall:
    return SolvingCall(thought, "sql", query)


def _calculator(thought: str, expression: str) -> SolvingCall:
    return SolvingCall(thought, "calculator", expression)


def _city_of(world: World, rng: Random) -> Question:
    row = rng.choice(world.customers)
    query = f"SELECT city FROM customers WHERE name='{row.name}'"
    return Question({"name": row.name}, row.city, (_sql("Look up the customer.", query),))


def _of_order(column: str) -> Callable[[World, Random], Question]:
    def draw(world: World, rng: Random) -> Question:
        row = rng.choice(world.orders)
        query = f"SELECT {column} FROM orders WHERE id={row.id}"
        return Question({"id": row.id}, getattr(row, column), (_sql("Look up the order.", query),))

    return draw


def _of_stock(column: str) -> Callable[[World, Random], Question]:
    def draw(world: World, rng: Random) -> Question:
        row = rng.choice(world.stock)
        query = f"SELECT {column} FROM stock WHERE product='{row.product}'"
        return Question({"product": row.product}, getattr(row, column), (_sql("Look up the stock.", query),))

    return draw


def _of_refund(column: str) -> Callable[[World, Random], Question]:
    def draw(world: World, rng: Random) -> Question:
        row = rng.choice(world.refunds)
        query = f"SELECT {column} FROM refunds WHERE order_id={row.order_id}"
        return Question({"id": row.order_id}, getattr(row, column), (_sql("Look up the refund.", query),))

    return draw


def _no_order(world: World, rng: Random) -> Question:
    missing = rng.choice(world.missing_orders)
    query = f"SELECT status FROM orders WHERE id={missing}"
    return Question({"id": missing}, None, (_sql("Look up the order.", query),))


def _no_customer(world: World, rng: Random) -> Question:
    name = rng.choice(world.strangers)
    query = f"SELECT city FROM customers WHERE name='{name}'"
    return Question({"name": name}, None, (_sql("Look up the customer.", query),))


def _order_total(world: World, rng: Random) -> Question:
    row = rng.choice(world.orders)
    calls = (_pieces(row), _calculator("Multiply quantity by price.", f"{row.quantity}*{row.price}"))
    return Question({"id": row.id}, row.total, calls)


def _pieces(order: Order) -> SolvingCall:
    return _sql(f"Look up order {order.id}.", f"SELECT quantity, price FROM orders WHERE id={order.id}")


def _stock_value(world: World, rng: Random) -> Question:
    row = rng.choice(world.stock)
    query = f"SELECT quantity, price FROM stock WHERE product='{row.product}'"
    calls = (
        _sql("Look up the stock.", query),
        _calculator("Multiply quantity by price.", f"{row.quantity}*{row.price}"),
    )
    return Question({"product": row.product}, row.quantity * row.price, calls)


def _ordered_count(world: World, rng: Random) -> Question:
    product = rng.choice(world.orders).product
    query = f"SELECT COUNT(*) FROM orders WHERE product='{product}'"
    count = sum(order.product == product for order in world.orders)
    return Question({"product": product}, count, (_sql("Count the orders.", query),))


def _ordered_sum(world: World, rng: Random) -> Question:
    product = rng.choice(world.orders).product
    query = f"SELECT SUM(quantity) FROM orders WHERE product='{product}'"
    pieces = sum(order.quantity for order in world.orders if order.product == product)
    return Question({"product": product}, pieces, (_sql("Add up the quantity.", query),))


def _customers_in(world: World, rng: Random) -> Question:
    city = rng.choice(world.customers).city
    query = f"SELECT COUNT(*) FROM customers WHERE city='{city}'"
    count = sum(customer.city == city for customer in world.customers)
    return Question({"city": city}, count, (_sql("Count the customers.", query),))


def _product_status(world: World, rng: Random) -> Question:
    drawn = rng.choice(world.orders)
    query = f"SELECT COUNT(*) FROM orders WHERE product='{drawn.product}' AND status='{drawn.status}'"
    count = sum((order.product, order.status) == (drawn.product, drawn.status) for order in world.orders)
    return Question({"product": drawn.product, "status": drawn.status}, count, (_sql("Count the orders.", query),))


def _buyer(world: World, rng: Random) -> tuple[Customer, list[Order]]:
    customer = world.customer(rng.choice(world.orders))
    return customer, world.orders_of(customer)


def _orders_by(world: World, rng: Random) -> Question:
    customer, orders = _buyer(world, rng)
    query = f"SELECT COUNT(*) {_JOIN} name='{customer.name}'"
    return Question({"name": customer.name}, len(orders), (_sql("Count the customer's orders.", query),))


def _units_by(world: World, rng: Random) -> Question:
    customer, orders = _buyer(world, rng)
    query = f"SELECT SUM(quantity) {_JOIN} name='{customer.name}'"
    pieces = sum(order.quantity for order in orders)
    return Question({"name": customer.name}, pieces, (_sql("Add up the customer's quantity.", query),))


def _spent_by(world: World, rng: Random) -> Question:
    customer, orders = _buyer(world, rng)
    query = f"SELECT SUM(quantity*price) {_JOIN} name='{customer.name}'"
    spent = sum(order.total for order in orders)
    return Question({"name": customer.name}, spent, (_sql("Add up quantity times price.", query),))


def _buyer_of_order(column: str) -> Callable[[World, Random], Question]:
    def draw(world: World, rng: Random) -> Question:
        order = rng.choice(world.orders)
        query = f"SELECT {column} {_JOIN} orders.id={order.id}"
        answer = getattr(world.customer(order), column)
        return Question({"id": order.id}, answer, (_sql("Look up the order's customer.", query),))

    return draw


def _after_refund(world: World, rng: Random) -> Question:
    refund = rng.choice(world.refunds)
    order = world.order(refund.order_id)
    calls = (
        _pieces(order),
        _sql("Look up the refund.", f"SELECT amount FROM refunds WHERE order_id={order.id}"),
        _calculator("Total minus refund.", f"{order.quantity}*{order.price}-{refund.amount}"),
    )
    return Question({"id": order.id}, order.total - refund.amount, calls)


def _two_orders(world: World, rng: Random) -> Question:
    one, two = rng.sample(world.orders, 2)
    expression = f"{one.quantity}*{one.price}+{two.quantity}*{two.price}"
    calls = (_pieces(one), _pieces(two), _calculator("Add both totals.", expression))
    return Question({"id": one.id, "id2": two.id}, one.total + two.total, calls)


def _city_orders(world: World, rng: Random) -> Question:
    city = world.customer(rng.choice(world.orders)).city
    query = f"SELECT COUNT(*) {_JOIN} city='{city}'"
    count = sum(world.customer(order).city == city for order in world.orders)
    return Question({"city": city}, count, (_sql("Count the city's orders.", query),))


def _city_spent(world: World, rng: Random) -> Question:
    city = world.customer(rng.choice(world.orders)).city
    query = f"SELECT SUM(quantity*price) {_JOIN} city='{city}'"
    spent = sum(order.total for order in world.orders if world.customer(order).city == city)
    return Question({"city": city}, spent, (_sql("Add up quantity times price.", query),))


def _status_by(world: World, rng: Random) -> Question:
    customer, orders = _buyer(world, rng)
    status = rng.choice(orders).status
    query = f"SELECT COUNT(*) {_JOIN} name='{customer.name}' AND status='{status}'"
    count = sum(order.status == status for order in orders)
    slots = {"name": customer.name, "status": status}
    return Question(slots, count, (_sql("Count the customer's orders.", query),))


def _product_by(world: World, rng: Random) -> Question:
    customer, orders = _buyer(world, rng)
    product = rng.choice(orders).product
    query = f"SELECT SUM(quantity) {_JOIN} name='{customer.name}' AND product='{product}'"
    pieces = sum(order.quantity for order in orders if order.product == product)
    slots = {"name": customer.name, "product": product}
    return Question(slots, pieces, (_sql("Add up the customer's quantity.", query),))


def _orders_over(world: World, rng: Random) -> Question:
    drawn = rng.choice([order for order in world.orders if order.quantity > 3])
    least = rng.randint(2, drawn.quantity - 1)
    query = f"SELECT COUNT(*) FROM orders WHERE product='{drawn.product}' AND quantity>{least}"
    count = sum(order.product == drawn.product and order.quantity > least for order in world.orders)
    return Question({"product": drawn.product, "least": least}, count, (_sql("Count the orders.", query),))


def _units_on_day(world: World, rng: Random) -> Question:
    day = rng.choice(world.orders).day
    query = f"SELECT SUM(quantity) FROM orders WHERE day={day}"
    pieces = sum(order.quantity for order in world.orders if order.day == day)
    return Question({"day": day}, pieces, (_sql("Add up the quantity.", query),))


def _price_gap(world: World, rng: Random) -> Question:
    low, high = sorted(rng.sample(world.stock, 2), key=lambda row: row.price)
    if low.price == high.price:
        return _price_gap(world, rng)
    lookups = [
        _sql(f"Look up the {row.product}.", f"SELECT price FROM stock WHERE product='{row.product}'")
        for row in (high, low)
    ]
    calls = (*lookups, _calculator("Subtract the prices.", f"{high.price}-{low.price}"))
    return Question({"product": high.product, "product2": low.product}, high.price - low.price, calls)


def _highest(world: World, rng: Random) -> Question:
    product = rng.choice(world.orders).product
    query = f"SELECT MAX(price) FROM orders WHERE product='{product}'"
    most = max(order.price for order in world.orders if order.product == product)
    return Question({"product": product}, most, (_sql("Look up the highest price.", query),))


def _city_status(world: World, rng: Random) -> Question:
    drawn = rng.choice(world.orders)
    city, status = world.customer(drawn).city, rng.choice((drawn.status, *STATUSES))
    count = sum(order.status == status and world.customer(order).city == city for order in world.orders)
    query = f"SELECT COUNT(*) {_JOIN} city='{city}' AND status='{status}'"
    question = Question({"city": city, "status": status}, count, (_sql("Count the city's orders.", query),))
    return question if count else _city_status(world, rng)


def _stock_after(world: World, rng: Random) -> Question:
    drawn = rng.choice(world.stock)
    taken = rng.randint(3, drawn.quantity - 2)
    query = f"SELECT quantity FROM stock WHERE product='{drawn.product}'"
    calls = (_sql("Look up the stock.", query), _calculator("Subtract.", f"{drawn.quantity}-{taken}"))
    return Question({"product": drawn.product, "taken": taken}, drawn.quantity - taken, calls)


FAMILIES: tuple[Family, ...] = (
    Family("city_of", 1, _city_of),
    Family("status_of", 1, _of_order("status")),
    Family("product_of", 1, _of_order("product")),
    Family("price_of", 1, _of_stock("price")),
    Family("in_stock", 1, _of_stock("quantity")),
    Family("refund_of", 1, _of_refund("amount")),
    Family("no_order", 1, _no_order),
    Family("no_customer", 1, _no_customer),
    Family("order_total", 2, _order_total),
    Family("stock_value", 2, _stock_value),
    Family("ordered_count", 2, _ordered_count),
    Family("ordered_sum", 2, _ordered_sum),
    Family("customers_in", 2, _customers_in),
    Family("product_status", 2, _product_status),
    Family("orders_by", 3, _orders_by),
    Family("spent_by", 3, _spent_by),
    Family("city_of_order", 3, _buyer_of_order("city")),
    Family("name_of_order", 3, _buyer_of_order("name")),
    Family("after_refund", 3, _after_refund),
    Family("units_by", 4, _units_by),
    Family("status_by", 4, _status_by),
    Family("city_orders", 4, _city_orders),
    Family("city_spent", 4, _city_spent),
    Family("two_orders", 4, _two_orders),
)

SHAPES: tuple[Family, ...] = (
    Family("orders_over", 5, _orders_over),
    Family("units_on_day", 5, _units_on_day),
    Family("price_gap", 5, _price_gap),
    Family("highest", 5, _highest),
    Family("reason_of", 5, _of_refund("reason")),
    Family("city_status", 5, _city_status),
    Family("product_by", 5, _product_by),
    Family("stock_after", 5, _stock_after),
)

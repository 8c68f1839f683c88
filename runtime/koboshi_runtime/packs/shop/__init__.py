"""Questions on a generated database of customers, orders, stock and refunds."""

"""Two functions that `llm --functions` takes."""


def get_price(item: str) -> float:
    """Look up the price of an item in the shop."""
    return {"lamp": 12.5}[item]


def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    return a * b

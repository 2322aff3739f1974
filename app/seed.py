"""What a first start finds: the checks of a mid-sized company, the same ones every time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from app.models import CheckKind, Environment

# Name, task, and the port of the TCP check.
SERVICES = (
    ("accounts", "Sign-up, profiles and preferences", 8443),
    ("audit-log", "Append-only record of administrative actions", 9440),
    ("auth", "Sign-in, sessions and tokens", 8443),
    ("billing", "Invoices, dunning and credit notes", 8443),
    ("cart", "Shopping baskets, kept for thirty days", 8080),
    ("catalog", "Products, prices and availability", 8080),
    ("checkout", "Orders from basket to confirmation", 8443),
    ("coupons", "Vouchers and campaigns", 8080),
    ("events", "Message broker between the services", 9092),
    ("exports", "Nightly files for the accountants", 8080),
    ("feature-flags", "What is switched on for whom", 8080),
    ("fraud", "Risk scores for payments", 8443),
    ("gateway", "Entry point of all public interfaces", 443),
    ("geocoding", "Addresses to coordinates and back", 8080),
    ("images", "Product pictures in all sizes", 8080),
    ("inventory", "Stock levels of the warehouses", 8080),
    ("ledger", "Double-entry bookkeeping of all payments", 5432),
    ("loyalty", "Points and tiers of regular customers", 8080),
    ("mail", "Outgoing mail and its bounces", 587),
    ("media-store", "Object storage of uploads", 9000),
    ("metrics", "Time series of all machines", 9090),
    ("notifications", "Push and text messages", 8080),
    ("orders", "Order history and returns", 8443),
    ("orders-db", "Primary database of the orders", 5432),
    ("partners", "Interfaces for resellers", 8443),
    ("payments", "Cards, direct debit and refunds", 8443),
    ("pricing", "Price rules by country and customer group", 8080),
    ("recommendations", "What other customers bought", 8080),
    ("reports", "Dashboards of the management", 8080),
    ("reviews", "Ratings and comments on products", 8080),
    ("scheduler", "Jobs that run at fixed times", 8080),
    ("search", "Full-text search of the catalogue", 9200),
    ("sessions-cache", "Shared cache of the sessions", 6379),
    ("shipping", "Labels, carriers and tracking", 8443),
    ("support", "Tickets and the knowledge base", 8080),
    ("taxes", "Rates by country and product class", 8080),
    ("translations", "Texts of the shop in eleven languages", 8080),
    ("warehouse", "Picking and packing stations", 8080),
    ("webhooks", "Calls to the systems of partners", 8443),
    ("website", "The public shop", 443),
)
DOMAINS = {
    Environment.PRODUCTION: "monitorpy.example",
    Environment.STAGING: "staging.monitorpy.example",
    Environment.DEVELOPMENT: "dev.monitorpy.example",
}
FIRST = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def seed_items() -> list[dict[str, Any]]:
    """Return the rows of the first start, ready to insert."""
    numbers = count()
    return [
        row | {"created_at": made, "updated_at": made}
        for environment in DOMAINS
        for service in SERVICES
        for row in checks(*service, environment)
        for made in (FIRST + timedelta(minutes=7 * next(numbers)),)
    ]


def checks(name: str, task: str, port: int, environment: Environment) -> Iterator[dict[str, Any]]:
    """Yield the checks of one service; production is watched more closely than the rest."""
    host = f"{name}.{DOMAINS[environment]}"
    production = environment is Environment.PRODUCTION
    shared: dict[str, Any] = {
        "environment": environment,
        # These must not wake the engineer on duty.
        "enabled": environment is not Environment.DEVELOPMENT or port == 443,
    }
    yield shared | {
        "name": f"{name} answers",
        "description": f"{task}. The health page answers 200.",
        "kind": CheckKind.HTTP,
        "target": f"https://{host}/health",
        "interval_seconds": 30 if production else 300,
        "timeout_seconds": 5 if production else 10,
    }
    yield shared | {
        "name": f"{name} accepts connections",
        "description": f"{task}. Port {port} can be connected to.",
        "kind": CheckKind.TCP,
        "target": f"{host}:{port}",
        "interval_seconds": 60 if production else 600,
        "timeout_seconds": 3,
    }
    if production:
        yield shared | {
            "name": f"{name} resolves",
            "description": f"{task}. The name has an address in the public DNS.",
            "kind": CheckKind.DNS,
            "target": host,
            "interval_seconds": 300,
            "timeout_seconds": 2,
        }
        yield shared | {
            "name": f"{name} is near",
            "description": f"{task}. A ping comes back within 50 milliseconds.",
            "kind": CheckKind.PING,
            "target": host,
            "interval_seconds": 120,
            "timeout_seconds": 1,
        }

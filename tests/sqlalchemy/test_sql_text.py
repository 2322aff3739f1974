"""What SQL text does: a write is never taken for a read."""

import pytest

from maxage.sqlalchemy.sql_text import Effect, effect_of_text

READS = Effect.READS
WRITES = Effect.READS | Effect.WRITES
ANYTHING = WRITES | Effect.COMMITS


@pytest.mark.parametrize(
    ("sql", "effect"),
    [
        ("SELECT id FROM orders", READS),
        ("  (select 1 from a) union (select 2 from b)", READS),
        ("-- by the app\nSELECT id FROM orders", READS),
        ("/* by the app */ SELECT id FROM orders", READS),
        ("WITH x AS (SELECT 1) SELECT * FROM x", READS),
        ("VALUES (1)", READS),
        ("TABLE orders", READS),
        ("EXPLAIN SELECT * FROM orders", READS),
        ("PRAGMA table_info(orders)", READS),
        ("SELECT * FROM orders WHERE state = 'delete'", READS),
        ("SELECT updated_at, replace(name, 'a', 'b') FROM orders", READS),
        ("SELECT * FROM orders FOR UPDATE", READS),
        ("SELECT * FROM orders FOR NO KEY UPDATE", READS),
        ("SELECT 1", Effect.NOTHING),
        ("", Effect.NOTHING),
        (";", Effect.NOTHING),
        ("SET search_path TO a", Effect.NOTHING),
        ("SAVEPOINT a", Effect.NOTHING),
        ("ROLLBACK", Effect.NOTHING),
        ("ROLLBACK TO SAVEPOINT a", Effect.NOTHING),
        ("PREPARE TRANSACTION 'x'", Effect.NOTHING),
        ("COMMIT", Effect.COMMITS),
        ("commit prepared 'x'", ANYTHING),
        ("XA COMMIT 'x'", ANYTHING),
        ("XA PREPARE 'x'", Effect.NOTHING),
        ("SET NOCOUNT ON UPDATE orders SET state = 'x'", ANYTHING),
        ("SET NOCOUNT ON EXEC close_orders", ANYTHING),
        ("END", Effect.COMMITS),
        ("BEGIN IMMEDIATE", Effect.COMMITS),
        ("INSERT INTO orders VALUES (1)", WRITES),
        ("update orders set a = 1", WRITES),
        ("DELETE FROM orders", WRITES),
        ("REPLACE INTO orders VALUES (1)", WRITES),
        ("WITH x AS (DELETE FROM a RETURNING 1) SELECT * FROM x", WRITES),
        ("SELECT 1 INTO other", WRITES),
        ("EXPLAIN ANALYZE DELETE FROM orders", WRITES),
        ("SELECT 1; DELETE FROM orders", WRITES),
        ("SELECT ';'; UPDATE orders SET a = ''", WRITES),
        ("SELECT '\\\\'; DELETE FROM orders; --'", WRITES),
        ("SELECT '\\''; DELETE FROM orders WHERE a = 'x'", WRITES),
        ("-- don't wait\nUPDATE orders SET state = 'x'", WRITES),
        ("/* don't wait */ UPDATE orders SET state = 'x'", WRITES),
        ("SELECT 1; -- it's\nDELETE FROM orders WHERE a = 'x'", WRITES),
        ("WITH x AS (-- it's\nDELETE FROM a WHERE b = 'x' RETURNING 1) SELECT 1", WRITES),
        ("SELECT \"it's\" FROM a; DELETE FROM orders WHERE a = 'x'", WRITES),
        ("SELECT `it's` FROM a; DELETE FROM orders WHERE a = 'x'", WRITES),
        ("SELECT $$it's$$; DELETE FROM orders WHERE a = 'x'", WRITES),
        ("SELECT 1 # it's\n; DELETE FROM orders WHERE a = 'x'", WRITES),
        ("SELECT '--' FROM a; DELETE FROM orders", WRITES),
        ("SELECT '/*' FROM a; DELETE FROM orders; -- */", WRITES),
        ("SELECT 5--3; DELETE FROM orders", WRITES),
        ("SELECT 1 /* /* */ it's */; DELETE FROM orders WHERE a = 'x'", WRITES),
        ("SELECT id FROM orders -- don't delete", READS),
        ("SELECT id FROM orders WHERE state = 'delete' AND id = $1", READS),
        ("SELECT 1; COMMIT", Effect.COMMITS),
        ("TRUNCATE orders", ANYTHING),
        ("CALL work()", ANYTHING),
        ("DO $$ BEGIN END $$", ANYTHING),
        ("/*! DELETE FROM orders */", ANYTHING),
        ("SET autocommit = 1", ANYTHING),
        ("LOAD DATA INFILE 'x' INTO TABLE orders", ANYTHING),
        ("COPY orders FROM STDIN", ANYTHING),
        ("ALTER TABLE orders ADD a INT", ANYTHING),
    ],
)
def test_the_effect_of_a_text(sql: str, effect: Effect) -> None:
    """The first word of each statement decides, and words of writes in a read."""
    assert effect_of_text(sql) == effect


def test_a_long_text_has_the_effect_of_a_short_one() -> None:
    """Only short ones are remembered."""
    assert effect_of_text("DELETE FROM orders WHERE id IN (" + "1, " * 5000 + "1)") == WRITES

-- Step 5 of the schema: receipts are looked for in a lineage. It is never edited once released, only followed by another.
--
-- A receipt is found within all that happened to an instance or, where that is a session, to its subject; so nothing is
-- gained by an index over all receipts, whose every entry is on another page. The lineage of an instance is the number
-- of the first session of its subject, or its own. What came about one after the other is in one place of the index.
-- A creation looks among all creations: their lineage is 0.

-- Null where it is the row's own number. Beside it stands its complement, bit by bit: damaged, it would let a repeat pass.
ALTER TABLE instances ADD COLUMN lineage INTEGER;
ALTER TABLE instances ADD COLUMN lineage_check INTEGER;

UPDATE instances SET lineage = of.first, lineage_check = ~of.first
FROM (
    SELECT row AS session, first_value(row) OVER (PARTITION BY tenant, machine, subject ORDER BY ordinal) AS first
    FROM instances
    WHERE ordinal > 0 AND subject IS NOT NULL
) AS of
WHERE instances.row = of.session AND instances.row <> of.first;

-- Under the checksum: the program seals each line anew that was whole, and finds those of creations.
ALTER TABLE log ADD COLUMN lineage INTEGER NOT NULL DEFAULT 0;

DROP INDEX log_by_receipt;

UPDATE log SET lineage = coalesce((SELECT coalesce(i.lineage, i.row) FROM instances AS i WHERE i.row = log.owner), log.owner);

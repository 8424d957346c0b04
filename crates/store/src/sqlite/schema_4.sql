-- Step 4 of the schema: how far an effect has come is under a checksum of its own, beside that of what never changes, and
-- a claim on an instance is written twice. It is never edited once released, only followed by another.
--
-- Under it are status, attempts, parts_done, due_at, error, provider_id, stage, settled_at and lane. What is left is
-- `claimable_at`, which follows from them.

ALTER TABLE outbox ADD COLUMN progress INTEGER NOT NULL DEFAULT 0;

-- The complement of `claimed_until`, bit by bit. A claim that it does not fit is none: damaged, it might never end.
ALTER TABLE instances ADD COLUMN claim_check INTEGER;

UPDATE instances SET claim_check = ~claimed_until WHERE claimed_until IS NOT NULL;

-- Step 2 of the schema of a PostgreSQL database. It runs as step 1 does.
--
-- Those who began to talk at one time have their rows in one page, and go on at one time. A second version of each has to
-- fit beside the first, or every index of the table gets another entry.

ALTER TABLE statewright.instances SET (fillfactor = 45);
